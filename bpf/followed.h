/* SPDX-License-Identifier: GPL-2.0 */
/* What a task that serves requests has waited for: cpu.bpf.c adds up, socket.bpf.c begins it. */
#ifndef EBBTIDE_FOLLOWED_H
#define EBBTIDE_FOLLOWED_H

#include "slots.h"

/* A task that serves requests, between its switches. */
struct followed_task {
	__u64 off_cpu_ns; /* in all, since it was first seen to serve */
	__u64 throttled_ns;
	__u64 left_ns;		  /* the scheduler's clock at its newest switch-out */
	__u64 group_throttled_ns; /* of its groups, then */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct followed_task);
} followed SEC(".maps");

#endif
