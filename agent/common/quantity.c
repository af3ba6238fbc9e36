// SPDX-License-Identifier: Apache-2.0
#include "common/quantity.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/*
 * More digits than the largest value (19) need; with the largest binary suffix (2^60) the product
 * still fits in 128 bits, so nothing below can overflow.
 */
#define SIGNIFICANT_DIGITS 20
/* Past any value in range; bounds the work for "1e999999999". */
#define EXPONENT_LIMIT	   1000

#define NANO_DIGITS	   9
#define NANO_PER_MILLICORE 1e6
#define NANO_PER_CORE	   1000000000ull
#define LARGEST_AS_IN_GO   INT64_MAX

struct suffix {
	const char *text;
	int power10;
	unsigned int power2;
};

static const struct suffix suffixes[] = {
	{"", 0, 0},
	{"n", -9, 0},
	{"u", -6, 0},
	{"m", -3, 0},
	{"k", 3, 0},
	{"M", 6, 0},
	{"G", 9, 0},
	{"T", 12, 0},
	{"P", 15, 0},
	{"E", 18, 0},
	{"Ki", 0, 10},
	{"Mi", 0, 20},
	{"Gi", 0, 30},
	{"Ti", 0, 40},
	{"Pi", 0, 50},
	{"Ei", 0, 60},
};

/* digits x 10^power10, plus something smaller than the last digit when @inexact. */
struct decimal {
	unsigned __int128 digits;
	int power10;
	bool inexact;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void decimal_add_digit(struct decimal *decimal, int *significant, char c, bool fraction)
{
	if (*significant == SIGNIFICANT_DIGITS) {
		decimal->inexact |= c != '0';
		if (!fraction && decimal->power10 < EXPONENT_LIMIT)
			decimal->power10++;
		return;
	}
	decimal->digits = decimal->digits * 10 + (unsigned int)(c - '0');
	if (decimal->digits)
		(*significant)++;
	if (fraction && decimal->power10 > -EXPONENT_LIMIT)
		decimal->power10--;
}

/* The number before the suffix; NULL when there is none, else where the suffix begins. */
static const char *parse_number(const char *text, struct decimal *decimal)
{
	int significant = 0;
	bool any = false;

	for (; is_digit(*text); text++, any = true)
		decimal_add_digit(decimal, &significant, *text, false);
	if (*text == '.')
		for (text++; is_digit(*text); text++, any = true)
			decimal_add_digit(decimal, &significant, *text, true);
	return any ? text : NULL;
}

/* "e3", "E-2"; a lone "E" is exa and not for this function. */
static int parse_exponent(const char *text, int *power10)
{
	int sign = 1, value = 0;

	text++;
	if (*text == '+' || *text == '-')
		sign = *text++ == '-' ? -1 : 1;
	if (!is_digit(*text))
		return -EINVAL;
	for (; is_digit(*text); text++)
		if (value < EXPONENT_LIMIT)
			value = value * 10 + (*text - '0');
	if (*text)
		return -EINVAL;
	*power10 = sign * value;
	return 0;
}

static int parse_suffix(const char *text, int *power10, unsigned int *power2)
{
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (strcmp(text, suffixes[i].text) == 0) {
			*power10 = suffixes[i].power10;
			*power2 = suffixes[i].power2;
			return 0;
		}
	}
	*power2 = 0;
	if (*text == 'e' || *text == 'E')
		return parse_exponent(text, power10);
	return -EINVAL;
}

/* The value in units of 10^-@scale, rounded up as Kubernetes rounds. */
static int parse_scaled(const char *text, int scale, uint64_t *out)
{
	struct decimal decimal = {0};
	unsigned int power2 = 0;
	int power10 = 0;
	bool negative = *text == '-';

	if (*text == '-' || *text == '+')
		text++;
	text = parse_number(text, &decimal);
	if (!text || parse_suffix(text, &power10, &power2))
		return -EINVAL;
	unsigned __int128 value = decimal.digits << power2;
	if (value && negative)
		return -ERANGE;
	power10 += decimal.power10 + scale;
	for (; value && power10 > 0; power10--) {
		if (value > LARGEST_AS_IN_GO)
			return -ERANGE;
		value *= 10;
	}
	for (; value && power10 < 0; power10++) {
		decimal.inexact |= value % 10 != 0;
		value /= 10;
	}
	if (decimal.inexact)
		value++;
	if (value > LARGEST_AS_IN_GO)
		return -ERANGE;
	*out = (uint64_t)value;
	return 0;
}

int quantity_parse_millicores(const char *text, double *millicores)
{
	uint64_t nano;
	int err = parse_scaled(text, NANO_DIGITS, &nano);

	if (!err)
		*millicores = (double)nano / NANO_PER_MILLICORE;
	return err;
}

int quantity_parse_bytes(const char *text, uint64_t *bytes)
{
	return parse_scaled(text, 0, bytes);
}

void quantity_format_millicores(char *out, size_t size, double millicores)
{
	static const char below[] = {'n', 'u', 'm'};
	static const char *const above[] = {"", "k", "M", "G"};
	uint64_t value;
	size_t unit = 0;

	if (!(millicores > 0)) {
		snprintf(out, size, "0");
		return;
	}
	if (millicores >= (double)LARGEST_AS_IN_GO / NANO_PER_MILLICORE)
		value = LARGEST_AS_IN_GO;
	else
		value = (uint64_t)llround(millicores * NANO_PER_MILLICORE);
	if (value % NANO_PER_CORE == 0) {
		value /= NANO_PER_CORE;
		for (; value && value % 1000 == 0 && unit + 1 < sizeof(above) / sizeof(above[0]);
			unit++)
			value /= 1000;
		snprintf(out, size, "%llu%s", (unsigned long long)value, above[unit]);
		return;
	}
	for (; value % 1000 == 0 && unit + 1 < sizeof(below); unit++)
		value /= 1000;
	snprintf(out, size, "%llu%c", (unsigned long long)value, below[unit]);
}

void quantity_format_bytes(char *out, size_t size, uint64_t bytes)
{
	static const char *const binary[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
	size_t unit = 0;

	for (; bytes && bytes % 1024 == 0; unit++)
		bytes /= 1024;
	snprintf(out, size, "%llu%s", (unsigned long long)bytes, binary[unit]);
}
