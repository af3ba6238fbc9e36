// SPDX-License-Identifier: Apache-2.0
#include "node/report.h"

#include "common/log.h"
#include "common/received.h"
#include "node/answer.h"
#include "node/report_encode.h"
#include "node/spool.h"

#include <curl/curl.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define ANSWER_BYTES_MAX (8 << 20)
/* How many spooled reports go out with one tick, so that a long outage does not delay actions. */
#define SPOOL_BURST 32
/* A body that small is sent as it is. */
#define DEFLATE_BYTES_LEAST 256
/* The fastest: reports are floats, which nothing makes much smaller. */
#define DEFLATE_LEVEL	  1
#define RETRY_AFTER_MAX_S 60

struct batch {
	uint8_t *bytes;
	size_t size;
	uint64_t sequence;
	uint64_t sampled_us; /* CLOCK_MONOTONIC */
	bool has_experience;
};

struct reporter {
	struct agent *agent;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct batch next; /* bytes NULL: none waits */
	bool stop;
	uint64_t sequence;
	struct spool *spool;
	struct poller *poller;
	CURL *curl;
	struct curl_slist *headers;
	struct curl_slist *deflate_headers; /* the same for a compressed body */
	bool learner_inflates;		    /* it said so in its last answer */
	uint8_t *deflated;
	size_t deflated_size; /* allocated */
	uint64_t retry_at_us; /* CLOCK_MONOTONIC; the learner asked to wait until then */
	char url[512];
	struct received answer;
};

void reporter_tick(struct agent *agent)
{
	struct reporter *reporter = agent->reporter;
	struct batch batch = {.sampled_us = monotonic_us()};
	struct batch displaced = {0};
	struct report_bytes report;

	if (!reporter)
		return;
	batch.sequence = ++reporter->sequence;
	/* Blind to requests, every cut would look harmless: hold. */
	if (report_encode(agent, batch.sequence, probes_sees_requests(agent->probes), &report)) {
		log_err("event=report error=\"out of memory\"");
		return;
	}
	batch.bytes = report.bytes;
	batch.size = report.size;
	batch.has_experience = report.experiences > 0;
	agent->status.experiences += report.experiences;
	pthread_mutex_lock(&reporter->lock);
	/* The thread is still at the last tick's: that one's states are stale, its experiences
	 * are not. */
	displaced = reporter->next;
	reporter->next = batch;
	pthread_cond_signal(&reporter->wake);
	pthread_mutex_unlock(&reporter->lock);
	if (displaced.bytes && displaced.has_experience) {
		agent->status.reports_dropped +=
			(uint64_t)spool_put(reporter->spool, displaced.bytes, displaced.size);
		agent->status.reports_spooled++;
	}
	free(displaced.bytes);
}

/* "Accept-Encoding: deflate, gzip" in an answer: requests may be compressed (RFC 7694). */
static size_t header_received(char *data, size_t one, size_t count, void *context)
{
	static const char name[] = "accept-encoding:";
	struct reporter *reporter = context;
	size_t size = one * count;

	if (size > sizeof(name) && strncasecmp(data, name, sizeof(name) - 1) == 0)
		reporter->learner_inflates = memmem(data, size, "deflate", 7) != NULL;
	return size;
}

uint64_t report_retry_at_us(uint64_t now_us, long after_s, uint32_t random)
{
	uint64_t wait_us;

	if (after_s < 0)
		after_s = 0;
	if (after_s > RETRY_AFTER_MAX_S)
		after_s = RETRY_AFTER_MAX_S;
	wait_us = (uint64_t)after_s * 1000000;
	return now_us + wait_us + wait_us / 4 * (random % 1024) / 1024;
}

/* The compressed body, or NULL when it is better sent as it is. */
static const uint8_t *body_deflate(struct reporter *reporter, const uint8_t *bytes, size_t *size)
{
	enum report_encoding encoding = reporter->agent->config.report_encoding;
	uLong bound = compressBound(*size);

	if (encoding == REPORT_IDENTITY || *size < DEFLATE_BYTES_LEAST ||
		(encoding == REPORT_AUTO && !reporter->learner_inflates))
		return NULL;
	if (bound > reporter->deflated_size) {
		free(reporter->deflated);
		reporter->deflated = malloc(bound);
		reporter->deflated_size = reporter->deflated ? bound : 0;
	}
	if (!reporter->deflated ||
		compress2(reporter->deflated, &bound, bytes, *size, DEFLATE_LEVEL) != Z_OK)
		return NULL;
	*size = bound;
	return reporter->deflated;
}

