// SPDX-License-Identifier: Apache-2.0
#include "node/limits/reflex.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_KEPT 1024
#define SECOND_NS   1000000000ULL
#define NS_OF_MC    1000000ULL /* CPU time a second of a millicore */
/* Where the real-time class is not to be had. */
#define NICE_FALLBACK (-20)

/* One container; by slot. */
struct entry {
	bool is_member;
	bool is_watched; /* in the list of those with a time to look at them */
	uint32_t epoch;
	int fd; /* the quota's file, -1 while there is no allowance */
	const char *path;
	struct spare_share *share;
	struct allowance allowance;
	double target_us;
	int64_t declared_us;
	int64_t quota_us;
	int64_t period_us;
	struct refill_terms terms;
	struct refill_state state;
	int64_t lowered_us; /* quota in force until the period is over; 0: the base */
	uint64_t lowered_period;
	/* While it is watched: look again at wake_ns, or at any wake from from_ns on. */
	uint64_t wake_ns;
	uint64_t from_ns;
	uint64_t denied_period;
	enum refill_reason denied;
	struct reflex_counts counts;
};

struct reflex {
	struct probes *probes;
	const struct cgroup_driver *driver;
	struct reflex_config config;
	pthread_mutex_t lock;
	pthread_t thread;
	clockid_t cpu_clock;
	int poll_fd;
	int timer_fd;
	int poke_fd;
	bool is_on;
	bool stop;
	uint64_t armed_ns; /* what the timer is set to; 0: not */
	/* What reflex_hold() saw, until reflex_release(). */
	bool has_held;
	struct refill_seen held;
	struct entry *entries;
	uint32_t max_slots;
	uint32_t *watched; /* slots */
	uint32_t watched_count;
	struct spare budget;
	uint64_t idle_before_ns; /* of the node, at the last tick */
	uint64_t tick_before_ns;
	struct reflex_event events[EVENTS_KEPT];
	uint64_t events_next;
	uint64_t events_told;
	struct reflex_status status;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void poke(struct reflex *reflex)
{
	uint64_t one = 1;

	if (write(reflex->poke_fd, &one, sizeof(one)) < 0)
		return; /* Full: it is awake already. */
}

static void timer_arm(struct reflex *reflex, uint64_t at_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at_ns / SECOND_NS),
					  .tv_nsec = (long)(at_ns % SECOND_NS)}};

	timerfd_settime(reflex->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
	reflex->armed_ns = at_ns;
}

/*
 * Look at the container at @until_ns, or from @from_ns on when the thread is awake. The lock is held,
 * as everywhere below.
 */
static void watch(struct reflex *reflex, uint32_t slot, uint64_t from_ns, uint64_t until_ns)
{
	struct entry *entry = &reflex->entries[slot];

	if (!entry->is_watched || from_ns < entry->from_ns)
		entry->from_ns = from_ns;
	if (!entry->is_watched || until_ns < entry->wake_ns)
		entry->wake_ns = until_ns;
	if (entry->is_watched)
		return;
	entry->is_watched = true;
	reflex->watched[reflex->watched_count++] = slot;
}

static void watch_now(struct reflex *reflex, uint32_t slot)
{
	watch(reflex, slot, 0, 0);
}

static bool entry_is_on(const struct reflex *reflex, const struct entry *entry)
{
	return reflex->is_on && entry->fd >= 0 && entry->terms.trigger_ns > 0;
}

static void see(struct reflex *reflex, uint32_t slot, bool is_throttled, struct refill_seen *seen)
{
	const struct slot *kernel = probes_slot(reflex->probes, slot);

	seen->now_ns = now_ns();
	seen->is_throttled = is_throttled;
	seen->in_flight = slot_in_flight(kernel);
	seen->oldest_ns = slot_oldest_age_ns(kernel, seen->now_ns);
	seen->completed = kernel->requests + kernel->requests_failed;
	seen->period = kernel->quota_period;
	seen->period_ends_ns = kernel->period_ends_ns;
	seen->used_ns = kernel->group_used_ns;
	seen->left_ns = kernel->quota_left_ns;
	seen->pool_ns = kernel->quota_pool_ns;
	seen->burst_ns = kernel->burst_ns;
}

