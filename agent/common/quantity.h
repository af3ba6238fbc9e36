// SPDX-License-Identifier: Apache-2.0
/* Kubernetes quantities: "400m", "1.5", "64Mi", "1e3", "128974848". */
#ifndef EBBTIDE_QUANTITY_H
#define EBBTIDE_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

/* Parse to thousandths of a core; 0 or -EINVAL (not a quantity), -ERANGE (negative or too large). */
int quantity_parse_millicores(const char *text, double *millicores);
/* Parse to bytes; same errors. */
int quantity_parse_bytes(const char *text, uint64_t *bytes);
/* Shortest canonical form: "400m", "2", "62500u" (finer than a millicore); "64Mi", "1000". */
void quantity_format_millicores(char *out, size_t size, double millicores);
void quantity_format_bytes(char *out, size_t size, uint64_t bytes);

#endif
