// SPDX-License-Identifier: Apache-2.0
/*
 * Short texts put together without printf: a decision's reason is written for every unit of every
 * tick, and printf's floating point would take more of that than the network does.
 *
 * A text that does not fit ends where its room does.
 */
#ifndef EBBTIDE_TEXT_H
#define EBBTIDE_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text {
	char *at;  /* where the terminating zero is */
	char *end; /* the last place for it */
};

/* @size at least 1. */
void text_begin(struct text *text, char *out, size_t size);
void text_add(struct text *text, const char *string);
/* @decimals 0 to 6 of them, rounded; from 1e9 on, and what is no number, as printf's %g. */
void text_add_fixed(struct text *text, double value, unsigned int decimals);
void text_add_count(struct text *text, uint64_t value);
/* In quotes, as JSON wants a string. */
void text_add_quoted(struct text *text, const char *string);
/* As many of three decimals as are not zero at the end: 99, 99.9. */
void text_add_short(struct text *text, double value);

#endif
