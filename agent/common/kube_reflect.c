// SPDX-License-Identifier: Apache-2.0
/*
 * List and watch. The last object of everything seen is kept, so that what vanished while nobody
 * was watching can be told of when the next list shows it gone.
 */
#include "common/kube_transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_OBJECTS	 500
#define BACKOFF_LEAST_MS 200
#define BACKOFF_MOST_MS	 10000
/* The server ends a watch after a time drawn from here, so that watches do not end together. */
#define WATCH_LEAST_S 240
#define WATCH_MOST_S  480
/* How much later than that a watch counts as stuck. */
#define WATCH_GRACE_S 30
/* A watch that lived this long shows that the server is well. */
#define WATCH_HEALTHY_MS 5000

struct reflector {
	struct kube_client *client;
	const char *path;
	kube_event_handler handler;
	void *context;
	const atomic_bool *stop;
	json_t *known; /* key -> last object */
	char version[64];
	int backoff_ms;
	bool progress; /* this watch has brought an event */
	bool lost;     /* LOST was told and no SYNCED since */
};

static bool stopped(const struct reflector *reflector)
{
	return atomic_load(reflector->stop);
}

static unsigned int random_below(struct reflector *reflector, unsigned int bound)
{
	return (unsigned int)rand_r(&reflector->client->random) % bound;
}

static void back_off(struct reflector *reflector)
{
	int half = reflector->backoff_ms / 2;
	int64_t pause_ms = half + random_below(reflector, (unsigned int)half + 1);

	/* Later than asked, never sooner. */
	pause_ms += reflector->client->retry_after_ms;
	reflector->client->retry_after_ms = 0;
	reflector->backoff_ms *= 2;
	if (reflector->backoff_ms > BACKOFF_MOST_MS)
		reflector->backoff_ms = BACKOFF_MOST_MS;
	kube_sleep_until(kube_now_ms() + pause_ms, reflector->stop);
}

static char *make_path(const char *path, const char *query)
{
	char *joined;

	if (asprintf(&joined, "%s%c%s", path, strchr(path, '?') ? '&' : '?', query) < 0)
		return NULL;
	return joined;
}

/* An object made anew under the same name is another one, so the uid comes first. */
static const char *object_key(const json_t *object, char buffer[512])
{
	const char *uid = kube_string(object, "metadata", "uid", NULL);
	const char *namespace = kube_string(object, "metadata", "namespace", NULL);
	const char *name = kube_string(object, "metadata", "name", NULL);

	if (uid)
		return uid;
	if (!name)
		return NULL;
	snprintf(buffer, 512, "%s/%s", namespace ? namespace : "", name);
	return buffer;
}

/* Field managers are often half of an object and nobody here reads them. */
static void slim(json_t *object)
{
	json_object_del(json_object_get(object, "metadata"), "managedFields");
}

/*
 * What is kept of an object: enough to say later which one is gone. As text, which takes a tenth of
 * what the tree does; a node's pods are many and large.
 */
static void remember(json_t *known, const char *key, const json_t *object)
{
	json_t *reference = kube_get(object, "spec", "targetRef", NULL);
	json_t *metadata = json_copy(json_object_get(object, "metadata"));
	json_t *identity =
		json_pack("{s:O?, s:O?, s:o?}", "apiVersion", json_object_get(object, "apiVersion"),
			"kind", json_object_get(object, "kind"), "metadata", metadata);
	char *text;

	json_object_del(metadata, "annotations");
	if (identity && reference)
		json_object_set_new(identity, "spec", json_pack("{s:O}", "targetRef", reference));
	text = identity ? json_dumps(identity, JSON_COMPACT) : NULL;
	json_object_set_new(known, key, json_string(text ? text : "{}"));
	free(text);
	json_decref(identity);
}

static json_t *recall(const json_t *remembered)
{
	return json_loads(json_string_value(remembered), JSON_ALLOW_NUL, NULL);
}

static void tell(struct reflector *reflector, enum kube_event event, const json_t *object)
{
	reflector->handler(event, object, reflector->context);
}

static void take_version(struct reflector *reflector, const json_t *object)
{
	const char *version = kube_string(object, "metadata", "resourceVersion", NULL);

	if (version && strlen(version) < sizeof(reflector->version))
		memcpy(reflector->version, version, strlen(version) + 1);
}

/* --- list --- */

/* The items of a list do not say what they are; the list does ("PodList"). Watch events do. */
static void name_kinds(const json_t *list, json_t *page)
{
	const char *kind = kube_string(list, "kind", NULL);
	size_t length = kind ? strlen(kind) : 0, i;
	json_t *object;

	if (length <= 4 || strcmp(kind + length - 4, "List") != 0)
		return;
	json_array_foreach (page, i, object) {
		if (json_object_get(object, "kind"))
			continue;
		json_object_set_new(object, "kind", json_stringn(kind, length - 4));
		json_object_set(object, "apiVersion", json_object_get(list, "apiVersion"));
	}
}

