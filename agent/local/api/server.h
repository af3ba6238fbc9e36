// SPDX-License-Identifier: Apache-2.0
/* The API over HTTP/1.1: a thread a connection, so that a watch blocks nobody. */
#ifndef EBBTIDE_LOCAL_SERVER_H
#define EBBTIDE_LOCAL_SERVER_H

#include <stdint.h>

#include "local/api/api.h"

struct server_http;

/* -EADDRINUSE, -EIO. @api outlives the server. */
int server_start(struct server_http **out, struct api *api, const char *address, uint16_t port);
/* End every watch and wait for the connections' threads. NULL is fine. */
void server_stop(struct server_http *server);

#endif
