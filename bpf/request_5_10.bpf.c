// SPDX-License-Identifier: GPL-2.0
/* The request programs for kernels from 5.10 to 5.16, which have no bpf_loop(). */
#define KERNEL_5_10
#include "request.bpf.c"
