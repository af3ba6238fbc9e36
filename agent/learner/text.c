// SPDX-License-Identifier: Apache-2.0
#include "learner/text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 32
/* Scaled by a million it is still an integer that a double has exactly. */
#define VALUE_MAX 1e9

void text_begin(struct text *text, char *out, size_t size)
{
	text->at = out;
	text->end = out + size - 1;
	*out = '\0';
}

static void add_bytes(struct text *text, const char *bytes, size_t size)
{
	size_t room = (size_t)(text->end - text->at);

	if (size > room)
		size = room;
	memcpy(text->at, bytes, size);
	text->at += size;
	*text->at = '\0';
}

void text_add(struct text *text, const char *string)
{
	add_bytes(text, string, strlen(string));
}

/* The digits of a value that is neither too large nor negative, up to @at; their start. */
static char *format(char *at, double value, unsigned int decimals)
{
	static const double scales[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
	uint64_t scaled = (uint64_t)nearbyint(value * scales[decimals]);

	for (unsigned int i = 0; i < decimals; i++, scaled /= 10)
		*--at = (char)('0' + scaled % 10);
	if (decimals)
		*--at = '.';
	do {
		*--at = (char)('0' + scaled % 10);
		scaled /= 10;
	} while (scaled);
	return at;
}

void text_add_fixed(struct text *text, double value, unsigned int decimals)
{
	char digits[DIGITS_MAX], *at;

	if (!(fabs(value) < VALUE_MAX)) {
		snprintf(digits, sizeof(digits), "%g", value);
		text_add(text, digits);
		return;
	}
	at = format(digits + DIGITS_MAX, fabs(value), decimals);
	if (signbit(value))
		*--at = '-';
	add_bytes(text, at, (size_t)(digits + DIGITS_MAX - at));
}

void text_add_count(struct text *text, uint64_t value)
{
	char digits[DIGITS_MAX], *at = digits + DIGITS_MAX;

	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	add_bytes(text, at, (size_t)(digits + DIGITS_MAX - at));
}

void text_add_quoted(struct text *text, const char *string)
{
	add_bytes(text, "\"", 1);
	while (*string) {
		size_t plain = 0;
		char escaped[8];

		while ((unsigned char)string[plain] >= ' ' && string[plain] != '"' &&
			string[plain] != '\\')
			plain++;
		add_bytes(text, string, plain);
		string += plain;
		if (!*string)
			break;
		snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned char)*string++);
		text_add(text, escaped);
	}
	add_bytes(text, "\"", 1);
}

void text_add_short(struct text *text, double value)
{
	char *start = text->at, *dot;

	text_add_fixed(text, value, 3);
	dot = memchr(start, '.', (size_t)(text->at - start));
	if (!dot || text->at - dot != 4)
		return;
	while (text->at[-1] == '0')
		text->at--;
	if (text->at[-1] == '.')
		text->at--;
	*text->at = '\0';
}