/* Look and keep account; -errno when the container cannot be seen. */
static int look(struct reflex *reflex, uint32_t slot, struct refill_seen *seen)
{
	struct entry *entry = &reflex->entries[slot];
	struct refill_account account;
	int throttled = probes_look(reflex->probes, slot);

	reflex->status.looks++;
	if (throttled < 0)
		return throttled;
	see(reflex, slot, throttled > 0, seen);
	account = refill_look(&entry->state, &entry->terms, seen);
	if (account.is_closed) {
		entry->counts.over_limit_us += account.over_limit_ns / 1000;
		spare_return(&reflex->budget, entry->share, account.unused_ns, seen->now_ns);
		spare_charge(&reflex->budget, entry->share, account.overrun_ns, seen->now_ns);
	}
	return 0;
}

/* The base again, as soon as the period with the smaller refill is over. */
static void raise_again(struct reflex *reflex, struct entry *entry)
{
	if (entry->lowered_us &&
		cgroup_refill(reflex->driver, entry->fd, entry->quota_us, entry->period_us) == 0)
		entry->lowered_us = 0;
}

static void note_denial(struct reflex *reflex, struct entry *entry, const struct refill_seen *seen,
	enum refill_reason reason)
{
	/* Once a period: it is asked again many times. */
	if (reason >= REFILL_DENIAL_COUNT ||
		(entry->denied == reason && entry->denied_period == seen->period))
		return;
	entry->denied = reason;
	entry->denied_period = seen->period;
	entry->counts.denied[reason]++;
	reflex->status.denied[reason]++;
}

static void note_refill(struct reflex *reflex, uint32_t slot, const struct refill_seen *seen,
	uint64_t since_ns, uint64_t grant_ns, uint64_t done_ns)
{
	struct entry *entry = &reflex->entries[slot];
	uint64_t old_ns = seen->now_ns - (seen->oldest_ns - entry->terms.trigger_ns);
	uint64_t due_ns = old_ns > since_ns ? old_ns : since_ns;
	uint64_t reaction_ns = done_ns > due_ns ? done_ns - due_ns : 0;
	uint64_t half_ns = (1ULL << (probes_slot(reflex->probes, slot)->age_shift & 63)) / 2;

	entry->counts.refills++;
	entry->counts.granted_us += grant_ns / 1000;
	reflex->status.refills++;
	reflex->status.reaction[hist_bucket(reaction_ns / 1000)]++;
	reflex->status.reaction_sum_ns += reaction_ns;
	reflex->events[reflex->events_next++ % EVENTS_KEPT] = (struct reflex_event){.slot = slot,
		.epoch = entry->epoch,
		.at_ns = done_ns,
		.throttled_ns = done_ns > since_ns ? done_ns - since_ns : 0,
		.oldest_ns = seen->oldest_ns,
		.came_from_ns = seen->now_ns - seen->oldest_ns - half_ns,
		.came_until_ns = seen->now_ns - seen->oldest_ns + half_ns,
		.grant_ns = grant_ns,
		.reaction_ns = reaction_ns,
		.in_flight = seen->in_flight,
		.number = entry->state.refills};
}

/* Write it; what comes back is what to do next. */
static struct refill_decision refill(
	struct reflex *reflex, uint32_t slot, const struct refill_seen *seen, uint64_t grant_ns)
{
	struct entry *entry = &reflex->entries[slot];
	struct slot *kernel = probes_slot(reflex->probes, slot);
	uint64_t since_ns = kernel->throttled_since_ns, done_ns;
	bool is_whole = grant_ns == entry->terms.quota_ns;
	int64_t quota_us = is_whole ? entry->quota_us : (int64_t)(grant_ns / 1000);
	int err;