/* The learner is busy or not leading, and says when to come again. */
static void retry_note(struct reporter *reporter, long status)
{
	uint64_t now_us = monotonic_us();
	curl_off_t after_s = 0;

	curl_easy_getinfo(reporter->curl, CURLINFO_RETRY_AFTER, &after_s);
	if (after_s > 0)
		reporter->retry_at_us = report_retry_at_us(
			now_us, (long)after_s, (uint32_t)(now_us ^ now_us >> 10));
	if (status != 429)
		return;
	pthread_mutex_lock(&reporter->agent->lock);
	reporter->agent->status.reports_deferred++;
	pthread_mutex_unlock(&reporter->agent->lock);
}

/* 0, or -errno with the reason in @reason: -EAGAIN when it is worth trying again. */
static int post(struct reporter *reporter, const uint8_t *bytes, size_t size, char *reason,
	size_t reason_size)
{
	const uint8_t *deflated;
	CURLcode code;
	long status = 0;

	reporter->answer.size = 0;
	if (monotonic_us() < reporter->retry_at_us) {
		snprintf(reason, reason_size, "waits as the learner asked");
		return -EAGAIN;
	}
	deflated = body_deflate(reporter, bytes, &size);
	/* What it does not say again it does not offer any more. */
	reporter->learner_inflates = false;
	if (deflated)
		bytes = deflated;
	curl_easy_setopt(reporter->curl, CURLOPT_HTTPHEADER,
		deflated ? reporter->deflate_headers : reporter->headers);
	curl_easy_setopt(reporter->curl, CURLOPT_POSTFIELDS, (const char *)bytes);
	curl_easy_setopt(reporter->curl, CURLOPT_POSTFIELDSIZE, (long)size);
	code = curl_easy_perform(reporter->curl);
	if (code != CURLE_OK) {
		snprintf(reason, reason_size, "%s", curl_easy_strerror(code));
		return -EAGAIN;
	}
	curl_easy_getinfo(reporter->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200)
		return 0;
	if (status == 429 || status == 503)
		retry_note(reporter, status);
	snprintf(reason, reason_size, "HTTP %ld: %.*s", status,
		(int)(reporter->answer.size < 100 ? reporter->answer.size : 100),
		received_text(&reporter->answer));
	for (char *c = reason; *c; c++)
		if (*c == '\n' || *c == '"')
			*c = ' ';
	/* Another learner took over that does not take it: the next time it is sent plain. */
	if (status == 415 && deflated && reporter->agent->config.report_encoding == REPORT_AUTO)
		return -EAGAIN;
	/* Refused for what it says: sending it again would be refused again. */
	return status >= 400 && status < 500 && status != 429 ? -EINVAL : -EAGAIN;
}

/* What makes no sense in it comes to nothing in refill_allow(). */
static void plan_from_wire(const Ebbtide__Wire__Action *action, struct plan *plan)
{
	const Ebbtide__Wire__Allowance *allowance = action->allowance;

	*plan = (struct plan){.cpu_millicores = action->cpu_limit_millicores,
		.memory_bytes = action->memory_limit_bytes,
		.cpu_rung = action->cpu_rung,
		.violation_price = action->violation_price};
	if (action->cpu_request_millicores > 0) {
		plan->cpu_millicores = action->cpu_request_millicores;
		plan->reserves = true;
	}
	if (!allowance)
		return;
	plan->burst_us = allowance->burst_us;
	plan->allowance =
		(struct allowance){.trigger_age_share = (double)allowance->trigger_age_share,
			.refills_per_period = allowance->refills_per_period,
			.ceiling_millicores = allowance->ceiling_millicores};
}

static void action_note(struct unit *unit, const Ebbtide__Wire__Action *action)
{
	snprintf(unit->rule, sizeof(unit->rule), "%s", action->rule);
	snprintf(unit->policy, sizeof(unit->policy), "%s", action->policy);
	snprintf(unit->why, sizeof(unit->why), "%s", action->why);
	unit->action = action->action;
	unit->acted = true;
	if (isfinite(action->violation_price))
		state_note_plan(&unit->history, action->cpu_rung, action->violation_price);
	if (action->action >= ACTION_VERTICAL)
		return;
	state_note_action(&unit->history, action_cpu_direction(action->action),
		action_memory_direction(action->action));
	unit->actions_cpu += action_cpu_direction(action->action) != 0;
	unit->actions_memory += action_memory_direction(action->action) != 0;
}

