// SPDX-License-Identifier: Apache-2.0
/* What the threads that ask the API server share: a client of their own, and rests that a stop ends. */
#include "common/log.h"
#include "learner/learner.h"

#include <time.h>

struct kube_client *learner_client(const struct learner *learner, const char *thread)
{
	struct kube_client *client =
		kube_client_new(&learner->kube, "ebbtide-learner/" EBBTIDE_VERSION);

	if (!client)
		log_err("thread=%s error=\"out of memory\"", thread);
	return client;
}

void learner_rest_until(const struct learner *learner, double until_s)
{
	const struct timespec piece = {.tv_nsec = 50 * 1000000L};

	while (learner_now_s() < until_s && !atomic_load(&learner->stop))
		nanosleep(&piece, NULL);
}

void learner_repeat(
	struct learner *learner, const char *thread, double period_s, learner_turn *turn)
{
	struct kube_client *client = learner_client(learner, thread);

	if (!client)
		return;
	while (!atomic_load(&learner->stop)) {
		double again_s = learner_now_s() + period_s;

		turn(learner, client);
		learner_rest_until(learner, again_s);
	}
	kube_client_free(client);
}
