// SPDX-License-Identifier: Apache-2.0
/* A point in time as a person types it. */
#ifndef EBBTIDE_CTL_MOMENT_H
#define EBBTIDE_CTL_MOMENT_H

#include <stddef.h>
#include <stdint.h>

#define MOMENT_FORMS "2026-11-29T14:03:21Z, 14:03:21 or -30s (ms, s, m, h, d)"

/*
 * RFC 3339 (its zone may be left out: local time), HH:MM[:SS] of the last 24 hours, both with a
 * fraction of a second if need be, or a time before @now_us. Unix microseconds; -EINVAL: none of
 * these, or before 1970.
 */
int moment_parse(const char *text, uint64_t now_us, uint64_t *time_us);
/* "2026-11-29 14:03:21.120", local time. */
void moment_format(uint64_t time_us, char *out, size_t size);

#endif
