// SPDX-License-Identifier: Apache-2.0
#include "driver.h"

#include "common/quantity.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[64], shown[64];
	double millicores;
	uint64_t bytes;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (quantity_parse_millicores(text, &millicores) == 0) {
		if (!isfinite(millicores) || millicores < 0)
			abort();
		quantity_format_millicores(shown, sizeof(shown), millicores);
	}
	if (quantity_parse_bytes(text, &bytes) == 0)
		quantity_format_bytes(shown, sizeof(shown), bytes);
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const seeds[] = {
		"400m", "1.5", "64Mi", "1e3", "128974848", "2E", "1E3", "500u", "7Ei", "0.1k"};

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index], strlen(seeds[index]));
	return strlen(seeds[index]);
}
