// SPDX-License-Identifier: Apache-2.0
/* The bytes of a request as they stood on the wire: HTTP/1, and a header block of HTTP/2. */
#include "driver.h"

#include "node/trace/request_head.h"

static void check(const struct request_head *head)
{
	for (const char *c = head->path; *c; c++)
		if (*c == '"' || *c == '\\' || *c == ' ' || (unsigned char)*c < 32 ||
			(unsigned char)*c > 126)
			abort();
	for (const char *c = head->method; *c; c++)
		if (*c < 'A' || *c > 'Z')
			abort();
	if (strlen(head->method) >= sizeof(head->method) ||
		strlen(head->path) >= sizeof(head->path))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request_head head, shorter;

	request_head_http1(data, size, &head);
	check(&head);
	request_head_http2(data, size, &head);
	check(&head);
	/* What a shorter look saw whole, a longer one does not see otherwise. */
	request_head_http2(data, size / 2, &shorter);
	check(&shorter);
	if (shorter.method[0] && strcmp(shorter.method, head.method) != 0)
		abort();
	if (shorter.path[0] && strcmp(shorter.path, head.path) != 0)
		abort();
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
#define SEED(text)                                                                                 \
	{                                                                                          \
		(const uint8_t *)(text), sizeof(text) - 1                                          \
	}
	static const struct {
		const uint8_t *bytes;
		size_t size;
	} seeds[] = {
		SEED("GET /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n"),
		SEED("POST /reserve HTTP/1.0\r\n"),
		SEED("GET http://me:word@host/a HTTP/1.1\r\n"),
		SEED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		SEED("*3\r\n$3\r\nSET\r\n"),
		SEED("OPTIONS * HTTP/1.1\r\n"),
		/* RFC 7541, C.3 and C.4 */
		SEED("\x82\x86\x84\x41\x0fwww.example.com"),
		SEED("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
		SEED("\x82\x86\x84\xbe\x58\x08no-cache"),
		SEED("\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b"
		     "\xb8\xe8\xb4\xbf"),
		/* a table's size, literals of each kind, names by entries of the block's own */
		SEED("\x3f\xe1\x1f\x83\x86\x44\x02/a\x7e\x02/b\xbe\x10\x05:path\x02/c"),
		SEED("\x83\xc1\x04\x8b\x62\x72\xd1\x41\xfc\x1e\xca\x24\x5f\x15\x85\x5f\x8b\x1d\x75\xd0"
		     "\x62\x0d\x26\x3d\x4c\x4d\x65\x64"),
	};
#undef SEED

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index].bytes, seeds[index].size);
	return seeds[index].size;
}