	if (!spare_take(&reflex->budget, entry->share, grant_ns, seen->now_ns))
		return refill_refuse(
			&entry->terms, seen, REFILL_budget, spare_renewed_ns(seen->now_ns));
	/* Before the write: when it is throttled again the kernel tells again. */
	kernel->throttled_since_ns = 0;
	err = cgroup_refill(reflex->driver, entry->fd, quota_us, entry->period_us);
	done_ns = now_ns();
	if (err) {
		kernel->throttled_since_ns = since_ns;
		spare_return(&reflex->budget, entry->share, grant_ns, done_ns);
		return refill_refuse(&entry->terms, seen, REFILL_failed, 0);
	}
	refill_done(&entry->state, seen, grant_ns, done_ns);
	if (!is_whole) {
		entry->lowered_us = quota_us;
		entry->lowered_period = seen->period;
	}
	note_refill(reflex, slot, seen, since_ns, grant_ns, done_ns);
	return refill_settle(&entry->state, &entry->terms, seen, REFILL_due);
}

/*
 * What the slot alone tells, and nothing waits to be accounted for: no system call for a container
 * whose oldest request is young, or that runs or is idle again. False: it must be looked at.
 */
static bool glance(struct reflex *reflex, uint32_t slot, struct refill_decision *decision)
{
	const struct entry *entry = &reflex->entries[slot];
	const struct slot *kernel = probes_slot(reflex->probes, slot);
	uint64_t time_ns, oldest_ns;

	if (entry->state.must_close || entry->lowered_us)
		return false;
	*decision = (struct refill_decision){.verdict = REFILL_STOP};
	if (!entry_is_on(reflex, entry) || slot_in_flight(kernel) <= 0 ||
		!__atomic_load_n(&kernel->throttled_since_ns, __ATOMIC_RELAXED))
		return true;
	time_ns = now_ns();
	oldest_ns = slot_oldest_age_ns(kernel, time_ns);
	if (oldest_ns >= entry->terms.trigger_ns)
		return false;
	decision->verdict = REFILL_WAIT;
	decision->until_ns = decision->from_ns = time_ns + entry->terms.trigger_ns - oldest_ns;
	return true;
}

/* A throttled one, or one whose account is due. False: no need to look at it again by time. */
static bool attend(struct reflex *reflex, uint32_t slot, struct refill_decision *next)
{
	struct entry *entry = &reflex->entries[slot];
	struct refill_decision decision;
	struct refill_seen seen;

	if (look(reflex, slot, &seen))
		return false;
	if (entry->lowered_us && seen.period != entry->lowered_period)
		raise_again(reflex, entry);
	if (entry_is_on(reflex, entry)) {
		decision = refill_decide(&entry->state, &entry->terms, &seen);
	} else {
		struct refill_terms off = entry->terms;

		off.trigger_ns = 0;
		decision = refill_decide(&entry->state, &off, &seen);
	}
	if (decision.verdict == REFILL_WRITE)
		decision = refill(reflex, slot, &seen, decision.grant_ns);
	note_denial(reflex, entry, &seen, decision.reason);
	/* The base again must not wait for the account. */
	if (entry->lowered_us)
		decision = refill_refuse(&entry->terms, &seen, decision.reason, decision.until_ns);
	*next = decision;
	return decision.verdict == REFILL_WAIT;
}

/* One container whose time has come; the same. */
static bool visit(struct reflex *reflex, uint32_t slot)
{
	struct entry *entry = &reflex->entries[slot];
	struct refill_decision next;

	if (!entry->is_member)
		return false;
	if (glance(reflex, slot, &next) ? next.verdict != REFILL_WAIT
					: !attend(reflex, slot, &next))
		return false;
	entry->from_ns = next.from_ns;
	entry->wake_ns = next.until_ns;
	return true;
}

/* Everyone whose time has come, then the timer for who is next. */
static void attend_due(struct reflex *reflex)
{
	uint64_t next_ns = 0, time_ns = now_ns();

	for (uint32_t i = 0; i < reflex->watched_count;) {
		uint32_t slot = reflex->watched[i];
		struct entry *entry = &reflex->entries[slot];

		if (entry->from_ns <= time_ns && !visit(reflex, slot)) {
			entry->is_watched = false;
			reflex->watched[i] = reflex->watched[--reflex->watched_count];
			continue;
		}
		if (!next_ns || entry->wake_ns < next_ns)
			next_ns = entry->wake_ns;
		i++;
	}
	if (next_ns != reflex->armed_ns)
		timer_arm(reflex, next_ns);
}

