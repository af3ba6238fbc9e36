/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What two CPUs may touch at the same time. The two ways of a connection pass on different CPUs
 * and no lock is taken: a field has one writer, or is claimed by compare-and-swap.
 *
 * Kernels before 5.12 have no atomic that tells the value before. There these are a look and a
 * write: between the two another CPU may have had the same idea (docs/measurement.md says what
 * that can cost).
 */
#ifndef EBBTIDE_ATOMICS_H
#define EBBTIDE_ATOMICS_H

#include "kernel.h"

#define READ_ONCE(place)	 (*(const volatile __typeof__(place) *)&(place))
#define WRITE_ONCE(place, value) (*(volatile __typeof__(place) *)&(place) = (value))

#ifdef KERNEL_5_10
#define FETCH_AND_ADD(place, value)                                                                \
	({                                                                                         \
		__typeof__(*(place)) before = READ_ONCE(*(place));                                 \
                                                                                                   \
		__sync_fetch_and_add(place, value);                                                \
		before;                                                                            \
	})
#define FETCH_AND_OR(place, value)                                                                 \
	({                                                                                         \
		__typeof__(*(place)) before = READ_ONCE(*(place));                                 \
                                                                                                   \
		WRITE_ONCE(*(place), before | (value));                                            \
		before;                                                                            \
	})
#define EXCHANGE(place, value)                                                                     \
	({                                                                                         \
		__typeof__(*(place)) before = READ_ONCE(*(place));                                 \
                                                                                                   \
		WRITE_ONCE(*(place), value);                                                       \
		before;                                                                            \
	})
#define COMPARE_AND_SWAP(place, expected, value)                                                   \
	({                                                                                         \
		__typeof__(*(place)) before = READ_ONCE(*(place));                                 \
                                                                                                   \
		if (before == (expected))                                                          \
			WRITE_ONCE(*(place), value);                                               \
		before;                                                                            \
	})
#else
#define FETCH_AND_ADD(place, value)		 __sync_fetch_and_add(place, value)
#define FETCH_AND_OR(place, value)		 __sync_fetch_and_or(place, value)
#define EXCHANGE(place, value)			 __sync_lock_test_and_set(place, value)
#define COMPARE_AND_SWAP(place, expected, value) __sync_val_compare_and_swap(place, expected, value)
#endif

/*
 * What was written before is seen by who sees this write. The processors of x86 keep the order by
 * themselves; elsewhere an atomic with a result does, since BPF has no barrier of its own.
 */
#if defined(__TARGET_ARCH_x86) || defined(KERNEL_5_10)
#define STORE_RELEASE(place, value)                                                                \
	do {                                                                                       \
		asm volatile("" ::: "memory");                                                     \
		WRITE_ONCE(place, value);                                                          \
	} while (0)
#define LOAD_ACQUIRE(place)                                                                        \
	({                                                                                         \
		__typeof__(place) loaded = READ_ONCE(place);                                       \
                                                                                                   \
		asm volatile("" ::: "memory");                                                     \
		loaded;                                                                            \
	})
#else
#define STORE_RELEASE(place, value) ((void)__sync_lock_test_and_set(&(place), value))
#define LOAD_ACQUIRE(place)	    __sync_fetch_and_or(&(place), 0)
#endif

#endif
