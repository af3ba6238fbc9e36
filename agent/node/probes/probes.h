// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel side as the agent sees it: loads the BPF objects, leaves out what this kernel does not
 * have (with the reason), gives out slots and reads them.
 *
 * One thread at a time, except probes_slot(), whose memory is shared with the kernel.
 */
#ifndef EBBTIDE_PROBES_H
#define EBBTIDE_PROBES_H

#include "common/cgroup.h"
#include "shared.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct probes;

struct probes_program {
	const char *name;
	bool attached;
	/* Another program that does its work on this kernel; then its being off is no loss. */
	const char *replaced_by;
	char reason[160]; /* why it cannot be had; empty when attached or only not needed */
};

/* What comes through the ring buffer; kind tells which. */
union probes_event {
	uint32_t kind;
	struct request_event request;
	struct oom_event oom;
};

typedef void (*probes_event_handler)(const union probes_event *event, void *context);
typedef void (*probes_throttle_handler)(const struct throttle_event *event, void *context);

/*
 * Load and attach. -EPERM, -ENOSYS and so on when the floor is missing (see docs/kernels.md), with
 * one line in @error that says what and what to do. @max_slots bounds the containers of the node.
 */
int probes_open(struct probes **probes, const struct cgroup_driver *driver, uint32_t max_slots,
	char *error, size_t error_size);
/* Detaches everything; nothing stays in the kernel. */
void probes_close(struct probes *probes);

/* Every program, for status and metrics. */
const struct probes_program *probes_programs(const struct probes *probes, size_t *count);
/* Of a program that is loaded, else negative; valid until probes_close(). */
int probes_program_fd(const struct probes *probes, const char *name);

#define PROBES_LINKS 3

/* What a container's cgroup is attached by. */
struct probes_attachment {
	uint32_t slot;
	uint64_t keys[3];
	size_t key_count;
	void *links[PROBES_LINKS];
};

/* Give @path a slot and attach the request programs to it. -ENOSPC when all slots are taken. */
int probes_attach(struct probes *probes, const char *path, struct probes_attachment *attachment);
/* Whether a slot is free. */
bool probes_have_room(const struct probes *probes);
void probes_detach(struct probes *probes, struct probes_attachment *attachment);

/* Settle the running tasks' CPU time and copy the kernel's own counters into the slots. */
int probes_refresh(struct probes *probes);
struct slot *probes_slot(struct probes *probes, uint32_t slot);
/* A slot the kernel side has tied to its task group, so that throttled_ns and so on are true. */
bool probes_slot_is_tied(const struct slot *slot);

/*
 * Look at one container now: 1 throttled, 0 not, -ESTALE before its first switch. Its slot's
 * throttled_since_ns and what stands below "By probes_look()" are then of this moment. Any thread.
 */
int probes_look(struct probes *probes, uint32_t slot);

/* An age bucket of 2^20 ns (1 ms) until the objective is known: 134 ms in all. */
#define AGE_SHIFT_DEFAULT 20
/* Age of the oldest request in flight, to half a bucket's width; 0: none, or too young to tell. */
uint64_t slot_oldest_age_ns(const struct slot *slot, uint64_t now_ns);

/* Whether requests are counted at all on this kernel: without them there is no objective to hold. */
bool probes_sees_requests(const struct probes *probes);

/* File descriptor to poll, -1 without a ring buffer; then probes_consume() calls the handler. */
int probes_event_fd(const struct probes *probes);
void probes_set_handler(struct probes *probes, probes_event_handler handler, void *context);
int probes_consume(struct probes *probes);
/* The same for the reflex, on a ring and a thread of its own. */
int probes_throttle_fd(const struct probes *probes);
void probes_set_throttle_handler(
	struct probes *probes, probes_throttle_handler handler, void *context);
int probes_consume_throttles(struct probes *probes);
uint64_t probes_events_lost(const struct probes *probes);
/* Tasks that left a CPU without having been seen to come: their CPU time counts, their wait does not. */
uint64_t probes_switches_lost(const struct probes *probes);
/* Connections whose framing had to be found anew; requests that no room was left to follow. */
uint64_t probes_connections_lost(const struct probes *probes);
uint64_t probes_requests_untracked(const struct probes *probes);

#endif
