// SPDX-License-Identifier: Apache-2.0
#include "learner/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Agents looked at in one call of push_expire(). */
#define EXPIRE_MOST 256

/* One action that an agent has not got; the texts behind it, each with its zero. */
struct push_action {
	uint64_t number;
	struct answer_action action;
	struct answer_allowance allowance;
	char texts[];
};

struct push_agent {
	uint64_t hash;
	double polled_s;
	size_t position; /* in the list of agents */
	struct push_waiter *waiter;
	struct push_action **actions;
	size_t action_count;
	char name[];
};

void push_init(struct push *push, uint64_t learner)
{
	memset(push, 0, sizeof(*push));
	pthread_mutex_init(&push->lock, NULL);
	push->learner = learner;
}

static struct push_agent *find(const struct push *push, const char *name)
{
	uint64_t hash = index_hash(INDEX_HASH_START, name, strlen(name));
	struct push_agent *agent;

	for (size_t at = 0; (agent = index_find(&push->by_name, hash, &at));)
		if (strcmp(agent->name, name) == 0)
			return agent;
	return NULL;
}

static void actions_drop(struct push *push, struct push_agent *agent, size_t at)
{
	free(agent->actions[at]);
	/* Order is of no matter: there is one for each unit. */
	agent->actions[at] = agent->actions[--agent->action_count];
	atomic_fetch_sub(&push->pending, 1);
}

static void agent_free(struct push *push, struct push_agent *agent)
{
	while (agent->action_count)
		actions_drop(push, agent, agent->action_count - 1);
	free(agent->actions);
	free(agent);
}

static struct push_agent *agent_get(struct push *push, const char *name)
{
	struct push_agent *agent = find(push, name), **agents;
	size_t length = strlen(name);

	if (agent)
		return agent;
	if (push->agent_count >= PUSH_AGENTS)
		return NULL;
	agents = realloc(push->agents, (push->agent_count + 1) * sizeof(struct push_agent *));
	if (!agents)
		return NULL;
	push->agents = agents;
	agent = calloc(1, sizeof(*agent) + length + 1);
	if (!agent)
		return NULL;
	memcpy(agent->name, name, length + 1);
	agent->hash = index_hash(INDEX_HASH_START, name, length);
	if (index_add(&push->by_name, agent->hash, agent)) {
		free(agent);
		return NULL;
	}
	agent->position = push->agent_count;
	agents[push->agent_count++] = agent;
	return agent;
}

static void agent_forget(struct push *push, struct push_agent *agent)
{
	struct push_agent *last = push->agents[--push->agent_count];

	push->agents[agent->position] = last;
	last->position = agent->position;
	index_remove(&push->by_name, agent->hash, agent);
	agent_free(push, agent);
}

/* Out of the list of those that wait; the agent polled until now. */
static void waiter_remove(struct push *push, struct push_waiter *waiter)
{
	if (!waiter->agent)
		return;
	if (waiter->before)
		waiter->before->after = waiter->after;
	else
		push->oldest = waiter->after;
	if (waiter->after)
		waiter->after->before = waiter->before;
	else
		push->newest = waiter->before;
	waiter->agent->waiter = NULL;
	waiter->agent = NULL;
	waiter->before = waiter->after = NULL;
	push->waiting--;
}

static void waiter_wake(struct push *push, struct push_waiter *waiter)
{
	waiter_remove(push, waiter);
	waiter->wake(waiter->context);
}

static void waiter_add(struct push *push, struct push_agent *agent, struct push_waiter *waiter)
{
	if (agent->waiter)
		waiter_wake(push, agent->waiter);
	agent->waiter = waiter;
	waiter->agent = agent;
	waiter->after = NULL;
	waiter->before = push->newest;
	if (push->newest)
		push->newest->after = waiter;
	else
		push->oldest = waiter;
	push->newest = waiter;
	push->waiting++;
}

void push_close(struct push *push)
{
	pthread_mutex_lock(&push->lock);
	push->closed = true;
	while (push->oldest)
		waiter_wake(push, push->oldest);
	pthread_mutex_unlock(&push->lock);
}

void push_free(struct push *push)
{
	for (size_t i = 0; i < push->agent_count; i++)
		agent_free(push, push->agents[i]);
	free(push->agents);
	index_free(&push->by_name);
	pthread_mutex_destroy(&push->lock);
	memset(push, 0, sizeof(*push));
}

bool push_reaches(struct push *push, const char *agent)
{
	bool reaches;

	pthread_mutex_lock(&push->lock);
	reaches = find(push, agent) != NULL;
	pthread_mutex_unlock(&push->lock);
	return reaches;
}

/* A copy with everything it points to; without Q values, which are of no state here. */
static struct push_action *action_copy(const struct answer_action *from)
{
	const char *const texts[] = {
		from->namespace, from->service, from->policy, from->rule, from->why};
	const char **places[5];
	struct push_action *copy;
	size_t bytes = 0;
	char *at;

