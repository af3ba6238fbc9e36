// SPDX-License-Identifier: Apache-2.0
#include "common/received.h"

#include <stdlib.h>
#include <string.h>

size_t received_take(char *data, size_t one, size_t count, void *context)
{
	struct received *received = context;
	size_t more = one * count;
	uint8_t *grown;

	if (more > received->most || received->size > received->most - more)
		return 0;
	if (received->size + more >= received->room) {
		size_t room = 2 * (received->size + more) + 1;

		grown = realloc(received->bytes, room);
		if (!grown)
			return 0;
		received->bytes = grown;
		received->room = room;
	}
	memcpy(received->bytes + received->size, data, more);
	received->size += more;
	received->bytes[received->size] = 0;
	return more;
}

const char *received_text(const struct received *received)
{
	return received->size ? (const char *)received->bytes : "";
}