/* The owner's limits come back once: what moves after that is not ours. */
static void unit_leave(struct agent *agent, struct unit *unit, bool leave)
{
	bool was = unit->is_left;

	unit->is_left = leave && unit->objective.mode == OBJECTIVE_AUTO;
	if (unit->is_left && !was)
		(void)actuate_restore(agent, unit);
}

static void action_apply(
	struct agent *agent, struct unit *unit, const Ebbtide__Wire__Action *action)
{
	struct plan plan;

	if (!unit->has_objective)
		return;
	action_note(unit, action);
	unit_leave(agent, unit, action->release);
	if (unit->is_left || !action->apply || unit->objective.mode != OBJECTIVE_AUTO)
		return;
	plan_from_wire(action, &plan);
	allowance_take(agent, unit, &plan);
	actuate_unit(agent, unit);
}

/* An answer and a push may overtake each other on their two connections. */
static bool action_is_newer(
	struct unit *unit, const Ebbtide__Wire__Answer *answer, const Ebbtide__Wire__Action *action)
{
	uint64_t number = action->number ? action->number : answer->number;

	if (answer->learner == unit->action_learner && number < unit->action_number)
		return false;
	unit->action_learner = answer->learner;
	unit->action_number = number;
	return true;
}

size_t reporter_apply(struct agent *agent, const Ebbtide__Wire__Answer *answer)
{
	size_t left_out = 0;

	for (size_t i = 0; i < answer->n_actions; i++) {
		const Ebbtide__Wire__Action *action = answer->actions[i];
		struct unit *unit = units_find(&agent->units, action->namespace_, action->service);

		if (unit && !action_is_newer(unit, answer, action))
			left_out++;
		else if (unit)
			action_apply(agent, unit, action);
	}
	return left_out;
}

static void answer_apply(struct reporter *reporter, const struct batch *batch)
{
	struct agent *agent = reporter->agent;
	struct answer_memory memory;
	Ebbtide__Wire__Answer *answer = answer_decode(
		&memory, (const uint8_t *)received_text(&reporter->answer), reporter->answer.size);

	pthread_mutex_lock(&agent->lock);
	if (!answer || answer->sequence != batch->sequence) {
		snprintf(agent->status.learner_error, sizeof(agent->status.learner_error),
			"its answer is not one (%zu bytes)", reporter->answer.size);
		log_err("learner=%s error=\"%s\"", reporter->url, agent->status.learner_error);
	} else {
		(void)reporter_apply(agent, answer);
		agent->status.last_answer_us = monotonic_us();
		agent->status.action_latency_us = agent->status.last_answer_us - batch->sampled_us;
	}
	pthread_mutex_unlock(&agent->lock);
	answer_free(&memory);
}

static void learner_note(struct agent *agent, int err, const char *reason)
{
	bool was;

	pthread_mutex_lock(&agent->lock);
	was = agent->status.learner_reachable || agent->status.reports_sent == 0;
	agent->status.learner_reachable = err == 0;
	if (err) {
		if (was && strcmp(agent->status.learner_error, reason) != 0)
			log_warning("learner=%s error=\"%s\" effect=\"limits stay, experiences are "
				    "spooled\"",
				agent->config.learner_url, reason);
		snprintf(agent->status.learner_error, sizeof(agent->status.learner_error), "%s",
			reason);
	} else {
		if (agent->status.learner_error[0])
			log_notice(
				"learner=%s event=\"reachable again\"", agent->config.learner_url);
		agent->status.learner_error[0] = '\0';
		agent->status.reports_sent++;
	}
	pthread_mutex_unlock(&agent->lock);
}

/* The learner answered: what waited on disk goes now, oldest first. */
static void spool_deliver(struct reporter *reporter)
{
	char reason[160];

	for (int i = 0; i < SPOOL_BURST; i++) {
		uint64_t sequence;
		uint8_t *bytes;
		size_t size;
		int err = spool_oldest(reporter->spool, &sequence, &bytes, &size);

		if (err)
			return;
		err = post(reporter, bytes, size, reason, sizeof(reason));
		free(bytes);
		if (err == -EAGAIN)
			return;
		if (err)
			log_warning("spool=%llu error=\"refused by the learner: %s\" "
				    "effect=\"dropped\"",
				(unsigned long long)sequence, reason);
		spool_drop(reporter->spool, sequence);
	}
}

