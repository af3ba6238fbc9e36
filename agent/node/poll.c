// SPDX-License-Identifier: Apache-2.0
/* One poll held open at the learner, for actions that it does not keep for the next report. */
#include "common/log.h"
#include "common/received.h"
#include "node/answer.h"
#include "node/report.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_BYTES_MAX (1 << 20)
/* The learner answers after 50 s at the latest. */
#define POLL_TIMEOUT_MS 70000L
/* Between two polls of which the first brought an error. */
#define PAUSE_S 2
/* A learner that does not know polls will not learn it soon. */
#define UNKNOWN_PAUSE_S 60

struct poller {
	struct agent *agent;
	pthread_t thread;
	atomic_bool stop;
	CURL *curl;
	char *node; /* escaped */
	uint64_t learner;
	uint64_t number; /* of the newest answer to a poll */
	struct received answer;
	bool told_unknown;
};

static bool stopped(const struct poller *poller)
{
	return atomic_load(&poller->stop) || atomic_load(&poller->agent->stop);
}

static int progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a, (void)b, (void)c, (void)d;
	return stopped(context);
}

static void pause_until(const struct poller *poller, uint64_t until_us)
{
	const struct timespec piece = {.tv_nsec = 100 * 1000000L};

	while (!stopped(poller) && monotonic_us() < until_us)
		nanosleep(&piece, NULL);
}

static void answer_take(struct poller *poller)
{
	struct agent *agent = poller->agent;
	struct answer_memory memory;
	Ebbtide__Wire__Answer *answer = answer_decode(
		&memory, (const uint8_t *)received_text(&poller->answer), poller->answer.size);

	if (!answer) {
		log_err("learner=%s event=poll error=\"its answer is not one (%zu bytes)\"",
			agent->config.learner_url, poller->answer.size);
		answer_free(&memory);
		return;
	}
	pthread_mutex_lock(&agent->lock);
	agent->status.actions_pushed += answer->n_actions - reporter_apply(agent, answer);
	pthread_mutex_unlock(&agent->lock);
	poller->learner = answer->learner;
	poller->number = answer->number;
	answer_free(&memory);
}

/* One poll; how long to rest after it, in seconds. */
static long poll_once(struct poller *poller)
{
	const char *base = poller->agent->config.learner_url;
	char url[1400];
	curl_off_t after_s = 0;
	CURLcode code;
	long status = 0;

	snprintf(url, sizeof(url), "%s/v1/actions?agent=%s&learner=%llu&after=%llu", base,
		poller->node, (unsigned long long)poller->learner,
		(unsigned long long)poller->number);
	poller->answer.size = 0;
	curl_easy_setopt(poller->curl, CURLOPT_URL, url);
	code = curl_easy_perform(poller->curl);
	if (code != CURLE_OK)
		return PAUSE_S;
	curl_easy_getinfo(poller->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200)
		answer_take(poller);
	if (status == 200 || status == 204)
		return 0;
	if (status == 404 && !poller->told_unknown)
		log_info("learner=%s event=poll error=\"it does not know polls\" "
			 "effect=\"actions come with the next report\"",
			base);
	poller->told_unknown = status == 404;
	if (status == 404)
		return UNKNOWN_PAUSE_S;
	curl_easy_getinfo(poller->curl, CURLINFO_RETRY_AFTER, &after_s);
	return after_s > PAUSE_S ? (long)after_s : PAUSE_S;
}

static bool reachable(struct agent *agent)
{
	bool is;

	pthread_mutex_lock(&agent->lock);
	is = agent->status.learner_reachable;
	pthread_mutex_unlock(&agent->lock);
	return is;
}

static void *poll_thread(void *context)
{
	struct poller *poller = context;
	struct agent *agent = poller->agent;

	while (!stopped(poller)) {
		/* Reports find out whether it is there; a poll has nothing to add to that. */
		long rest_s = reachable(agent) ? poll_once(poller) : 1;
		uint64_t now_us = monotonic_us();

		if (rest_s > 0)
			pause_until(poller, report_retry_at_us(now_us, rest_s,
						    (uint32_t)(now_us ^ now_us >> 10)));
	}
	return NULL;
}

int poller_open(struct agent *agent, struct poller **out)
{
	struct poller *poller = calloc(1, sizeof(*poller));
	int err = -ENOMEM;

	if (!poller)
		return err;
	poller->agent = agent;
	poller->answer.most = ANSWER_BYTES_MAX;
	poller->curl = curl_easy_init();
	poller->node = poller->curl ? curl_easy_escape(poller->curl, agent->config.node, 0) : NULL;
	if (!poller->node)
		goto out;
	curl_easy_setopt(poller->curl, CURLOPT_USERAGENT, "ebbtide-agent/" EBBTIDE_VERSION);
	curl_easy_setopt(poller->curl, CURLOPT_WRITEFUNCTION, received_take);
	curl_easy_setopt(poller->curl, CURLOPT_WRITEDATA, &poller->answer);
	curl_easy_setopt(poller->curl, CURLOPT_CONNECTTIMEOUT_MS, 2000L);
	curl_easy_setopt(poller->curl, CURLOPT_TIMEOUT_MS, POLL_TIMEOUT_MS);
	curl_easy_setopt(poller->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(poller->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(poller->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(poller->curl, CURLOPT_XFERINFOFUNCTION, progress);
	curl_easy_setopt(poller->curl, CURLOPT_XFERINFODATA, poller);
	err = -pthread_create(&poller->thread, NULL, poll_thread, poller);
out:
	if (err) {
		curl_free(poller->node);
		curl_easy_cleanup(poller->curl);
		free(poller);
		return err;
	}
	*out = poller;
	return 0;
}

void poller_close(struct poller *poller)
{
	if (!poller)
		return;
	atomic_store(&poller->stop, true);
	pthread_join(poller->thread, NULL);
	curl_free(poller->node);
	curl_easy_cleanup(poller->curl);
	free(poller->answer.bytes);
	free(poller);
}
