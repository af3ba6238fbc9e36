// SPDX-License-Identifier: Apache-2.0
/*
 * Whatever a unit's peers send, in whatever segments, through the programs of bpf/request.bpf.c as
 * they are. An input is a byte that says how it is seen, then records: a byte of enum record_flag,
 * two of a length, and so many bytes, which are one segment.
 */
#include "dialogues_http1.h"
#include "dialogues_http2.h"

#include "driver.h"

enum record_flag {
	RECORD_ANSWER = 1,
	RECORD_LATER = 2, /* some time has passed since the segment before */
	RECORD_AGAIN = 4, /* a segment that was sent before is sent again first */
	RECORD_GAP = 8,	  /* some bytes never come */
};

#define RECORD_BYTES 3

/* How a connection's bytes are read: @is_cut cuts each record into pieces by @mask. */
struct reading {
	uint64_t mask;
	bool is_cut;
	bool was_lost; /* the framing, at some time: where it is found anew depends on segments */
};

static const struct connection *connection_now(void)
{
	return bpf_sk_storage_get(&connections, &talk.sk, 0, 0);
}

static void loss_note(struct reading *reading, int speaker)
{
	const struct connection *connection = connection_now();

	if (!connection)
		return;
	/* The answers to several requests are looked for at the beginning of a segment. */
	if (speaker == SERVER && connection->in_flight && connection->protocol == PROTOCOL_HTTP1 &&
		(connection->flags & (CONNECTION_MANY | CONNECTION_SYNCED)) == CONNECTION_MANY)
		reading->was_lost = true;
	if (connection->protocol == PROTOCOL_HTTP1)
		reading->was_lost |= connection->request1.state == HTTP1_LOST ||
				     connection->response1.state == HTTP1_LOST;
	else
		reading->was_lost |= connection->protocol != PROTOCOL_HTTP2;
}

static void record_say(const uint8_t *record, size_t size, struct reading *reading)
{
	int speaker = record[0] & RECORD_ANSWER;
	const uint8_t *bytes = record + RECORD_BYTES;
	size_t begin = 0;

	if (record[0] & RECORD_LATER)
		user_clock_ns += TALK_TURN_NS;
	if (record[0] & RECORD_GAP)
		talk.sequence[speaker] += 9;
	if (record[0] & RECORD_AGAIN && size)
		talk_segment(
			speaker, talk.sequence[speaker] - (uint32_t)(size / 2), bytes, size / 2);
	for (size_t at = 1; at <= size; at++) {
		uint8_t *exact;

		if (at < size && !(reading->is_cut && cut_by_mask(at, &reading->mask)))
			continue;
		exact = malloc(at - begin);
		if (!exact)
			abort();
		memcpy(exact, bytes + begin, at - begin);
		talk_say(speaker, exact, at - begin);
		free(exact);
		loss_note(reading, speaker);
		begin = at;
	}
}

static const struct talk_told *read_all(const uint8_t *data, size_t size, struct reading *reading)
{
	size_t at = 1;

	talk_begin(data[0] & 1 ? SIDE_CLIENT : SIDE_SERVER);
	while (at + RECORD_BYTES <= size) {
		size_t length = data[at + 1] | (size_t)data[at + 2] << 8;

		if (length > size - at - RECORD_BYTES)
			length = size - at - RECORD_BYTES;
		record_say(data + at, length, reading);
		talk_look();
		at += RECORD_BYTES + length;
	}
	return talk_end();
}

struct http1_run {
	struct http1 http1;
	uint32_t events, sum;
};

/* The automaton alone over @size bytes, to be gone on with. */
static void http1_read(
	struct http1_run *run, const uint8_t *data, size_t size, int is_response, uint32_t done)
{
	uint8_t *exact = malloc(size + 7);
	uint32_t at = 0, event;

