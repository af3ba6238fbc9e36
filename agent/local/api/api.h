// SPDX-License-Identifier: Apache-2.0
/*
 * The Kubernetes API without its transport: a request in, an answer or a watch out. Any thread.
 */
#ifndef EBBTIDE_LOCAL_API_H
#define EBBTIDE_LOCAL_API_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cgroup.h"
#include "local/api/selector.h"
#include "local/api/store.h"
#include "local/api/table.h"

struct api {
	struct store *store;
	const struct cgroup_driver *driver; /* NULL: a resize changes no cgroup (tests) */
	const char *state_directory;	    /* for the pods' logs */
	pthread_mutex_t resize_lock;	    /* a resize is cgroup and store together */
};

struct api_request {
	const char *method;
	const char *path; /* decoded, without the query */
	const char *content_type;
	const char *accept;
	const char *body;
	size_t body_size;
	/* The value of a query parameter, or NULL. */
	const char *(*query)(const struct api_request *request, const char *name);
	void *transport; /* for query */
};

/* A watch that the transport runs with api_watch_next. */
struct api_watch {
	const struct resource *resource;
	char *namespace; /* NULL: all */
	char *name;	 /* NULL: any; from a path with a name in it */
	struct selector labels;
	struct selector fields;
	bool bookmarks;
	bool mark_initial; /* a bookmark ends the initial objects (sendInitialEvents) */
	bool table;
	bool headers_sent;
	enum table_include include;
	uint64_t after;	 /* the version read so far */
	json_t *initial; /* objects to send as ADDED first, or NULL */
	size_t initial_sent;
	bool failed; /* an ERROR was sent: the stream ends */
	int64_t timeout_s;
};

struct api_answer {
	int code;
	json_t *json;		 /* or */
	char *text;		 /* plain text, or */
	struct api_watch *watch; /* a stream of events */
	const char *content_type;
};

void api_init(struct api *api, struct store *store, const struct cgroup_driver *driver,
	const char *state_directory);
/* Fill in @answer; the caller frees with api_answer_free (the watch apart, once it took it). */
void api_handle(struct api *api, const struct api_request *request, struct api_answer *answer);
void api_answer_free(struct api_answer *answer);

/* The next event as one JSON text (free), or NULL when there is none now. */
char *api_watch_next(struct api *api, struct api_watch *watch);
/* A BOOKMARK of the version reached. */
char *api_watch_bookmark(struct api *api, struct api_watch *watch);
void api_watch_free(struct api_watch *watch);

#endif
