// SPDX-License-Identifier: Apache-2.0
/* The bytes of a request as they stood on the wire. */
#include "driver.h"

#include "node/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char method[16], path[REQUEST_HEAD_BYTES + 1];

	trace_parse_head(data, size, method, sizeof(method), path, sizeof(path));
	for (const char *c = path; *c; c++)
		if (*c == '"' || *c == '\\' || *c == ' ' || (unsigned char)*c < 32)
			abort();
	if (strlen(method) >= sizeof(method))
		abort();
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const seeds[] = {"GET /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /reserve HTTP/1.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"*3\r\n$3\r\nSET\r\n", "OPTIONS * HTTP/1.1\r\n"};

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index], strlen(seeds[index]));
	return strlen(seeds[index]);
}
