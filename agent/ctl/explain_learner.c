// SPDX-License-Identifier: Apache-2.0
#include "ctl/explain_source.h"

#include "common/received.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX ((size_t)32 << 20)
#define CONNECT_MS	 3000L
#define TOTAL_MS	 10000L

static void parameter_add(CURL *curl, char *url, size_t size, const char *name, const char *value)
{
	char *escaped = curl_easy_escape(curl, value, 0);
	size_t used = strlen(url);

	snprintf(url + used, size - used, "%c%s=%s", strchr(url, '?') ? '&' : '?', name,
		escaped ? escaped : "");
	curl_free(escaped);
}

static void url_make(CURL *curl, char *url, size_t size, const char *base,
	const struct explain_question *question)
{
	char number[32];

	snprintf(url, size, "%.*s/v1/decisions",
		(int)(strlen(base) - (base[0] && base[strlen(base) - 1] == '/')), base);
	parameter_add(curl, url, size, "service", question->service);
	if (question->unit)
		parameter_add(curl, url, size, "unit", question->unit);
	if (question->at_us != UINT64_MAX) {
		snprintf(number, sizeof(number), "%" PRIu64, question->at_us);
		parameter_add(curl, url, size, "at", number);
	}
	snprintf(number, sizeof(number), "%lu", question->count);
	parameter_add(curl, url, size, "n", number);
}

static int answer_parse(const char *url, long status, const struct received *body, json_t **answer,
	char *error, size_t error_size)
{
	const char *text = received_text(body);

	if (status != 200) {
		snprintf(error, error_size, "the learner at %s says: %.*s", url,
			(int)strcspn(text, "\n"), text);
		return status == 404 ? -ENOENT : status == 400 ? -EINVAL : -EIO;
	}
	*answer = json_loads(text, 0, NULL);
	if (json_is_array(json_object_get(*answer, "decisions")))
		return 0;
	json_decref(*answer);
	*answer = NULL;
	snprintf(error, error_size,
		"what answers at %s is not a learner of this version: no list of decisions", url);
	return -EIO;
}

int explain_ask(const char *url, const struct explain_question *question, json_t **answer,
	char *error, size_t error_size)
{
	CURL *curl = curl_easy_init();
	char full[4096], reason[CURL_ERROR_SIZE] = "";
	struct received body = {.most = ANSWER_BYTES_MAX};
	long status = 0;
	CURLcode code;
	int err;

	*answer = NULL;
	if (!curl) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	url_make(curl, full, sizeof(full), url, question);
	curl_easy_setopt(curl, CURLOPT_URL, full);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "ebbctl/" EBBTIDE_VERSION);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TOTAL_MS);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, received_take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK) {
		err = answer_parse(url, status, &body, answer, error, error_size);
	} else {
		snprintf(error, error_size, "no answer from the learner at %s: %s", url,
			reason[0] ? reason : curl_easy_strerror(code));
		err = -ECONNREFUSED;
	}
	free(body.bytes);
	curl_easy_cleanup(curl);
	return err;
}
