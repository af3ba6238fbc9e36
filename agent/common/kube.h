// SPDX-License-Identifier: Apache-2.0
/*
 * A client of the Kubernetes API: TLS, client certificates, bearer tokens, list + watch.
 * Functions return 0 or -errno; the reason is kept in the client (kube_last_error).
 * A client is used by one thread at a time; make one a thread (the configuration can be shared).
 */
#ifndef EBBTIDE_KUBE_H
#define EBBTIDE_KUBE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

#define KUBE_JSON	     "application/json"
#define KUBE_MERGE_PATCH     "application/merge-patch+json"
#define KUBE_OBJECTIVES_PATH "/apis/ebbtide.io/v1alpha1/scaleobjectives"
#define KUBE_SERVICEACCOUNT  "/var/run/secrets/kubernetes.io/serviceaccount"

struct kube_config {
	char *server;	 /* https://host:port, no trailing slash */
	char *ca_file;	 /* PEM path, or NULL for the system's */
	char *cert_file; /* client certificate and key, PEM paths, or NULL */
	char *key_file;
	char *token;	     /* bearer token, or NULL */
	char *token_file;    /* read anew when it changes (bound tokens rotate), or NULL */
	bool insecure;	     /* insecure-skip-tls-verify */
	char *connect_to;    /* where to connect when the certificate's name differs, or NULL */
	char *temp_files[3]; /* inline kubeconfig data written out; removed by kube_config_free */
};

/*
 * Where the API server is, in this order: @server (a URL; "http://127.0.0.1:8001" needs nothing
 * else), @kubeconfig (a path), $KUBECONFIG, the pod's service account, ~/.kube/config. With
 * @server and @kubeconfig both, the credentials are the file's. Empty strings count as NULL.
 * -ENOENT: none of them; -EINVAL: a kubeconfig that cannot be used; @error says which and why.
 */
int kube_config_load(struct kube_config *config, const char *server, const char *kubeconfig,
	char *error, size_t error_size);
void kube_config_free(struct kube_config *config);

struct kube_client;
/* @config is borrowed and must outlive the client. NULL: out of memory. */
struct kube_client *kube_client_new(const struct kube_config *config, const char *user_agent);
void kube_client_free(struct kube_client *client);
/* The longest that one request may take, 10 s unless said; with the waits that the server asks for. */
void kube_client_set_timeout(struct kube_client *client, unsigned int timeout_ms);
const char *kube_last_error(const struct kube_client *client);

/*
 * One request. @method "GET", "POST", "PUT", "PATCH", "DELETE"; @content_type for the body or
 * NULL; @body not consumed. On an answer, *status is the HTTP code and *answer the JSON (may be
 * NULL; the caller decrefs). 0 for 2xx; -ENOENT 404, -EEXIST 409 AlreadyExists, -EAGAIN other 409,
 * -EACCES 401 and 403, -ESTALE 410, -EBUSY 429, -EINVAL other 4xx, -EIO 5xx and what is not JSON,
 * -EMSGSIZE over 64 MiB, -ECONNREFUSED/-ETIMEDOUT no (trusted) answer. A 429 or 503 that says when
 * to come again (Retry-After) is tried again then, as long as that is within the timeout.
 */
int kube_request(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer);

enum kube_event {
	KUBE_EVENT_ADDED, /* also for every object of a list */
	KUBE_EVENT_MODIFIED,
	KUBE_EVENT_DELETED, /* also for objects that vanished between two lists */
	KUBE_EVENT_SYNCED,  /* a list is complete; object NULL */
	/*
	 * The API server cannot be reached or refuses (kube_last_error says why); object NULL. Once
	 * an outage; it retries, and SYNCED tells when it is back.
	 */
	KUBE_EVENT_LOST,
};

typedef void (*kube_event_handler)(enum kube_event event, const json_t *object, void *context);

/*
 * List, then watch, for ever: reconnects with back-off (0.2 s to 10 s, jittered; not before the
 * server's Retry-After), takes bookmarks, lists again on 410 Gone. @path may carry a query ("/api/v1/pods?fieldSelector=spec.nodeName=a").
 * Returns when *stop is set (checked at least every 250 ms). Objects come without
 * metadata.managedFields and are borrowed for the call. Of an object found to be gone by listing
 * again, only metadata without annotations and spec.targetRef are known. The handler may make
 * requests with the same client.
 */
int kube_reflect(struct kube_client *client, const char *path, kube_event_handler handler,
	void *context, const atomic_bool *stop);

/* The string at a path of keys, or NULL: kube_string(pod, "spec", "nodeName", NULL). */
const char *kube_string(const json_t *object, ...) __attribute__((sentinel));
/* The object or array at a path of keys, borrowed, or NULL. */
json_t *kube_get(const json_t *object, ...) __attribute__((sentinel));

#endif
