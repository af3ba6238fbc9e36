// SPDX-License-Identifier: Apache-2.0
/*
 * For clang-tidy alone. It holds that what a system header declares frees nothing that it is given,
 * so that every skeleton of bpftool's would leak; declared here, the one that does is no system's.
 */
#ifndef EBBTIDE_LINT_LIBBPF_H
#define EBBTIDE_LINT_LIBBPF_H

#include <bpf/libbpf.h>

void bpf_object__destroy_skeleton(struct bpf_object_skeleton *s);

#endif
