// SPDX-License-Identifier: Apache-2.0
#include "node/limits/resize.h"

#include "common/log.h"
#include "node/agent.h"
#include "node/limits/reserve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the state on disk, among the cgroups' paths, which begin with a slash. */
#define KEPT_PREFIX	   "pod:"
#define PATCH_TYPE	   "application/strategic-merge-patch+json"
#define REQUEST_TIMEOUT_MS 5000
/* A kubelet that has not carried out a patch by then is deferring it; a newer one replaces it. */
#define SETTLE_US     (30 * 1000000ULL)
#define RETRY_US      1000000ULL
#define RETRY_MOST_US (64 * RETRY_US)
/* Each patch is a write in the API server and an event to who watches: a cut can wait that long. */
#define CUT_PAUSE_US (5 * 1000000ULL)
/* How often patches that wait for the kubelet or for their time are looked at. */
#define LOOK_MS 200
/* Within the pod's grace period of 30 s. */
#define LEAVE_US (15 * 1000000ULL)

struct resizer {
	struct agent *agent;
	struct kube_client *client;
	pthread_t thread;
	pthread_cond_t wake;  /* with the agent's lock */
	uint64_t leave_at_us; /* 0: not leaving */
};

static int64_t quota_of(const struct container *container, double millicores)
{
	return (int64_t)(millicores * (double)container->original.cpu_period_us / 1000 + 0.5);
}

bool resize_wrote_quota(const struct container *container, int64_t quota_us)
{
	/* systemd keeps quotas in steps of a hundredth of the period and rounds up. */
	int64_t step_us = container->original.cpu_period_us / 100;

	for (int i = 0; i < RESIZE_ASKED; i++) {
		int64_t asked_us = container->resize.asked[i].cpu_quota_us;

		if (asked_us > 0 && quota_us >= asked_us && quota_us < asked_us + step_us)
			return true;
	}
	return false;
}

bool resize_wrote_weight(const struct container *container, int64_t weight)
{
	/* The runtime's formula is not told by every weight: either is what the kubelet asked for. */
	bool shares = container->reserve.scale == CPU_WEIGHT_SHARES;

	for (int i = 0; i < RESIZE_ASKED; i++) {
		double asked = container->resize.asked_request[i];

		if (asked <= 0)
			continue;
		if (shares ? weight == cpu_weight_of(CPU_WEIGHT_SHARES, asked)
			   : weight == cpu_weight_of(CPU_WEIGHT_LINEAR, asked) ||
					weight == cpu_weight_of(CPU_WEIGHT_QUADRATIC, asked))
			return true;
	}
	return false;
}

/* As the kernel keeps them. */
static int64_t whole_pages(int64_t bytes)
{
	return bytes - bytes % sysconf(_SC_PAGESIZE);
}

bool resize_wrote_memory(const struct container *container, int64_t bytes)
{
	for (int i = 0; i < RESIZE_ASKED; i++) {
		int64_t asked = container->resize.asked[i].memory_max_bytes;

		if (asked > 0 && bytes == whole_pages(asked))
			return true;
	}
	return false;
}

static void wake(struct agent *agent)
{
	pthread_cond_signal(&agent->resizer->wake);
}

/*
 * A container that starts again has another cgroup, and its pod's spec still our limits: the owner's
 * are kept by pod and name.
 */
static void kept_key(const char *pod_uid, const char *container, char *key, size_t size)
{
	snprintf(key, size, KEPT_PREFIX "%s/%s", pod_uid, container);
}

static void keep(struct agent *agent, const struct container *container)
{
	json_t *kept = json_pack("{s:I}", "incarnation", (json_int_t)agent->started_unix_us);
	char key[192];

	kept_key(container->pod_uid, container->name, key, sizeof(key));
	if (kept)
		resize_spec_save(&container->resize.spec, kept);
	agent->originals_changed = true;
	json_object_set_new(agent->originals, key, kept);
}

/* What the owner's limits are in the cgroup, where there may be others of ours now. */
static void derive_original(struct agent *agent, struct container *container)
{
	const struct resize_value *values = container->resize.spec.values;
	struct cgroup_limits *original = &container->original;

	if (values[RESIZE_CPU].limit > 0 && original->cpu_quota_us > 0)
		original->cpu_quota_us = quota_of(container, values[RESIZE_CPU].limit);
	if (values[RESIZE_MEMORY].limit > 0 && original->memory_max_bytes > 0)
		original->memory_max_bytes = whole_pages((int64_t)values[RESIZE_MEMORY].limit);
	actuate_keep_original(agent, container);
}

