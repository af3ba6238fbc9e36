/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs in bpf/ take from the kernel, for user space: helpers, maps and socket storage, so
 * that a test can include a program's source and call it. Include this before everything else, then
 * the program between BPF_SOURCE_BEGIN and BPF_SOURCE_END. One thread, one CPU.
 *
 * Whatever the verifier would refuse and these can see (a load of no bytes, a reservation that is
 * never submitted) ends the test; reads and writes out of bounds are the sanitizers' to find.
 */
#ifndef EBBTIDE_BPF_USER_SPACE_H
#define EBBTIDE_BPF_USER_SPACE_H

/* In place of libbpf's headers for the BPF target, which give helpers by their numbers. */
#define __BPF_HELPERS__
#define __BPF_CORE_READ_H__
#define __BPF_TRACING_H__

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* An attribute of the BPF target only; prototypes and conversions as in the kernel's own code. */
#define BPF_SOURCE_BEGIN                                                                           \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wattributes\"")          \
		_Pragma("GCC diagnostic ignored \"-Wmissing-prototypes\"")                         \
			_Pragma("GCC diagnostic ignored \"-Wconversion\"")                         \
				_Pragma("GCC diagnostic ignored \"-Wint-to-pointer-cast\"")
#define BPF_SOURCE_END _Pragma("GCC diagnostic pop")

BPF_SOURCE_BEGIN
#include "kernel.h"
BPF_SOURCE_END

#define SEC(name) __attribute__((unused))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline, unused))
#undef __noinline
#define __noinline	    __attribute__((noinline, unused))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

/* Of kernel structures, which are plain ones here; up to three of them. */
#define USER_READ_1(from, a)			  ((from)->a)
#define USER_READ_2(from, a, b)			  ((from)->a->b)
#define USER_READ_3(from, a, b, c)		  ((from)->a->b->c)
#define USER_READ_CHOOSE(_1, _2, _3, chosen, ...) chosen
#define BPF_CORE_READ(from, ...)                                                                   \
	USER_READ_CHOOSE(__VA_ARGS__, USER_READ_3, USER_READ_2, USER_READ_1, )(from, __VA_ARGS__)

static void user_fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

static void *user_allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		user_fail("out of memory");
	return memory;
}

/* A map: one block of values for an array, else keys and values side by side. */
#define USER_MAPS	  16
#define USER_HASH_ENTRIES 64

struct user_map {
	const void *map;
	size_t type, entries, key_bytes, value_bytes;
	uint8_t *values;
	uint8_t *keys;	       /* of a hash */
	const void *owners[8]; /* of socket storage: the socket of each value */
	size_t used;
};

static struct user_map user_maps[USER_MAPS];

static __attribute__((unused)) struct user_map *user_map_get(
	const void *map, size_t type, size_t entries, size_t key_bytes, size_t value_bytes)
{
	size_t at = 0;

	while (at < USER_MAPS && user_maps[at].map && user_maps[at].map != map)
		at++;
	if (at == USER_MAPS)
		user_fail("more maps than there is room for");
	if (!user_maps[at].map) {
		if (type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH)
			entries = entries < USER_HASH_ENTRIES ? entries : USER_HASH_ENTRIES;
		user_maps[at] = (struct user_map){.map = map,
			.type = type,
			.entries = entries,
			.key_bytes = key_bytes,
			.value_bytes = value_bytes};
		user_maps[at].values = user_allocate(entries * value_bytes);
		user_maps[at].keys = user_allocate(entries * key_bytes);
	}
	return &user_maps[at];
}

#define USER_MAP(map)                                                                              \
	user_map_get(map, sizeof(*(map)->type) / sizeof(int),                                      \
		sizeof(*(map)->max_entries) / sizeof(int), sizeof(*(map)->key),                    \
		sizeof(*(map)->value))

static __attribute__((unused)) void *user_map_lookup(struct user_map *map, const void *key)
{
	uint32_t index;

	if (map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY) {
		memcpy(&index, key, sizeof(index));
		return index < map->entries ? map->values + index * map->value_bytes : NULL;
	}
	for (size_t at = 0; at < map->used; at++)
		if (memcmp(map->keys + at * map->key_bytes, key, map->key_bytes) == 0)
			return map->values + at * map->value_bytes;
	return NULL;
}

static __attribute__((unused)) long user_map_update(
	struct user_map *map, const void *key, const void *value, uint64_t flags)
{
	void *found = user_map_lookup(map, key);

	if (found && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!found) {
		if (map->used == map->entries)
			map->used = 0; /* an LRU hash may forget what it likes */
		memcpy(map->keys + map->used * map->key_bytes, key, map->key_bytes);
		found = map->values + map->used++ * map->value_bytes;
	}
	memcpy(found, value, map->value_bytes);
	return 0;
}

static __attribute__((unused)) long user_map_delete(struct user_map *map, const void *key)
{
	uint8_t *found = user_map_lookup(map, key);
	size_t at;

	if (!found)
		return -ENOENT;
	at = (size_t)(found - map->values) / map->value_bytes;
	map->used--;
	memmove(found, map->values + map->used * map->value_bytes, map->value_bytes);
	memmove(map->keys + at * map->key_bytes, map->keys + map->used * map->key_bytes,
		map->key_bytes);
	return 0;
}

#define bpf_map_lookup_elem(map, key) user_map_lookup(USER_MAP(map), key)
#define bpf_map_update_elem(map, key, value, flags)                                                \
	user_map_update(USER_MAP(map), key, value, flags)
