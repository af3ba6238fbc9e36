// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/durations.h"

#include <stdio.h>

static const double bounds_s[] = {
#define X(bound) bound,
	DURATIONS_BOUNDS(X)
#undef X
};
#define BOUNDS (sizeof(bounds_s) / sizeof(bounds_s[0]))

void durations_note(struct durations *durations, double duration_s)
{
	size_t bucket = 0;

	while (bucket < BOUNDS && duration_s > bounds_s[bucket])
		bucket++;
	atomic_fetch_add_explicit(&durations->counts[bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(
		&durations->sum_ns, (uint64_t)(duration_s * 1e9), memory_order_relaxed);
}

void durations_write(struct durations *durations, struct prometheus *out, const char *name)
{
	char full[128], label[48];
	uint64_t total = 0;

	snprintf(full, sizeof(full), "%s_bucket", name);
	for (size_t i = 0; i <= BOUNDS; i++) {
		total += atomic_load_explicit(&durations->counts[i], memory_order_relaxed);
		if (i < BOUNDS)
			snprintf(label, sizeof(label), "le=\"%g\"", bounds_s[i]);
		else
			snprintf(label, sizeof(label), "le=\"+Inf\"");
		prometheus_sample(out, full, label, (double)total);
	}
	snprintf(full, sizeof(full), "%s_sum", name);
	prometheus_sample(out, full, NULL,
		(double)atomic_load_explicit(&durations->sum_ns, memory_order_relaxed) / 1e9);
	snprintf(full, sizeof(full), "%s_count", name);
	prometheus_sample(out, full, NULL, (double)total);
}
