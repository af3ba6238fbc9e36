// SPDX-License-Identifier: Apache-2.0
/*
 * awake: keeps every CPU from halting, at no cost to any other task. A virtual CPU that halts comes back
 * when its host has time for it, milliseconds later on a busy one; then a bench of latency measures
 * the host. Ends with its parent.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define CPUS_MOST 1024
/* So that /proc/stat counts it apart. */
#define NICEST 19

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void *keep(void *context)
{
	const cpu_set_t *own = context;
	struct sched_param none = {0};

	/* Without the class everything else would have to share with it. */
	if (pthread_setaffinity_np(pthread_self(), sizeof(*own), own) != 0 ||
		setpriority(PRIO_PROCESS, 0, NICEST) != 0 ||
		sched_setscheduler(0, SCHED_IDLE, &none) != 0) {
		perror("awake: cannot run below all others");
		exit(EXIT_FAILURE);
	}
	for (;;)
		relax();
	return NULL;
}

static void leave(int number)
{
	(void)number;
	_exit(EXIT_SUCCESS);
}

int main(void)
{
	static cpu_set_t sets[CPUS_MOST];
	pthread_t threads[CPUS_MOST];
	cpu_set_t allowed;
	int count = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, leave);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
		perror("awake: cannot tell the CPUs");
		return EXIT_FAILURE;
	}
	for (int cpu = 0; cpu < CPU_SETSIZE && count < CPUS_MOST; cpu++) {
		int err;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&sets[count]);
		CPU_SET(cpu, &sets[count]);
		err = pthread_create(&threads[count], NULL, keep, &sets[count]);
		if (err) {
			fprintf(stderr, "awake: no thread for CPU %d: %s\n", cpu, strerror(err));
			return EXIT_FAILURE;
		}
		count++;
	}
	pause();
	return EXIT_SUCCESS;
}
