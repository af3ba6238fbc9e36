// SPDX-License-Identifier: Apache-2.0
/*
 * Actions that agents get between their reports: of each agent that polls, what it has not got yet,
 * one action a unit. Everything that is sent carries a number that grows, so that the agent can tell
 * an older action that arrives later from a newer one.
 *
 * An agent polls with the number of the last push it saw: that one and older ones are done with.
 * Bounded: PUSH_AGENTS that polled within PUSH_IDLE_S, PUSH_ACTIONS for each. Thread-safe; no I/O,
 * time comes in as an argument. Whoever holds the learner's lock may call this.
 */
#ifndef EBBTIDE_PUSH_H
#define EBBTIDE_PUSH_H

#include "learner/answer_encode.h"
#include "learner/index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define PUSH_AGENTS  32768
#define PUSH_ACTIONS 1024
#define PUSH_IDLE_S  180
/* How long a poll waits for an action. */
#define PUSH_WAIT_S 50

struct push_agent;

/* A poll that waits. Owned by the caller; zero-initialise. */
struct push_waiter {
	/* Called once, from any thread, when there is an action, the wait is over, or at close. */
	void (*wake)(void *context);
	void *context;
	double deadline_s;
	struct push_agent *agent; /* NULL: waits no more */
	struct push_waiter *before;
	struct push_waiter *after;
};

/* Zero-initialise but for the identity. */
struct push {
	uint64_t learner; /* whose numbers these are: its start, Unix microseconds */
	pthread_mutex_t lock;
	bool closed;
	uint64_t number; /* of the newest thing sent */
	struct index by_name;
	struct push_agent **agents;
	size_t agent_count;
	size_t expiring;
	struct push_waiter *oldest; /* they wait equally long, so this one's deadline is next */
	struct push_waiter *newest;
	size_t waiting;
	atomic_size_t pending; /* actions of all agents */
	uint64_t pushed;       /* actions, ever */
	uint64_t dropped;      /* of these, over PUSH_ACTIONS of an agent */
};

void push_init(struct push *push, uint64_t learner);
/* Wakes every waiter; none waits after that. */
void push_close(struct push *push);
/* Wait for the last waiter to be gone before. */
void push_free(struct push *push);

/* Whether @agent polls: what is decided for it between reports can reach it. */
bool push_reaches(struct push *push, const char *agent);
/*
 * For @agent's unit: @action's strings are copied. It takes the place of one that it has not got.
 * False: the agent does not poll, or there is no memory.
 */
bool push_add(struct push *push, const char *agent, const struct answer_action *action);
/* A number for an answer that is composed now. */
uint64_t push_number(struct push *push);
/* @agent's report gets an action for this unit: a push that it has not got yet is older. */
void push_supersede(
	struct push *push, const char *agent, const char *namespace, const char *service);

/*
 * What @agent has not got after @number_seen of @learner (another learner's number means none).
 * 1: @answer holds it (the caller's to end); 0: nothing. With @waiter it then waits, instead of an
 * earlier poll of the same agent; -ENOSPC, -ENOMEM: it cannot.
 */
int push_poll(struct push *push, const char *agent, uint64_t learner, uint64_t number_seen,
	double now_s, struct push_waiter *waiter, struct answer *answer);
/* The poll's connection is gone, or it was woken. */
void push_forget(struct push *push, struct push_waiter *waiter);
/* Wake those whose wait is over; forget agents that poll no more. */
void push_expire(struct push *push, double now_s);

#endif