void resize_adopt(struct agent *agent, struct container *container, const json_t *pod)
{
	struct container_resize *resize = &container->resize;
	char key[192];

	if (!agent->resizer)
		return;
	kept_key(container->pod_uid, container->name, key, sizeof(key));
	resize->known = resize_spec_read(&resize->spec, pod, container->name);
	if (resize->known &&
		resize_spec_load(&resize->spec, json_object_get(agent->originals, key)))
		derive_original(agent, container);
	if (resize->known)
		keep(agent, container);
}

/* Whether @key is the pod's, or with NULL any pod's. */
static bool key_is_of(const char *key, const char *pod_uid)
{
	size_t prefix = strlen(KEPT_PREFIX), length = pod_uid ? strlen(pod_uid) : 0;

	return strncmp(key, KEPT_PREFIX, prefix) == 0 &&
	       (!pod_uid || (strncmp(key + prefix, pod_uid, length) == 0 &&
				    key[prefix + length] == '/'));
}

/* Whether this run of the agent has seen the pod. */
static bool is_seen(const struct agent *agent, const json_t *kept)
{
	return json_integer_value(json_object_get(kept, "incarnation")) ==
	       (json_int_t)agent->started_unix_us;
}

void resize_see_pod(struct agent *agent, const char *pod_uid)
{
	const char *key;
	json_t *kept;

	json_object_foreach (agent->originals, key, kept) {
		/* A pod's status changes often, what is on disk then does not. */
		if (!key_is_of(key, pod_uid) || is_seen(agent, kept))
			continue;
		agent->originals_changed = true;
		json_object_set_new(
			kept, "incarnation", json_integer((json_int_t)agent->started_unix_us));
	}
}

void resize_forget_pod(struct agent *agent, const char *pod_uid)
{
	const char *key;
	json_t *kept;
	void *next;

	json_object_foreach_safe(agent->originals, next, key, kept)
	{
		if (!key_is_of(key, pod_uid) || (!pod_uid && is_seen(agent, kept)))
			continue;
		agent->originals_changed = true;
		json_object_del(agent->originals, key);
	}
}

void resize_forget(struct agent *agent, const struct container *container)
{
	char key[192];

	kept_key(container->pod_uid, container->name, key, sizeof(key));
	if (json_object_del(agent->originals, key) == 0)
		agent->originals_changed = true;
}

/* The API took it, and still nothing changes: said when it begins. */
static void note_pending(struct container *container, const json_t *pod)
{
	struct container_resize *resize = &container->resize;
	const char *message, *reason = resize_pending(pod, &message);

	if (!reason)
		resize->pending[0] = '\0';
	if (!reason || strncmp(reason, resize->pending, sizeof(resize->pending) - 1) == 0)
		return;
	snprintf(resize->pending, sizeof(resize->pending), "%s", reason);
	log_warning("pod=%s container=%s event=resize pending=%s error=\"%s\" effect=\"the kubelet "
		    "leaves the limits as they are\"",
		container->pod, container->name, reason, message);
}

void resize_observe(struct agent *agent, struct container *container, const json_t *pod)
{
	struct container_resize *resize = &container->resize;
	const char *version = kube_string(pod, "metadata", "resourceVersion", NULL);

	if (agent->resizer)
		note_pending(container, pod);
	if (!agent->resizer || !resize->known || resize->in_flight || !version ||
		strtoull(version, NULL, 10) <= resize->version)
		return;
	if (!resize_spec_observe(&resize->spec, pod, container->name))
		return;
	keep(agent, container);
	log_notice("pod=%s container=%s event=\"the owner changed the pod's limits\"",
		container->pod, container->name);
}

void resize_ask(struct agent *agent, struct container *container, int64_t quota_us,
	double request_millicores, int64_t memory_bytes)
{
	struct resize_spec *spec = &container->resize.spec;

	if (!container->resize.known)
		return;
	if (quota_us > 0)
		resize_spec_want(spec, RESIZE_CPU,
			1000.0 * (double)quota_us / (double)container->original.cpu_period_us);
	if (request_millicores > 0)
		resize_spec_want_request(spec, fmin(request_millicores, reserve_most_millicores()));
	if (memory_bytes > 0)
		resize_spec_want(spec, RESIZE_MEMORY, (double)memory_bytes);
	if (resize_spec_is_due(spec))
		wake(agent);
}