#define bpf_map_delete_elem(map, key) user_map_delete(USER_MAP(map), key)

static __attribute__((unused)) void *user_storage(
	struct user_map *map, const void *owner, uint64_t flags)
{
	uint8_t *value;

	for (size_t at = 0; at < map->used; at++)
		if (map->owners[at] == owner)
			return map->values + at * map->value_bytes;
	if (!(flags & BPF_SK_STORAGE_GET_F_CREATE) || map->used == map->entries)
		return NULL;
	map->owners[map->used] = owner;
	value = map->values + map->used++ * map->value_bytes;
	memset(value, 0, map->value_bytes);
	return value;
}

#define USER_STORAGE(map)                                                                          \
	user_map_get(map, sizeof(*(map)->type) / sizeof(int),                                      \
		sizeof(((struct user_map *)0)->owners) / sizeof(void *), sizeof(*(map)->key),      \
		sizeof(*(map)->value))
#define bpf_sk_storage_get(map, owner, value, flags) user_storage(USER_STORAGE(map), owner, flags)

/* As after the sockets have gone: hashes and storage are empty, arrays as they were. */
static __attribute__((unused)) void user_maps_forget(void)
{
	for (size_t at = 0; at < USER_MAPS; at++)
		user_maps[at].used = 0;
}

/* Programs read time and send events through these. */
static uint64_t user_clock_ns = 1;
static uint32_t user_loop_turns;	    /* most turns that a loop has taken */
static uint32_t user_loops_cut;		    /* loops over a payload that came to their bound */
static void (*user_on_turn)(uint32_t turn); /* what another CPU does meanwhile, or NULL */
static void (*user_event_sink)(const void *event);
static void *user_event;

static __attribute__((unused)) uint64_t bpf_ktime_get_ns(void)
{
	return user_clock_ns;
}

/* Bound of the loops over a payload; others may come to theirs. */
#define USER_PAYLOAD_LOOP (1U << 17)

#define bpf_loop(turns, step, context, flags)                                                      \
	({                                                                                         \
		__u32 loop_turn = 0, loop_bound = (turns);                                         \
                                                                                                   \
		while (loop_turn < loop_bound && !step(loop_turn, context)) {                      \
			loop_turn++;                                                               \
			if (user_on_turn)                                                          \
				user_on_turn(loop_turn);                                           \
		}                                                                                  \
		if (loop_turn > user_loop_turns)                                                   \
			user_loop_turns = loop_turn;                                               \
		if (loop_turn == loop_bound && loop_bound == USER_PAYLOAD_LOOP)                    \
			user_loops_cut++;                                                          \
		(long)loop_turn;                                                                   \
	})

static __attribute__((unused)) void *user_reserve(size_t bytes)
{
	if (user_event)
		user_fail("a second event is reserved before the first is submitted");
	user_event = user_allocate(bytes);
	return user_event;
}

static __attribute__((unused)) void bpf_ringbuf_submit(void *event, uint64_t flags)
{
	(void)flags;
	if (event != user_event)
		user_fail("an event is submitted that was not reserved");
	user_event = NULL;
	if (user_event_sink)
		user_event_sink(event);
	free(event);
}

#define bpf_ringbuf_reserve(ring, bytes, flags) ((void)(ring), user_reserve(bytes))

/* A packet: headers in the linear part, payload where only bpf_skb_load_bytes() reaches it. */
struct user_packet {
	struct __sk_buff skb;
	const uint8_t *payload;
	uint32_t header_bytes;
};

static __attribute__((unused)) long bpf_skb_load_bytes(
	const struct __sk_buff *skb, uint32_t offset, void *to, uint32_t bytes)
{
	const struct user_packet *packet = (const void *)skb;
	const uint8_t *header = (const void *)(uintptr_t)skb->data;

	if (bytes == 0)
		user_fail("no bytes are loaded");
	if (offset > skb->len || bytes > skb->len - offset)
		return -EFAULT;
	for (uint32_t at = offset; at < offset + bytes; at++)
		((uint8_t *)to)[at - offset] = at < packet->header_bytes
						       ? header[at]
						       : packet->payload[at - packet->header_bytes];
	return 0;
}

/* The socket's owner: cgroup USER_CGROUP, two levels down. */
#define USER_CGROUP 77

static struct bpf_sock *user_listener; /* of the packet's port, or NULL */

static __attribute__((unused)) struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)
{
	return sk;
}

static __attribute__((unused)) struct bpf_sock *bpf_skc_lookup_tcp(
	void *context, struct bpf_sock_tuple *tuple, uint32_t bytes, int64_t netns, uint64_t flags)
{
	(void)context, (void)netns, (void)flags;
	if (bytes != sizeof(tuple->ipv4) && bytes != sizeof(tuple->ipv6))
		user_fail("a tuple of no known size");
	return user_listener;
}

static __attribute__((unused)) long bpf_sk_release(void *sk)
{
	(void)sk;
	return 0;
}

static __attribute__((unused)) uint64_t bpf_skb_cgroup_id(struct __sk_buff *skb)
{
	(void)skb;
	return USER_CGROUP;
}

static __attribute__((unused)) uint64_t bpf_skb_ancestor_cgroup_id(struct __sk_buff *skb, int level)
{
	(void)skb;
	return level == 2 ? USER_CGROUP : level < 2;
}

#endif
