// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "local/api/object.h"
#include "local/api/store.h"

#define FIRST_VERSION  1000
#define HISTORY_EVENTS 4

static const struct resource *const leases = &resources[RESOURCE_LEASES];
static const struct resource *const objectives = &resources[RESOURCE_OBJECTIVES];

static int set_up(void **state)
{
	*state = store_new(FIRST_VERSION, HISTORY_EVENTS);
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	store_free(*state);
	return 0;
}

static json_t *object(const char *namespace, const char *name, int value)
{
	return json_pack("{s:{s:s, s:s}, s:{s:i}}", "metadata", "name", name, "namespace",
		namespace, "spec", "value", value);
}

static void add(struct store *store, const char *namespace, const char *name)
{
	assert_int_equal(store_create(store, leases, object(namespace, name, 0), NULL), 0);
}

static void test_a_new_object_gets_identity_and_version(void **state)
{
	json_t *stored = NULL;

	assert_int_equal(store_create(*state, objectives, object("d", "a", 1), &stored), 0);
	assert_int_equal(object_version(stored), FIRST_VERSION + 1);
	assert_int_equal(strlen(object_uid(stored)), 36);
	assert_non_null(object_string(stored, "metadata", "creationTimestamp", NULL));
	assert_int_equal(object_integer(object_get(stored, "metadata", NULL), "generation", 0), 1);
	json_decref(stored);
	assert_int_equal(store_create(*state, objectives, object("d", "a", 1), NULL), -EEXIST);
}

static void test_lists_are_sorted_and_by_namespace(void **state)
{
	json_t *list;
	uint64_t version;

	add(*state, "d", "c");
	add(*state, "d", "a");
	add(*state, "e", "b");
	list = store_list(*state, leases, "d", &version);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(object_name(json_array_get(list, 0)), "a");
	assert_int_equal(version, FIRST_VERSION + 3);
	json_decref(list);
	list = store_list(*state, leases, NULL, NULL);
	assert_int_equal(json_array_size(list), 3);
	json_decref(list);
}

static void test_a_stale_version_is_refused(void **state)
{
	json_t *first = NULL, *second = NULL;

	assert_int_equal(store_create(*state, leases, object("d", "a", 1), &first), 0);
	assert_int_equal(
		store_replace(*state, leases, object("d", "a", 2), object_version(first), &second),
		0);
	assert_int_equal(
		store_replace(*state, leases, object("d", "a", 3), object_version(first), NULL),
		-EAGAIN);
	assert_int_equal(
		store_delete(*state, leases, "d", "a", object_version(first), NULL), -EAGAIN);
	assert_string_equal(object_uid(first), object_uid(second));
	assert_int_equal(store_replace(*state, leases, object("d", "x", 3), 0, NULL), -ENOENT);
	json_decref(first);
	json_decref(second);
}

static void test_generation_counts_changes_of_spec_only(void **state)
{
	json_t *stored, *changed;

	store_create(*state, objectives, object("d", "a", 1), &stored);
	changed = json_deep_copy(stored);
	json_decref(stored);
	json_object_set_new(changed, "status", json_pack("{s:i}", "x", 1));
	store_replace(*state, objectives, changed, 0, &stored);
	assert_int_equal(object_integer(object_get(stored, "metadata", NULL), "generation", 0), 1);
	changed = json_deep_copy(stored);
	json_decref(stored);
	json_object_set_new(json_object_get(changed, "spec"), "value", json_integer(2));
	store_replace(*state, objectives, changed, 0, &stored);
	assert_int_equal(object_integer(object_get(stored, "metadata", NULL), "generation", 0), 2);
	json_decref(stored);
}

static void test_a_change_that_changes_nothing_makes_no_version(void **state)
{
	json_t *stored;
	uint64_t version;

	store_create(*state, leases, object("d", "a", 1), &stored);
	version = store_version(*state);
	assert_int_equal(store_replace(*state, leases, json_deep_copy(stored), 0, NULL), 0);
	assert_int_equal(store_version(*state), version);
	json_decref(stored);
}

static void test_changes_are_read_in_order_from_a_version(void **state)
{
	uint64_t after = FIRST_VERSION;
	struct change change;

	add(*state, "d", "a");
	store_create(*state, objectives, object("d", "other", 1), NULL);
	store_replace(*state, leases, object("d", "a", 7), 0, NULL);
	store_delete(*state, leases, "d", "a", 0, NULL);
	for (int type = CHANGE_ADDED; type <= CHANGE_DELETED; type++) {
		assert_int_equal(store_next_change(*state, RESOURCE_LEASES, &after, &change), 1);
		assert_int_equal(change.type, type);
		assert_int_equal(object_version(change.object), change.version);
		assert_int_equal(change.previous == NULL, type == CHANGE_ADDED);
		change_release(&change);
	}
	assert_int_equal(store_next_change(*state, RESOURCE_LEASES, &after, &change), 0);
}

static void test_a_version_older_than_the_history_is_stale(void **state)
{
	uint64_t after = FIRST_VERSION, older = FIRST_VERSION - 1;
	struct change change;
	char name[32];

	assert_int_equal(store_next_change(*state, RESOURCE_LEASES, &older, &change), -ESTALE);
	for (int i = 0; i < HISTORY_EVENTS + 1; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		add(*state, "d", name);
	}
	assert_int_equal(store_next_change(*state, RESOURCE_LEASES, &after, &change), -ESTALE);
	after = store_oldest_version(*state);
	assert_int_equal(after, FIRST_VERSION + 1);
	assert_int_equal(store_next_change(*state, RESOURCE_LEASES, &after, &change), 1);
	change_release(&change);
}

static void test_events_are_bounded_oldest_first(void **state)
{
	const struct resource *events = &resources[RESOURCE_EVENTS];
	json_t *list, *oldest;
	char name[32];

	for (size_t i = 0; i < events->most + 5; i++) {
		snprintf(name, sizeof(name), "e%zu", i);
		store_create(*state, events, object("d", name, 0), NULL);
	}
	list = store_list(*state, events, NULL, NULL);
	assert_int_equal(json_array_size(list), events->most);
	json_decref(list);
	oldest = store_get(*state, events, "d", "e4");
	assert_null(oldest);
	oldest = store_get(*state, events, "d", "e5");
	assert_non_null(oldest);
	json_decref(oldest);
}

static void test_listeners_are_woken_by_changes(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	eventfd_t count = 0;

	assert_int_equal(store_add_listener(*state, fd), 0);
	add(*state, "d", "a");
	assert_int_equal(eventfd_read(fd, &count), 0);
	store_remove_listener(*state, fd);
	add(*state, "d", "b");
	assert_int_equal(eventfd_read(fd, &count), -1);
	close(fd);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_new_object_gets_identity_and_version),
		STORE_TEST(test_lists_are_sorted_and_by_namespace),
		STORE_TEST(test_a_stale_version_is_refused),
		STORE_TEST(test_generation_counts_changes_of_spec_only),
		STORE_TEST(test_a_change_that_changes_nothing_makes_no_version),
		STORE_TEST(test_changes_are_read_in_order_from_a_version),
		STORE_TEST(test_a_version_older_than_the_history_is_stale),
		STORE_TEST(test_events_are_bounded_oldest_first),
		STORE_TEST(test_listeners_are_woken_by_changes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
