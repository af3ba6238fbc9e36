// SPDX-License-Identifier: Apache-2.0
#include "common/descriptors.h"

#include <sys/resource.h>

unsigned long descriptors_allow(unsigned long wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return wanted;
	limit.rlim_cur = wanted;
	/* More than the hard limit takes a privilege; without it the hard limit has to do. */
	if (limit.rlim_max < wanted)
		limit.rlim_max = wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return wanted;
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}