/*
 * What a list brings: its objects, as text until they are told of, for the trees of all pages would take
 * ten times that; and what is known by it.
 */
struct listed {
	json_t *texts;
	json_t *known;
};

static int take_page(struct reflector *reflector, const json_t *list, struct listed *listed)
{
	json_t *page = json_object_get(list, "items"), *object;
	char buffer[512];
	size_t i;

	if (!json_is_array(page) && !json_is_null(page)) {
		kube_set_error(reflector->client, "GET %s: the answer is not a list (no \"items\")",
			reflector->path);
		return -EIO;
	}
	name_kinds(list, page);
	json_array_foreach (page, i, object) {
		const char *key = object_key(object, buffer);
		char *text;

		if (!key) {
			kube_set_error(reflector->client, "GET %s: item %zu has no metadata.name",
				reflector->path, i);
			return -EIO;
		}
		slim(object);
		text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
		if (!text || json_array_append_new(listed->texts, json_string(text))) {
			free(text);
			return -ENOMEM;
		}
		free(text);
		remember(listed->known, key, object);
	}
	take_version(reflector, list);
	return 0;
}

/* One page; *next is the token of the following page or NULL. Caller frees it. */
static int list_page(struct reflector *reflector, struct listed *listed, char **next)
{
	char *escaped = *next ? curl_easy_escape(NULL, *next, 0) : NULL;
	char *query = NULL, *path = NULL;
	const char *token;
	json_t *list = NULL;
	int err = -ENOMEM;

	if (asprintf(&query, "limit=%d%s%s", PAGE_OBJECTS, escaped ? "&continue=" : "",
		    escaped ? escaped : "") < 0)
		query = NULL;
	if (query)
		path = make_path(reflector->path, query);
	curl_free(escaped);
	free(*next);
	*next = NULL;
	if (!path)
		goto out;
	err = kube_request_until(
		reflector->client, "GET", path, NULL, NULL, NULL, &list, reflector->stop);
	if (!err)
		err = take_page(reflector, list, listed);
	token = kube_string(list, "metadata", "continue", NULL);
	if (!err && token && *token && !(*next = strdup(token)))
		err = -ENOMEM;
out:
	json_decref(list);
	free(path);
	free(query);
	return err;
}

/* Replace what is known: first what vanished, then everything that is there. */
static void take_list(struct reflector *reflector, struct listed *listed)
{
	json_t *before = reflector->known, *text, *object;
	const char *key;
	size_t i;

	reflector->known = json_incref(listed->known);
	json_object_foreach (before, key, text) {
		object = json_object_get(reflector->known, key) ? NULL : recall(text);
		if (object)
			tell(reflector, KUBE_EVENT_DELETED, object);
		json_decref(object);
	}
	json_decref(before);
	json_array_foreach (listed->texts, i, text) {
		object = recall(text);
		if (object)
			tell(reflector, KUBE_EVENT_ADDED, object);
		json_decref(object);
	}
	reflector->lost = false;
	tell(reflector, KUBE_EVENT_SYNCED, NULL);
}

static int list_all(struct reflector *reflector)
{
	struct listed listed = {.texts = json_array(), .known = json_object()};
	char *next = NULL;
	int err;

	do {
		err = list_page(reflector, &listed, &next);
	} while (!err && next && !stopped(reflector));
	if (!err && !stopped(reflector))
		take_list(reflector, &listed);
	free(next);
	json_decref(listed.texts);
	json_decref(listed.known);
	return err;
}

/* --- watch --- */

/* One event. 0; -ESTALE: list again at once; other: something is wrong, list again later. */
static int take_event(struct reflector *reflector, json_t *event)
{
	const char *type = kube_string(event, "type", NULL);
	json_t *object = kube_get(event, "object", NULL);
	const char *text;
	char buffer[512];
	const char *key;

	if (!type || !object) {
		kube_set_error(reflector->client, "watch %s: an event without type or object",
			reflector->path);
		return -EIO;
	}
	if (strcmp(type, "BOOKMARK") == 0) {
		take_version(reflector, object);
		reflector->progress = true;
		return 0;
	}
	if (strcmp(type, "ERROR") == 0) {
		text = kube_string(object, "message", NULL);
		kube_set_error(reflector->client, "watch %s: %s", reflector->path,
			text ? text : "an error without a message");
		return json_integer_value(json_object_get(object, "code")) == 410 ? -ESTALE : -EIO;
	}
	key = object_key(object, buffer);
	if (!key) {
		kube_set_error(reflector->client, "watch %s: an object without metadata.name",
			reflector->path);
		return -EIO;
	}
	slim(object);
	take_version(reflector, object);
	reflector->progress = true;
	if (strcmp(type, "DELETED") == 0) {
		json_object_del(reflector->known, key);
		tell(reflector, KUBE_EVENT_DELETED, object);
	} else if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0) {
		remember(reflector->known, key, object);
		tell(reflector, *type == 'A' ? KUBE_EVENT_ADDED : KUBE_EVENT_MODIFIED, object);
	} else {
		kube_set_error(reflector->client, "watch %s: event of unknown type \"%.40s\"",
			reflector->path, type);
		return -EIO;
	}
	return 0;
}

