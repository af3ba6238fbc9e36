// SPDX-License-Identifier: Apache-2.0
/* The writing half of the API: create, put, patch, delete and their subresources. */
#ifndef EBBTIDE_LOCAL_API_WRITE_H
#define EBBTIDE_LOCAL_API_WRITE_H

#include "local/api/api.h"

/* What a path names; the texts are the request's. */
struct api_target {
	const struct resource *resource;
	const char *namespace; /* NULL: all, or not namespaced */
	const char *name;      /* NULL: the collection */
	const struct subresource *subresource;
};

void api_create(struct api *api, const struct api_request *request, const struct api_target *target,
	struct api_answer *answer);
/* PUT (@patch false) or PATCH. */
void api_change(struct api *api, const struct api_request *request, const struct api_target *target,
	bool patch, struct api_answer *answer);
void api_delete(struct api *api, const struct api_request *request, const struct api_target *target,
	struct api_answer *answer);
/* The autoscaling/v1 Scale of a Deployment; the caller decrefs. */
json_t *api_scale_of(const json_t *deployment);

#endif
