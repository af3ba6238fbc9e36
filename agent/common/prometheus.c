// SPDX-License-Identifier: Apache-2.0
#include "common/prometheus.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 2, 3))) static void append(
	struct prometheus *out, const char *format, ...)
{
	va_list args;
	int length;

	for (;;) {
		char *grown;

		va_start(args, format);
		length = vsnprintf(out->text ? out->text + out->used : NULL, out->size - out->used,
			format, args);
		va_end(args);
		if (length < 0)
			return;
		if (out->used + (size_t)length < out->size)
			break;
		grown = realloc(out->text, 2 * out->size + (size_t)length + 1024);
		/* Out of memory: a shorter page is better than none. */
		if (!grown)
			return;
		out->text = grown;
		out->size = 2 * out->size + (size_t)length + 1024;
	}
	out->used += (size_t)length;
}

void prometheus_declare(
	struct prometheus *out, const char *name, const char *type, const char *help)
{
	append(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void prometheus_sample(struct prometheus *out, const char *name, const char *labels, double value)
{
	append(out, "%s%s%s%s ", name, labels ? "{" : "", labels ? labels : "", labels ? "}" : "");
	if (isfinite(value))
		append(out, "%.17g\n", value);
	else
		append(out, "%s\n", isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
}

void prometheus_escape(char *out, size_t size, const char *text)
{
	size_t used = 0;

	for (; *text && used + 3 < size; text++) {
		if (*text == '\\' || *text == '"' || *text == '\n')
			out[used++] = '\\';
		out[used++] = *text == '\n' ? 'n' : *text;
	}
	if (size)
		out[used] = '\0';
}
