// SPDX-License-Identifier: Apache-2.0
/*
 * Loads a BPF object with what of it this kernel takes. A program goes out alone and carries its
 * reason, in two ways: the table in probes_load.c names what a program needs, and the kernel's BTF
 * says whether it is there; and when the kernel still refuses the object, each program is tried by
 * itself, and the object is loaded again without those that were refused.
 */
#ifndef EBBTIDE_PROBES_LOAD_H
#define EBBTIDE_PROBES_LOAD_H

#include "node/probes/probes.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>

struct probes_object {
	const char *name; /* of NAME.bpf.o, for reasons */
	/* A fresh skeleton, constants and shared maps set, not loaded yet. NULL with errno. */
	struct bpf_object_skeleton *(*open)(void *context);
	void (*close)(void *context);
	void *context;
	const char *const *required; /* ends with NULL; the object is of no use without them */
};

/*
 * Open, load and attach. Programs without an automatic attachment (cgroup_skb, and those the agent
 * runs itself) count as attached once loaded. @programs gets one entry for each program of the
 * object, also on failure; its names live as long as the agent. With @kernel NULL nothing is known
 * beforehand and only the kernel's refusals decide.
 *
 * 0; or the kernel's -errno when the object or a required program does not load, and the object is
 * closed again. -ENOSPC when it has more programs than @room.
 */
int probes_load(const struct probes_object *object, const struct btf *kernel,
	struct probes_program *programs, size_t room, size_t *count);

/* What decides how objects are made ready, beyond single programs. */
enum probes_feature {
	PROBES_TASK_STORAGE, /* since Linux 5.11 */
	PROBES_LOOP,	     /* bpf_loop(), since 5.17 */
};
bool probes_kernel_has(const struct btf *kernel, enum probes_feature feature);

#endif
