// SPDX-License-Identifier: Apache-2.0
/*
 * refill_bare: what a refill costs on this machine where nothing has to be known or decided. A thread of the
 * reflex's class sleeps until a time and writes a quota that is in force already, a hundred times a
 * second. Prints its CPU time a round in microseconds, without the write and with it, by the scheduler.
 *
 * Usage: refill_bare QUOTA-FILE TEXT ROUNDS
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PRIORITY 50
/* Between two rounds, evenly spread: caches are as cold as between two refills. */
#define LEAST_NS  5000000L
#define SPREAD_NS 10000000L

static void fail(const char *what)
{
	fprintf(stderr, "refill_bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double used_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

/* A round's CPU time; @file < 0: only sleeps. */
static double play(int poll, int timer, int file, const char *text, long rounds)
{
	double before_us = used_us();
	uint32_t random = 1;

	for (long i = 0; i < rounds; i++) {
		struct itimerspec when = {0};
		struct epoll_event event;

		random = random * 1664525 + 1013904223;
		when.it_value.tv_nsec = LEAST_NS + (long)(random >> 8) % SPREAD_NS;
		if (timerfd_settime(timer, 0, &when, NULL) != 0)
			fail("timerfd_settime");
		if (epoll_wait(poll, &event, 1, -1) < 0)
			fail("epoll_wait");
		if (file >= 0 && pwrite(file, text, strlen(text), 0) < 0)
			fail("pwrite");
	}
	return (used_us() - before_us) / (double)rounds;
}

int main(int argc, char **argv)
{
	struct sched_param parameter = {.sched_priority = PRIORITY};
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	double wake_us, both_us;
	int file, poll, timer;
	long rounds;

	if (argc != 4) {
		fprintf(stderr, "usage: refill_bare QUOTA-FILE TEXT ROUNDS\n");
		return 2;
	}
	rounds = strtol(argv[3], NULL, 10);
	file = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (file < 0)
		fail(argv[1]);
	poll = epoll_create1(EPOLL_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (poll < 0 || timer < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event) != 0)
		fail("timer");
	if (sched_setscheduler(0, SCHED_RR, &parameter) != 0)
		fail("SCHED_RR");
	wake_us = play(poll, timer, -1, argv[2], rounds);
	both_us = play(poll, timer, file, argv[2], rounds);
	printf("%.2f %.2f\n", wake_us, both_us);
	return 0;
}