static void on_throttle(const struct throttle_event *event, void *context)
{
	struct reflex *reflex = context;
	struct entry *entry;

	if (event->slot >= reflex->max_slots)
		return;
	entry = &reflex->entries[event->slot];
	if (entry->is_member && entry->epoch == event->epoch && entry_is_on(reflex, entry))
		watch_now(reflex, event->slot);
}

/* Real time, so that a node whose CPUs are busy does not delay it; else the best that is allowed. */
static void priority_take(struct reflex *reflex)
{
	struct sched_param parameter = {.sched_priority = (int)reflex->config.priority};
	struct reflex_status *status = &reflex->status;
	pid_t thread = (pid_t)syscall(SYS_gettid);

	snprintf(status->priority, sizeof(status->priority), "normal");
	if (reflex->config.priority == 0)
		return;
	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) == 0)
		snprintf(status->priority, sizeof(status->priority), "rr %u",
			reflex->config.priority);
	else if (setpriority(PRIO_PROCESS, (id_t)thread, NICE_FALLBACK) == 0)
		snprintf(status->priority, sizeof(status->priority), "nice %d", NICE_FALLBACK);
}

static void *reflex_thread(void *context)
{
	struct reflex *reflex = context;
	struct epoll_event events[3];

	pthread_setname_np(pthread_self(), "reflex");
	pthread_mutex_lock(&reflex->lock);
	priority_take(reflex);
	while (!reflex->stop) {
		int count;

		pthread_mutex_unlock(&reflex->lock);
		count = epoll_wait(reflex->poll_fd, events, 3, -1);
		pthread_mutex_lock(&reflex->lock);
		reflex->status.wakes++;
		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == reflex->timer_fd)
				reflex->armed_ns = 0;
			else if (events[i].data.fd != reflex->poke_fd)
				(void)probes_consume_throttles(reflex->probes);
		}
		attend_due(reflex);
	}
	pthread_mutex_unlock(&reflex->lock);
	return NULL;
}

/* One that is throttled with requests in flight already, so that nothing would tell. */
static void look_soon(struct reflex *reflex, uint32_t slot)
{
	const struct slot *kernel = probes_slot(reflex->probes, slot);

	if (slot_in_flight(kernel) <= 0 || !kernel->throttled_since_ns)
		return;
	watch_now(reflex, slot);
	poke(reflex);
}

/* The terms in force, from what is allowed and what limits there are. */
static void terms_renew(struct reflex *reflex, uint32_t slot)
{
	struct entry *entry = &reflex->entries[slot];
	struct refill_terms *terms = &entry->terms;
	bool was_on = entry_is_on(reflex, entry);

	terms->period_ns = (uint64_t)entry->period_us * 1000;
	terms->quota_ns = entry->quota_us > 0 ? (uint64_t)entry->quota_us * 1000 : 0;
	terms->stuck_refills = reflex->config.stuck_refills;
	refill_allow(terms, &entry->allowance, (uint64_t)(entry->target_us * 1000),
		entry->declared_us > 0 ? (uint64_t)entry->declared_us * 1000 : 0);
	if (terms->trigger_ns > 0 && entry->fd < 0)
		entry->fd = cgroup_open_cpu_quota(reflex->driver, entry->path);
	probes_slot(reflex->probes, slot)->no_reflex = !entry_is_on(reflex, entry);
	if (!was_on && entry_is_on(reflex, entry))
		look_soon(reflex, slot);
}

static void entry_end(struct reflex *reflex, uint32_t slot)
{
	struct entry *entry = &reflex->entries[slot];

	raise_again(reflex, entry);
	entry->lowered_us = 0;
	if (entry->fd >= 0)
		close(entry->fd);
	entry->fd = -1;
}