bool resize_restore(struct agent *agent, struct container *container)
{
	if (!container->resize.known || !resize_spec_want_declared(&container->resize.spec))
		return false;
	container->resize.retry_at_us = 0;
	wake(agent);
	return true;
}

/* --- the thread --- */

/* Whether the kubelet has done what it was asked to last. */
static bool settled(const struct container *container, uint64_t now_us)
{
	const struct container_resize *resize = &container->resize;

	return !resize->sent_us || now_us - resize->sent_us >= SETTLE_US ||
	       ((!resize->spec.values[RESIZE_CPU].reserves ||
			resize_wrote_weight(container, container->current.cpu_weight)) &&
		       (container->current.cpu_quota_us <= 0 ||
			       resize_wrote_quota(container, container->current.cpu_quota_us)) &&
		       (container->current.memory_max_bytes <= 0 ||
			       resize_wrote_memory(
				       container, container->current.memory_max_bytes)));
}

/* Not yet: a patch failed just now, the kubelet is at the last, or it is a cut soon after another. */
static bool must_wait(const struct container *container, uint64_t now_us)
{
	const struct container_resize *resize = &container->resize;
	bool raises = false;

	for (int i = 0; i < RESIZE_COUNT; i++)
		raises |= resize->spec.values[i].want > resize->spec.values[i].spec;
	return now_us < resize->retry_at_us || !settled(container, now_us) ||
	       (!raises && resize->sent_us && now_us - resize->sent_us < CUT_PAUSE_US);
}

/* The one that has waited longest; *@waiting: others are due, but not now. */
static struct container *next_due(struct resizer *resizer, uint64_t now_us, bool *waiting)
{
	struct units *units = &resizer->agent->units;
	struct container *next = NULL;

	*waiting = false;
	for (size_t i = 0; i < units->count; i++) {
		for (size_t k = 0; k < units->items[i]->container_count; k++) {
			struct container *one = units->items[i]->containers[k];

			if (!one->resize.known || !resize_spec_is_due(&one->resize.spec))
				continue;
			/* Leaving, each is tried once, whatever it waits for. */
			if (resizer->leave_at_us ? one->resize.retry_at_us == UINT64_MAX
						 : must_wait(one, now_us))
				*waiting = true;
			else if (!next || one->resize.sent_us < next->resize.sent_us)
				next = one;
		}
	}
	return next;
}

static struct container *find(struct agent *agent, const char *id)
{
	struct container *found = NULL;

	for (size_t i = 0; i < agent->units.count && !found; i++)
		found = unit_find_container(agent->units.items[i], id);
	return found;
}

/* Before it is sent: the kubelet may be faster than the answer. */
static void note_asked(struct container *container)
{
	struct container_resize *resize = &container->resize;
	const struct resize_value *cpu = &resize->spec.values[RESIZE_CPU];
	uint32_t at = resize->asked_next++ % RESIZE_ASKED;
	struct cgroup_limits *asked = &resize->asked[at];

	asked->cpu_quota_us = cpu->reserves ? 0 : quota_of(container, cpu->want);
	resize->asked_request[at] = cpu->reserves ? cpu->want : 0;
	asked->memory_max_bytes = (int64_t)resize->spec.values[RESIZE_MEMORY].want;
	resize->in_flight = true;
	resize->sent_us = monotonic_us();
}

static void note_refusal(struct resizer *resizer, struct container *container, int err)
{
	struct container_resize *resize = &container->resize;
	uint64_t pause_us = RETRY_US << (resize->failures < 6 ? resize->failures : 6);
	struct resize_value *memory = &resize->spec.values[RESIZE_MEMORY];
	bool memory_falls = memory->want < memory->spec, restoring = true;

	for (int i = 0; i < RESIZE_COUNT; i++)
		restoring &= resize->spec.values[i].want ==
			     resize_value_declared(&resize->spec.values[i]);
	/* Said once a series: the reason is seldom another. */
	if (!resize->failures)
		log_warning("pod=%s container=%s event=resize error=\"%s\"%s", container->pod,
			container->name, kube_last_error(resizer->client),
			err == -ENOENT ? " do=\"a pod that is gone, or Kubernetes before 1.33\""
				       : "");
	resize->failures++;
	resize->retry_at_us = monotonic_us() + pause_us;
	if (err == -EINVAL) {
		resize_spec_refused(&resize->spec);
		resize->retry_at_us = memory_falls ? 0 : monotonic_us() + RETRY_MOST_US;
	}
	/* The owner's limits are in force with or without the API. */
	if (restoring)
		actuate_restore_cgroup(resizer->agent, container);
	if (resizer->leave_at_us)
		resize->retry_at_us = UINT64_MAX;
}