static int take_line(struct reflector *reflector, const char *line, size_t length)
{
	json_error_t json_error;
	json_t *event;
	int err;

	if (length == 0 || (length == 1 && line[0] == '\r'))
		return 0;
	event = json_loadb(line, length, JSON_ALLOW_NUL, &json_error);
	if (!event) {
		kube_set_error(reflector->client, "watch %s: not JSON: column %d: %s",
			reflector->path, json_error.column, json_error.text);
		return -EIO;
	}
	err = take_event(reflector, event);
	json_decref(event);
	return err;
}

/*
 * The whole lines received so far, from *searched on. A handler may make a request of its own,
 * and then more arrives (and the buffer moves) in between: only offsets are kept over a line.
 */
static int take_lines(struct reflector *reflector, struct kube_transfer *watch, size_t *searched)
{
	size_t begin = 0;
	int err = 0;

	while (!err && !stopped(reflector) && *searched < watch->length) {
		const char *from = watch->data + *searched;
		const char *end = memchr(from, '\n', watch->length - *searched);
		size_t line = begin;

		if (!end) {
			*searched = watch->length;
			break;
		}
		begin = *searched = (size_t)(end - watch->data) + 1;
		err = take_line(reflector, watch->data + line, begin - 1 - line);
	}
	watch->length -= begin;
	*searched -= begin;
	if (begin)
		memmove(watch->data, watch->data + begin, watch->length);
	return err;
}

static int check_refusal(struct reflector *reflector, struct kube_transfer *watch, int status)
{
	json_t *answer =
		watch->length ? json_loadb(watch->data, watch->length, JSON_ALLOW_NUL, NULL) : NULL;
	int err = kube_check_status(reflector->client, watch, status, answer);

	json_decref(answer);
	return err;
}

/*
 * Watch from the known version until the stream ends. 0: it ended in the ordinary way; -ESTALE:
 * the version is too old; other: an error.
 */
static int watch_once(struct reflector *reflector)
{
	struct kube_transfer watch = {0};
	size_t searched = 0;
	char query[200];
	char *path;
	int status = 0, err;
	unsigned int seconds =
		WATCH_LEAST_S + random_below(reflector, WATCH_MOST_S - WATCH_LEAST_S + 1);

	snprintf(query, sizeof(query),
		"watch=true&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%u",
		reflector->version, seconds);
	path = make_path(reflector->path, query);
	if (!path)
		return -ENOMEM;
	err = kube_transfer_start(reflector->client, &watch, "GET", path, NULL, NULL, KUBE_LINE_MAX,
		(long)(seconds + WATCH_GRACE_S) * 1000);
	while (!err && !watch.done && !stopped(reflector)) {
		err = kube_transfer_step(reflector->client);
		status = kube_transfer_status(&watch);
		if (!err && status == 200)
			err = take_lines(reflector, &watch, &searched);
	}
	if (!err && watch.done)
		err = kube_transfer_result(reflector->client, &watch);
	if (!err && watch.done && status != 200)
		err = check_refusal(reflector, &watch, status);
	kube_transfer_end(reflector->client, &watch);
	free(path);
	return err;
}

/* Watch again and again while that works. Returns why a new list is needed. */
static int watch_on(struct reflector *reflector)
{
	bool retried = false;

	while (!stopped(reflector)) {
		int64_t began = kube_now_ms();

		reflector->progress = false;
		int err = watch_once(reflector);
		bool healthy = kube_now_ms() - began >= WATCH_HEALTHY_MS;

		if (healthy || reflector->progress) {
			reflector->backoff_ms = BACKOFF_LEAST_MS;
			retried = false;
		}
		/*
		 * Neither a broken connection nor a busy server says anything about the objects:
		 * resume once where it was. A list is the dearest thing to ask of who is busy.
		 */
		bool broken = err == -ECONNREFUSED || err == -ETIMEDOUT || err == -EBUSY;
		if (err && (!broken || retried))
			return err;
		retried = broken;
		if (!healthy)
			back_off(reflector);
	}
	return 0;
}

int kube_reflect(struct kube_client *client, const char *path, kube_event_handler handler,
	void *context, const atomic_bool *stop)
{
	struct reflector reflector = {
		.client = client,
		.path = path,
		.handler = handler,
		.context = context,
		.stop = stop,
		.known = json_object(),
		.backoff_ms = BACKOFF_LEAST_MS,
	};

	if (!reflector.known)
		return -ENOMEM;
	while (!stopped(&reflector)) {
		int err = list_all(&reflector);

		if (!err)
			err = watch_on(&reflector);
		if (stopped(&reflector))
			break;
		if (err != -ESTALE && !reflector.lost) {
			reflector.lost = true;
			tell(&reflector, KUBE_EVENT_LOST, NULL);
		}
		back_off(&reflector);
	}
	json_decref(reflector.known);
	return 0;
}