	for (int i = 0; i < 5; i++)
		bytes += strlen(texts[i] ? texts[i] : "") + 1;
	copy = calloc(1, sizeof(*copy) + bytes);
	if (!copy)
		return NULL;
	copy->action = *from;
	copy->action.q = NULL;
	copy->action.q_count = 0;
	if (from->allowance) {
		copy->allowance = *from->allowance;
		copy->action.allowance = &copy->allowance;
	}
	places[0] = &copy->action.namespace;
	places[1] = &copy->action.service;
	places[2] = &copy->action.policy;
	places[3] = &copy->action.rule;
	places[4] = &copy->action.why;
	at = copy->texts;
	for (int i = 0; i < 5; i++) {
		size_t size = strlen(texts[i] ? texts[i] : "") + 1;

		*places[i] = memcpy(at, texts[i] ? texts[i] : "", size);
		at += size;
	}
	return copy;
}

static struct push_action **action_of(
	const struct push_agent *agent, const char *namespace, const char *service)
{
	for (size_t i = 0; i < agent->action_count; i++)
		if (strcmp(agent->actions[i]->action.service, service) == 0 &&
			strcmp(agent->actions[i]->action.namespace, namespace) == 0)
			return &agent->actions[i];
	return NULL;
}

static bool action_add(struct push *push, struct push_agent *agent, struct push_action *copy)
{
	struct push_action **place = action_of(agent, copy->action.namespace, copy->action.service);

	copy->action.number = copy->number = ++push->number;
	push->pushed++;
	if (place) {
		free(*place);
		*place = copy;
		return true;
	}
	if (agent->action_count < PUSH_ACTIONS)
		place = realloc(
			agent->actions, (agent->action_count + 1) * sizeof(struct push_action *));
	if (!place) {
		push->dropped++;
		free(copy);
		return false;
	}
	agent->actions = place;
	agent->actions[agent->action_count++] = copy;
	atomic_fetch_add(&push->pending, 1);
	return true;
}

bool push_add(struct push *push, const char *name, const struct answer_action *action)
{
	struct push_action *copy = action_copy(action);
	struct push_agent *agent;
	bool added = false;

	if (!copy)
		return false;
	pthread_mutex_lock(&push->lock);
	agent = find(push, name);
	if (agent)
		added = action_add(push, agent, copy);
	else
		free(copy);
	if (added && agent->waiter)
		waiter_wake(push, agent->waiter);
	pthread_mutex_unlock(&push->lock);
	return added;
}

uint64_t push_number(struct push *push)
{
	uint64_t number;

	pthread_mutex_lock(&push->lock);
	number = ++push->number;
	pthread_mutex_unlock(&push->lock);
	return number;
}

void push_supersede(struct push *push, const char *name, const char *namespace, const char *service)
{
	struct push_agent *agent;

	/* Nearly always there is nothing. */
	if (atomic_load(&push->pending) == 0)
		return;
	pthread_mutex_lock(&push->lock);
	agent = find(push, name);
	if (agent) {
		struct push_action **place = action_of(agent, namespace, service);

		if (place)
			actions_drop(push, agent, (size_t)(place - agent->actions));
	}
	pthread_mutex_unlock(&push->lock);
}

static int poll_answer(struct push *push, struct push_agent *agent, struct answer *answer)
{
	answer_begin(answer, 0, agent->action_count);
	answer_number(answer, push->number, push->learner);
	for (size_t i = 0; i < agent->action_count; i++)
		answer_add(answer, &agent->actions[i]->action);
	return 1;
}

int push_poll(struct push *push, const char *name, uint64_t learner, uint64_t number_seen,
	double now_s, struct push_waiter *waiter, struct answer *answer)
{
	struct push_agent *agent;
	int got = 0;

	pthread_mutex_lock(&push->lock);
	agent = push->closed ? NULL : agent_get(push, name);
	if (!agent) {
		got = -ENOSPC;
		goto out;
	}
	agent->polled_s = now_s;
	if (learner == push->learner)
		for (size_t i = agent->action_count; i-- > 0;)
			if (agent->actions[i]->number <= number_seen)
				actions_drop(push, agent, i);
	if (agent->action_count) {
		got = poll_answer(push, agent, answer);
	} else if (waiter) {
		waiter->deadline_s = now_s + PUSH_WAIT_S;
		waiter_add(push, agent, waiter);
	}
out:
	pthread_mutex_unlock(&push->lock);
	return got;
}

void push_forget(struct push *push, struct push_waiter *waiter)
{
	pthread_mutex_lock(&push->lock);
	waiter_remove(push, waiter);
	pthread_mutex_unlock(&push->lock);
}

void push_expire(struct push *push, double now_s)
{
	size_t most;

	pthread_mutex_lock(&push->lock);
	while (push->oldest && push->oldest->deadline_s <= now_s)
		waiter_wake(push, push->oldest);
	most = push->agent_count < EXPIRE_MOST ? push->agent_count : EXPIRE_MOST;
	while (most-- > 0 && push->agent_count > 0) {
		size_t at = push->expiring < push->agent_count ? push->expiring : 0;
		struct push_agent *agent = push->agents[at];

		if (!agent->waiter && now_s - agent->polled_s > PUSH_IDLE_S)
			agent_forget(push, agent);
		else
			push->expiring = at + 1;
	}
	pthread_mutex_unlock(&push->lock);
}