static void batch_send(struct reporter *reporter, struct batch *batch)
{
	struct agent *agent = reporter->agent;
	char reason[160] = "";
	int err = post(reporter, batch->bytes, batch->size, reason, sizeof(reason));

	if (!err) {
		answer_apply(reporter, batch);
	} else if (batch->has_experience && err == -EAGAIN) {
		int lost = spool_put(reporter->spool, batch->bytes, batch->size);

		pthread_mutex_lock(&agent->lock);
		agent->status.reports_spooled++;
		agent->status.reports_dropped += (uint64_t)(lost != 0);
		pthread_mutex_unlock(&agent->lock);
	}
	learner_note(agent, err, reason);
	if (!err)
		spool_deliver(reporter);
}

static void *report_thread(void *context)
{
	struct reporter *reporter = context;

	for (;;) {
		struct batch batch;

		pthread_mutex_lock(&reporter->lock);
		while (!reporter->stop && !reporter->next.bytes)
			pthread_cond_wait(&reporter->wake, &reporter->lock);
		batch = reporter->next;
		memset(&reporter->next, 0, sizeof(reporter->next));
		if (reporter->stop) {
			pthread_mutex_unlock(&reporter->lock);
			/* What was learnt in the last tick is not lost by leaving. */
			if (batch.bytes && batch.has_experience)
				(void)spool_put(reporter->spool, batch.bytes, batch.size);
			free(batch.bytes);
			break;
		}
		pthread_mutex_unlock(&reporter->lock);
		batch_send(reporter, &batch);
		free(batch.bytes);
	}
	return NULL;
}

static int transfer_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct reporter *reporter = context;

	(void)a, (void)b, (void)c, (void)d;
	return atomic_load(&reporter->agent->stop) ? 1 : 0;
}

static int curl_setup(struct reporter *reporter)
{
	CURL *curl = curl_easy_init();

	if (!curl)
		return -ENOMEM;
	reporter->curl = curl;
	/* A batch is larger than 1 kB; waiting for 100-continue would cost a second. */
	reporter->headers = curl_slist_append(NULL, "Content-Type: application/x-protobuf");
	reporter->headers = curl_slist_append(reporter->headers, "Expect:");
	reporter->deflate_headers = curl_slist_append(NULL, "Content-Type: application/x-protobuf");
	reporter->deflate_headers = curl_slist_append(reporter->deflate_headers, "Expect:");
	reporter->deflate_headers =
		curl_slist_append(reporter->deflate_headers, "Content-Encoding: deflate");
	curl_easy_setopt(curl, CURLOPT_URL, reporter->url);
	curl_easy_setopt(curl, CURLOPT_POST, 1L);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "ebbtide-agent/" EBBTIDE_VERSION);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, received_take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reporter->answer);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, header_received);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, reporter);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 2000L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 5000L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, transfer_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, reporter);
	return 0;
}

int reporter_open(struct agent *agent)
{
	struct reporter *reporter = calloc(1, sizeof(*reporter));
	int err;

	if (!reporter)
		return -ENOMEM;
	reporter->agent = agent;
	reporter->answer.most = ANSWER_BYTES_MAX;
	pthread_mutex_init(&reporter->lock, NULL);
	pthread_cond_init(&reporter->wake, NULL);
	snprintf(reporter->url, sizeof(reporter->url), "%s/v1/report", agent->config.learner_url);
	err = spool_open(
		&reporter->spool, agent->config.state_directory, agent->config.spool_reports);
	if (!err)
		err = curl_setup(reporter);
	if (!err)
		err = -pthread_create(&reporter->thread, NULL, report_thread, reporter);
	if (err) {
		curl_easy_cleanup(reporter->curl);
		curl_slist_free_all(reporter->headers);
		curl_slist_free_all(reporter->deflate_headers);
		spool_close(reporter->spool);
		free(reporter);
		return err;
	}
	agent->reporter = reporter;
	/* Without it actions come with the next report, as before. */
	if (poller_open(agent, &reporter->poller))
		log_warning("event=poll error=\"no thread for it\"");
	return 0;
}

void reporter_close(struct agent *agent)
{
	struct reporter *reporter = agent->reporter;

	if (!reporter)
		return;
	pthread_mutex_lock(&reporter->lock);
	reporter->stop = true;
	pthread_cond_signal(&reporter->wake);
	pthread_mutex_unlock(&reporter->lock);
	pthread_join(reporter->thread, NULL);
	poller_close(reporter->poller);
	curl_easy_cleanup(reporter->curl);
	curl_slist_free_all(reporter->headers);
	curl_slist_free_all(reporter->deflate_headers);
	free(reporter->deflated);
	spool_close(reporter->spool);
	free(reporter->answer.bytes);
	free(reporter);
	agent->reporter = NULL;
}
