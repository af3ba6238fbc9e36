// SPDX-License-Identifier: Apache-2.0
/* The body of an answer, as curl hands it over piece by piece. */
#ifndef EBBTIDE_RECEIVED_H
#define EBBTIDE_RECEIVED_H

#include <stddef.h>
#include <stdint.h>

/* Set @most, the rest zero; its owner frees @bytes. For the next answer @size 0 is enough. */
struct received {
	uint8_t *bytes; /* ended by a 0 that does not count; NULL: nothing came yet */
	size_t size;
	size_t room; /* of @bytes, kept from one answer to the next */
	size_t most; /* what is longer ends the transfer with CURLE_WRITE_ERROR */
};

/* CURLOPT_WRITEFUNCTION; CURLOPT_WRITEDATA is the struct. */
size_t received_take(char *data, size_t one, size_t count, void *received);
/* Never NULL: "" for nothing. */
const char *received_text(const struct received *received);

#endif