	if (!exact)
		abort();
	memcpy(exact, data, size);
	memset(exact + size, 0x5a, 7);
	while (at < size) {
		uint32_t left = (uint32_t)size - at;
		uint32_t taken = http1_step(&run->http1, exact + at, left, is_response, &event);

		if (taken == 0 || taken > left)
			abort();
		if (event != HTTP1_NOTHING) {
			run->events++;
			run->sum = run->sum * 31 + (done + at) * 7 + event + run->http1.status;
		}
		at += taken;
	}
	free(exact);
}

/* Wherever bytes are cut, an automaton sees the same events at the same places. */
static void http1_check(const uint8_t *data, size_t size, uint64_t mask)
{
	for (int is_response = 0; is_response < 2; is_response++) {
		struct http1_run whole = {0}, cut = {0};
		size_t begin = 0;

		http1_read(&whole, data, size, is_response, 0);
		for (size_t at = 1; at <= size; at++) {
			if (at < size && !cut_by_mask(at, &mask))
				continue;
			http1_read(&cut, data + begin, at - begin, is_response, (uint32_t)begin);
			begin = at;
		}
		if (memcmp(&whole, &cut, sizeof(cut)) != 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading whole = {.mask = 0}, cut = {.mask = 0x9e3779b97f4a7c15ULL, .is_cut = true};
	struct talk_told told;

	if (size < 1 + RECORD_BYTES)
		return 0;
	for (size_t at = 0; at < size; at++)
		cut.mask = (cut.mask ^ data[at]) * 0x100000001b3ULL;
	told = *read_all(data, size, &whole);
	(void)read_all(data, size, &cut);
	/* Where framing is known throughout, segments do not matter. */
	if (!whole.was_lost && !cut.was_lost && !told.lost &&
		memcmp(&told, &talk.told, sizeof(told)) != 0) {
		fprintf(stderr, "cut: %d requests, %d failed, %u in all; whole: %d, %d, %u\n",
			(int)talk.told.requests, (int)talk.told.failed, talk.told.latency_sum,
			(int)told.requests, (int)told.failed, told.latency_sum);
		abort();
	}
	http1_check(data, size, cut.mask);
	return 0;
}

static size_t record_put(uint8_t *out, size_t at, uint8_t flags, const uint8_t *bytes, size_t size)
{
	if (at + RECORD_BYTES + size > FUZZ_BYTES_MAX)
		abort();
	out[at] = flags;
	out[at + 1] = (uint8_t)size;
	out[at + 2] = (uint8_t)(size >> 8);
	memcpy(out + at + RECORD_BYTES, bytes, size);
	return at + RECORD_BYTES + size;
}

/* Each dialogue, seen from both sides, in whole turns; then what is no HTTP. */
static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const others[] = {"*1\r\n$4\r\nPING\r\n", "get key\r\n",
		"\x16\x03\x01\x00\x05hello\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x05hello",
		"\x17\x03\x03\x00\x05hello"};
	static struct dialogue dialogue;
	size_t http1_count = sizeof(http1_dialogues) / sizeof(http1_dialogues[0]), at = 1;
	size_t dialogues = http1_count + sizeof(http2_dialogues) / sizeof(http2_dialogues[0]);

	out[0] = index & 1;
	index /= 2;
	if (index >= dialogues) {
		const uint8_t *bytes;

		index -= dialogues;
		if (index >= sizeof(others) / sizeof(others[0]))
			return 0;
		bytes = (const uint8_t *)others[index];
		for (uint8_t turn = 0; turn < 6; turn++)
			at = record_put(
				out, at, (turn & 1) | RECORD_LATER, bytes, strlen(others[index]));
		return at;
	}
	if (index < http1_count)
		http1_dialogue(index, &dialogue);
	else
		http2_dialogue(index - http1_count, &dialogue);
	for (size_t turn = 0; turn < dialogue.turn_count; turn++)
		at = record_put(out, at, dialogue.turns[turn].speaker | RECORD_LATER,
			dialogue.bytes + dialogue.turns[turn].begin,
			dialogue.turns[turn].end - dialogue.turns[turn].begin);
	return at;
}
