// SPDX-License-Identifier: Apache-2.0
/*
 * Bodies of requests: each is bounded, and all that are held at a time are, whoever sends how
 * slowly. Compressed ones are inflated within the same bounds. No I/O; bodies of one budget may be
 * used by several threads, each body by one.
 */
#ifndef EBBTIDE_BODY_H
#define EBBTIDE_BODY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Of one body, as sent and inflated. */
#define BODY_BYTES_MAX (16U << 20)

struct body_budget {
	size_t most; /* bytes of all bodies */
	atomic_size_t used;
};

/* Zero-initialise but for the budget. */
struct body {
	struct body_budget *budget;
	uint8_t *bytes;
	size_t size;
	size_t allocated; /* what the budget was charged */
};

/* 0; -EMSGSIZE: over BODY_BYTES_MAX; -ENOBUFS: the budget is used up; -ENOMEM. */
int body_add(struct body *body, const void *data, size_t size);
/*
 * Replace a zlib or gzip stream by what it says. 0; -EINVAL: not one, damaged, cut short, or with
 * something behind its end; otherwise as body_add(). On an error the body is empty.
 */
int body_inflate(struct body *body);
void body_free(struct body *body);

#endif