static int descriptors_open(struct reflex *reflex)
{
	int fds[3];

	reflex->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	reflex->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	reflex->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[0] = probes_throttle_fd(reflex->probes);
	fds[1] = reflex->timer_fd;
	fds[2] = reflex->poke_fd;
	if (reflex->poll_fd < 0)
		return -errno;
	for (int i = 0; i < 3; i++) {
		/*
		 * Each setting of the timer and each poke is an edge, none has to be read; the ring
		 * buffer is emptied at each of its own.
		 */
		struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fds[i]};

		if (epoll_ctl(reflex->poll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0)
			return -errno;
	}
	return 0;
}

static void reflex_free(struct reflex *reflex)
{
	if (reflex->poll_fd >= 0)
		close(reflex->poll_fd);
	if (reflex->timer_fd >= 0)
		close(reflex->timer_fd);
	if (reflex->poke_fd >= 0)
		close(reflex->poke_fd);
	free(reflex->entries);
	free(reflex->watched);
	free(reflex);
}

/* Priority is inherited: who holds the lock while the reflex waits must not wait for a CPU. */
static int lock_open(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int err = pthread_mutexattr_init(&attributes);

	if (!err)
		err = pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	if (!err)
		err = pthread_mutex_init(lock, &attributes);
	return -err;
}

int reflex_open(struct reflex **out, struct probes *probes, const struct cgroup_driver *driver,
	uint32_t max_slots, const struct reflex_config *config)
{
	struct reflex *reflex;
	int err;

	if (!probes_sees_requests(probes) || probes_throttle_fd(probes) < 0)
		return -ENOTSUP;
	reflex = calloc(1, sizeof(*reflex));
	if (!reflex)
		return -ENOMEM;
	reflex->poll_fd = reflex->timer_fd = reflex->poke_fd = -1;
	reflex->probes = probes;
	reflex->driver = driver;
	reflex->config = *config;
	reflex->max_slots = max_slots;
	reflex->is_on = true;
	reflex->budget.rate_ns = config->budget_millicores * NS_OF_MC;
	reflex->entries = calloc(max_slots, sizeof(*reflex->entries));
	reflex->watched = calloc(max_slots, sizeof(*reflex->watched));
	err = reflex->entries && reflex->watched ? lock_open(&reflex->lock) : -ENOMEM;
	if (!err)
		err = descriptors_open(reflex);
	if (err) {
		reflex_free(reflex);
		return err;
	}
	for (uint32_t i = 0; i < max_slots; i++)
		reflex->entries[i].fd = -1;
	probes_set_throttle_handler(probes, on_throttle, reflex);
	reflex_tick(reflex);
	err = -pthread_create(&reflex->thread, NULL, reflex_thread, reflex);
	if (err) {
		reflex_free(reflex);
		return err;
	}
	if (pthread_getcpuclockid(reflex->thread, &reflex->cpu_clock) != 0)
		reflex->cpu_clock = CLOCK_MONOTONIC;
	*out = reflex;
	return 0;
}

void reflex_close(struct reflex *reflex)
{
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	reflex->stop = true;
	pthread_mutex_unlock(&reflex->lock);
	poke(reflex);
	pthread_join(reflex->thread, NULL);
	probes_set_throttle_handler(reflex->probes, NULL, NULL);
	for (uint32_t slot = 0; slot < reflex->max_slots; slot++)
		if (reflex->entries[slot].is_member)
			reflex_leave(reflex, slot);
	pthread_mutex_destroy(&reflex->lock);
	reflex_free(reflex);
}

void reflex_switch(struct reflex *reflex, bool is_on)
{
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	__atomic_store_n(&reflex->is_on, is_on, __ATOMIC_RELAXED);
	for (uint32_t slot = 0; slot < reflex->max_slots; slot++) {
		if (!reflex->entries[slot].is_member)
			continue;
		probes_slot(reflex->probes, slot)->no_reflex =
			!entry_is_on(reflex, &reflex->entries[slot]);
		if (is_on)
			watch_now(reflex, slot);
	}
	pthread_mutex_unlock(&reflex->lock);
	poke(reflex);
}

bool reflex_is_on(struct reflex *reflex)
{
	return reflex && __atomic_load_n(&reflex->is_on, __ATOMIC_RELAXED);
}

void reflex_set_budget(struct reflex *reflex, uint32_t millicores)
{
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	reflex->config.budget_millicores = millicores;
	reflex->budget.rate_ns = millicores * NS_OF_MC;
	pthread_mutex_unlock(&reflex->lock);
}

