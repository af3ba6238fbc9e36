// SPDX-License-Identifier: Apache-2.0
/* Leadership through a coordination.k8s.io Lease, as client-go's leader election does it. */
#include "common/log.h"
#include "learner/learner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LEASE_SECONDS	     15
#define LEASE_RENEW_PERIOD_S 2
/*
 * A leader that could not renew for so long steps down. An attempt that begins just before is two
 * requests long, and over before anyone else can take the lease.
 */
#define LEASE_RENEW_DEADLINE_S	 8
#define LEASE_REQUEST_TIMEOUT_MS 3000

struct lease_view {
	char holder[256];
	char renewed[64]; /* renewTime as it stands in the object */
	double seen_s;	  /* when that value was first seen, by our own clock */
	double ours_s;	  /* when the newest renewal that succeeded began */
};

static struct lease_view view;

static void time_micro(char *out, size_t size)
{
	struct timespec now;
	struct tm utc;
	size_t used;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	used = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + used, size - used, ".%06ldZ", now.tv_nsec / 1000);
}

static void lease_paths(
	const char *lease, char *list, char *one, size_t size, char *namespace, const char **name)
{
	const char *slash = strchr(lease, '/');

	snprintf(
		namespace, 64, "%.*s", slash ? (int)(slash - lease) : 7, slash ? lease : "default");
	*name = slash ? slash + 1 : lease;
	snprintf(list, size, "/apis/coordination.k8s.io/v1/namespaces/%s/leases", namespace);
	snprintf(one, size, "%s/%s", list, *name);
}

/* Stepping down is at once; the main thread takes over, which may need a while. */
static void elect(struct learner *learner, bool elected)
{
	if (!elected)
		atomic_store(&learner->leader, false);
	if (atomic_exchange(&learner->elected, elected) != elected)
		log_notice("event=\"%s\" lease=%s identity=%s", elected ? "elected" : "standing by",
			learner->config.lease, learner->config.identity);
}

static json_t *lease_spec(const struct learner *learner, const char *acquired, int transitions)
{
	char now[64];

	time_micro(now, sizeof(now));
	return json_pack("{s:s, s:i, s:s, s:s, s:i}", "holderIdentity", learner->config.identity,
		"leaseDurationSeconds", LEASE_SECONDS, "acquireTime", acquired ? acquired : now,
		"renewTime", now, "leaseTransitions", transitions);
}

static int lease_create(struct learner *learner, struct kube_client *client, const char *list,
	const char *namespace, const char *name)
{
	json_t *lease = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "apiVersion",
		"coordination.k8s.io/v1", "kind", "Lease", "metadata", "name", name, "namespace",
		namespace, "spec", lease_spec(learner, NULL, 0));
	int err = kube_request(client, "POST", list, KUBE_JSON, lease, NULL, NULL);

	json_decref(lease);
	return err;
}

static int lease_take(struct learner *learner, struct kube_client *client, const char *one,
	json_t *lease, bool ours)
{
	const json_t *spec = kube_get(lease, "spec", NULL);
	int transitions = (int)json_integer_value(json_object_get(spec, "leaseTransitions"));
	const char *acquired = ours ? kube_string(lease, "spec", "acquireTime", NULL) : NULL;

	/* The object goes back with its resourceVersion: two takers cannot both succeed. */
	json_object_set_new(
		lease, "spec", lease_spec(learner, acquired, transitions + (ours ? 0 : 1)));
	return kube_request(client, "PUT", one, KUBE_JSON, lease, NULL, NULL);
}

/* Who holds it, and since when we have seen no change; true when it may be taken or renewed. */
static bool lease_look(struct learner *learner, const json_t *lease, double now_s, bool *ours)
{
	const char *holder = kube_string(lease, "spec", "holderIdentity", NULL);
	const char *renewed = kube_string(lease, "spec", "renewTime", NULL);

	*ours = holder && strcmp(holder, learner->config.identity) == 0;
	if (strcmp(view.renewed, renewed ? renewed : "") != 0 ||
		strcmp(view.holder, holder ? holder : "") != 0) {
		snprintf(view.renewed, sizeof(view.renewed), "%s", renewed ? renewed : "");
		snprintf(view.holder, sizeof(view.holder), "%s", holder ? holder : "");
		view.seen_s = now_s;
	}
	/* Another's lease is over when it was not renewed while we watched for its whole length:
	 * clocks of two nodes need not agree. */
	return *ours || !holder || !holder[0] || now_s - view.seen_s >= LEASE_SECONDS;
}

static void lease_renew(struct learner *learner, struct kube_client *client)
{
	char list[512], one[768], namespace[64];
	double now_s = learner_now_s();
	const char *name;
	json_t *lease = NULL;
	bool ours;
	int err;

	lease_paths(learner->config.lease, list, one, sizeof(list), namespace, &name);
	err = kube_request(client, "GET", one, NULL, NULL, NULL, &lease);
	if (err == -ENOENT) {
		err = lease_create(learner, client, list, namespace, name);
	} else if (!err && !lease_look(learner, lease, now_s, &ours)) {
		elect(learner, false);
		goto out;
	} else if (!err) {
		err = lease_take(learner, client, one, lease, ours);
	}
	if (!err) {
		view.ours_s = now_s;
		elect(learner, true);
	} else if (learner_now_s() - view.ours_s > LEASE_RENEW_DEADLINE_S) {
		if (atomic_load(&learner->elected))
			log_warning("lease=%s error=\"%s\" effect=\"not renewed in time\"",
				learner->config.lease, kube_last_error(client));
		elect(learner, false);
	}
out:
	json_decref(lease);
}

/* So that the next one need not wait until it is over. */
static void lease_release(struct learner *learner, struct kube_client *client)
{
	char list[512], one[768], namespace[64];
	json_t *lease = NULL, *spec;
	const char *name;
	bool ours;

	if (!atomic_load(&learner->elected))
		return;
	lease_paths(learner->config.lease, list, one, sizeof(list), namespace, &name);
	if (!kube_request(client, "GET", one, NULL, NULL, NULL, &lease) &&
		lease_look(learner, lease, learner_now_s(), &ours) && ours) {
		spec = kube_get(lease, "spec", NULL);
		json_object_set_new(spec, "holderIdentity", json_string(""));
		json_object_set_new(spec, "leaseDurationSeconds", json_integer(1));
		(void)kube_request(client, "PUT", one, KUBE_JSON, lease, NULL, NULL);
	}
	json_decref(lease);
}

void *lease_thread(void *context)
{
	struct learner *learner = context;
	struct kube_client *client = learner_client(learner, "lease");

	if (!client)
		return NULL;
	kube_client_set_timeout(client, LEASE_REQUEST_TIMEOUT_MS);
	while (!atomic_load(&learner->stop)) {
		double again_s = learner_now_s() + LEASE_RENEW_PERIOD_S;

		lease_renew(learner, client);
		learner_rest_until(learner, again_s);
	}
	lease_release(learner, client);
	kube_client_free(client);
	return NULL;
}