static void note_answer(
	struct resizer *resizer, struct container *container, int err, const json_t *pod)
{
	struct container_resize *resize = &container->resize;
	const char *version = kube_string(pod, "metadata", "resourceVersion", NULL);

	resize->in_flight = false;
	if (err) {
		note_refusal(resizer, container, err);
		return;
	}
	resize->failures = 0;
	resize->version = version ? strtoull(version, NULL, 10) : 0;
	resizer->agent->status.limit_writes++;
}

/* With the lock, which is given up for the request. */
static void send_one(struct resizer *resizer, struct container *container)
{
	struct agent *agent = resizer->agent;
	json_t *body = resize_spec_patch(&container->resize.spec, container->name), *pod = NULL;
	double sent[RESIZE_COUNT];
	char path[768], id[sizeof(container->id)];
	int err;

	if (!body) {
		container->resize.retry_at_us = monotonic_us() + RETRY_US;
		return;
	}
	snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods/%s/resize",
		container->unit->namespace, container->pod);
	memcpy(id, container->id, sizeof(id));
	for (int i = 0; i < RESIZE_COUNT; i++)
		sent[i] = container->resize.spec.values[i].want;
	note_asked(container);
	/* On disk before the change. */
	keep(agent, container);
	(void)actuate_save(agent);
	pthread_mutex_unlock(&agent->lock);
	err = kube_request(resizer->client, "PATCH", path, PATCH_TYPE, body, NULL, &pod);
	json_decref(body);
	pthread_mutex_lock(&agent->lock);
	container = find(agent, id);
	if (container) {
		for (int i = 0; i < RESIZE_COUNT && !err; i++)
			container->resize.spec.values[i].spec = sent[i];
		note_answer(resizer, container, err, pod);
	}
	json_decref(pod);
}

static void *resize_thread(void *context)
{
	struct resizer *resizer = context;
	struct agent *agent = resizer->agent;

	pthread_mutex_lock(&agent->lock);
	for (;;) {
		uint64_t now_us = monotonic_us();
		bool waiting;
		struct container *container = next_due(resizer, now_us, &waiting);
		struct timespec until;

		if (resizer->leave_at_us && (!container || now_us >= resizer->leave_at_us))
			break;
		if (container) {
			send_one(resizer, container);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (waiting ? LOOK_MS : 999) * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		(void)pthread_cond_timedwait(&resizer->wake, &agent->lock, &until);
	}
	pthread_mutex_unlock(&agent->lock);
	return NULL;
}

int resize_open(struct agent *agent)
{
	struct resizer *resizer = calloc(1, sizeof(*resizer));
	pthread_condattr_t monotonic;
	int err = -ENOMEM;

	if (!resizer)
		return err;
	resizer->agent = agent;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&resizer->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	resizer->client = kube_client_new(&agent->kube, "ebbtide-agent/" EBBTIDE_VERSION);
	if (resizer->client) {
		kube_client_set_timeout(resizer->client, REQUEST_TIMEOUT_MS);
		err = -pthread_create(&resizer->thread, NULL, resize_thread, resizer);
	}
	if (err) {
		kube_client_free(resizer->client);
		free(resizer);
		return err;
	}
	agent->resizer = resizer;
	return 0;
}

/* What the thread had no time for. */
static void write_the_rest(struct agent *agent)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		for (size_t k = 0; k < agent->units.items[i]->container_count; k++) {
			struct container *one = agent->units.items[i]->containers[k];

			if (one->resize.known && !resize_spec_is_declared(&one->resize.spec))
				actuate_restore_cgroup(agent, one);
		}
	}
}

void resize_close(struct agent *agent)
{
	struct resizer *resizer = agent->resizer;

	if (!resizer)
		return;
	pthread_mutex_lock(&agent->lock);
	resizer->leave_at_us = monotonic_us() + LEAVE_US;
	wake(agent);
	pthread_mutex_unlock(&agent->lock);
	pthread_join(resizer->thread, NULL);
	pthread_mutex_lock(&agent->lock);
	write_the_rest(agent);
	agent->resizer = NULL;
	pthread_mutex_unlock(&agent->lock);
	kube_client_free(resizer->client);
	free(resizer);
}