/* CPU time in which all CPUs were idle or ran what is nice, since the start; 0: not known. */
static uint64_t idle_ns(void)
{
	unsigned long long user, nice, system, idle, waiting;
	FILE *file = fopen("/proc/stat", "re");
	int count = 0;

	if (!file)
		return 0;
	count = fscanf(
		file, "cpu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &waiting);
	fclose(file);
	if (count != 5)
		return 0;
	return (nice + idle + waiting) * (SECOND_NS / (uint64_t)sysconf(_SC_CLK_TCK));
}

void reflex_tick(struct reflex *reflex)
{
	uint64_t idle, time_ns;

	if (!reflex)
		return;
	idle = idle_ns();
	time_ns = now_ns();
	pthread_mutex_lock(&reflex->lock);
	if (reflex->config.budget_millicores == 0 && reflex->tick_before_ns &&
		idle >= reflex->idle_before_ns) {
		uint64_t elapsed_ns = time_ns - reflex->tick_before_ns;
		/* Of the newest second; a tick may be another length. */
		double refilled_ns = (double)spare_spent_ns(&reflex->budget, time_ns) *
				     (double)elapsed_ns / (double)SECOND_NS;

		reflex->budget.rate_ns = spare_rate_ns(
			idle - reflex->idle_before_ns, (uint64_t)refilled_ns, elapsed_ns);
	}
	reflex->idle_before_ns = idle;
	reflex->tick_before_ns = time_ns;
	pthread_mutex_unlock(&reflex->lock);
}

void reflex_status(struct reflex *reflex, struct reflex_status *status)
{
	struct timespec used = {0};

	memset(status, 0, sizeof(*status));
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	*status = reflex->status;
	status->is_on = reflex->is_on;
	status->watched = reflex->watched_count;
	status->budget_ns = reflex->budget.rate_ns;
	status->spent_ns = spare_spent_ns(&reflex->budget, now_ns());
	pthread_mutex_unlock(&reflex->lock);
	if (clock_gettime(reflex->cpu_clock, &used) == 0)
		status->cpu_ns = (uint64_t)used.tv_sec * SECOND_NS + (uint64_t)used.tv_nsec;
}

void reflex_enter(struct reflex *reflex, uint32_t slot, const char *path, struct spare_share *share,
	const struct cgroup_limits *limits)
{
	struct entry *entry;

	if (!reflex)
		return;
	entry = &reflex->entries[slot];
	pthread_mutex_lock(&reflex->lock);
	*entry = (struct entry){.is_member = true,
		/* Of the slot's last owner: the list may still have it. */
		.is_watched = entry->is_watched,
		.epoch = probes_slot(reflex->probes, slot)->epoch,
		.fd = -1,
		.path = path,
		.share = share,
		.quota_us = limits->cpu_quota_us,
		.period_us = limits->cpu_period_us,
		.terms.burst_ns =
			limits->cpu_burst_us > 0 ? (uint64_t)limits->cpu_burst_us * 1000 : 0};
	terms_renew(reflex, slot);
	pthread_mutex_unlock(&reflex->lock);
}

void reflex_leave(struct reflex *reflex, uint32_t slot)
{
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	entry_end(reflex, slot);
	reflex->entries[slot].is_member = false;
	pthread_mutex_unlock(&reflex->lock);
}

void reflex_forget_share(struct reflex *reflex, struct spare_share *share)
{
	if (!reflex)
		return;
	pthread_mutex_lock(&reflex->lock);
	spare_leave(&reflex->budget, share);
	pthread_mutex_unlock(&reflex->lock);
}

bool reflex_hold(struct reflex *reflex, uint32_t slot)
{
	if (!reflex)
		return false;
	pthread_mutex_lock(&reflex->lock);
	/* What the period has used until now belongs to the old limit. */
	reflex->has_held = entry_is_on(reflex, &reflex->entries[slot]) &&
			   look(reflex, slot, &reflex->held) == 0;
	return reflex->has_held;
}

/* Either write is a refill to the kernel. */
static void limits_changed(
	struct reflex *reflex, uint32_t slot, const struct cgroup_limits *limits, uint64_t burst_ns)
{
	struct entry *entry = &reflex->entries[slot];
	struct refill_decision decision;

	if (limits->cpu_quota_us != entry->quota_us || limits->cpu_period_us != entry->period_us)
		entry->lowered_us = 0;
	entry->quota_us = limits->cpu_quota_us;
	entry->period_us = limits->cpu_period_us;
	entry->terms.burst_ns = burst_ns;
	terms_renew(reflex, slot);
	refill_requoted(&entry->state, entry->terms.quota_ns);
	if (!entry_is_on(reflex, entry))
		return;
	/* The kernel tells only once of a container that is throttled: it may have been before. */
	look_soon(reflex, slot);
	if (!reflex->has_held)
		return;
	decision = refill_settle(&entry->state, &entry->terms, &reflex->held, REFILL_running);
	if (decision.verdict != REFILL_WAIT)
		return;
	watch(reflex, slot, decision.from_ns, decision.until_ns);
	if (!reflex->armed_ns || decision.until_ns < reflex->armed_ns)
		timer_arm(reflex, decision.until_ns);
}

void reflex_release(struct reflex *reflex, uint32_t slot, const struct cgroup_limits *limits)
{
	const struct entry *entry;
	uint64_t burst_ns;

	if (!reflex)
		return;
	entry = &reflex->entries[slot];
	if (limits) {
		burst_ns = limits->cpu_burst_us > 0 ? (uint64_t)limits->cpu_burst_us * 1000 : 0;
		if (limits->cpu_quota_us != entry->quota_us ||
			limits->cpu_period_us != entry->period_us ||
			burst_ns != entry->terms.burst_ns)
			limits_changed(reflex, slot, limits, burst_ns);
	}
	pthread_mutex_unlock(&reflex->lock);
}

int64_t reflex_quota_us(const struct reflex *reflex, uint32_t slot, int64_t base_us)
{
	if (!reflex || !reflex->entries[slot].lowered_us)
		return base_us;
	return reflex->entries[slot].lowered_us;
}

void reflex_allow(struct reflex *reflex, uint32_t slot, const struct allowance *allowance,
	double target_us, int64_t declared_us, uint64_t expires_ns)
{
	struct entry *entry;

	if (!reflex)
		return;
	entry = &reflex->entries[slot];
	pthread_mutex_lock(&reflex->lock);
	entry->allowance = allowance ? *allowance : (struct allowance){.trigger_age_share = 0};
	entry->target_us = target_us;
	entry->declared_us = declared_us;
	entry->terms.expires_ns = expires_ns;
	terms_renew(reflex, slot);
	pthread_mutex_unlock(&reflex->lock);
}

void reflex_collect(struct reflex *reflex, uint32_t slot, struct reflex_counts *counts)
{
	struct entry *entry;

	memset(counts, 0, sizeof(*counts));
	if (!reflex)
		return;
	entry = &reflex->entries[slot];
	pthread_mutex_lock(&reflex->lock);
	*counts = entry->counts;
	memset(&entry->counts, 0, sizeof(entry->counts));
	/* An event may have been lost to a full ring: a mark that nobody looks after. */
	if (entry_is_on(reflex, entry) && !entry->is_watched)
		look_soon(reflex, slot);
	pthread_mutex_unlock(&reflex->lock);
}

size_t reflex_events(struct reflex *reflex, struct reflex_event *events, size_t most)
{
	size_t count = 0;

	if (!reflex)
		return 0;
	pthread_mutex_lock(&reflex->lock);
	if (reflex->events_next - reflex->events_told > EVENTS_KEPT) {
		reflex->status.events_lost +=
			reflex->events_next - reflex->events_told - EVENTS_KEPT;
		reflex->events_told = reflex->events_next - EVENTS_KEPT;
	}
	while (count < most && reflex->events_told < reflex->events_next)
		events[count++] = reflex->events[reflex->events_told++ % EVENTS_KEPT];
	pthread_mutex_unlock(&reflex->lock);
	return count;
}
