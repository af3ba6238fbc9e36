// SPDX-License-Identifier: Apache-2.0
/*
 * The gateway: one HAProxy, driven over its runtime API. Never reloaded: it starts with a number
 * of empty backends, a function takes one when it appears (an entry in the routing map), and
 * servers come and go with "add server" and "del server".
 *
 * Main thread only. Functions return 0 or -errno.
 */
#ifndef EBBTIDE_LOCAL_GATEWAY_H
#define EBBTIDE_LOCAL_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* More functions than this get no route (a warning says so). */
#define GATEWAY_BACKENDS 64

struct gateway;

/* Start it; -ENOENT: no haproxy program; -EADDRINUSE; other errors with the reason in @error. */
int gateway_start(struct gateway **out, const char *address, uint16_t port,
	const char *state_directory, char *error, size_t error_size);
/* Stop the process at once, remove its files, free. NULL is fine. */
void gateway_stop(struct gateway *gateway);

pid_t gateway_pid(const struct gateway *gateway);
/* Its process has been reaped: start it again (at most once a second) with every route. */
void gateway_exited(struct gateway *gateway, int wait_status, int64_t now_ms);
/* Whether it runs; tries the restart that is due. */
bool gateway_check(struct gateway *gateway, int64_t now_ms);

/* @function: "NAME.NAMESPACE"; "NAME" too is routed when the namespace is "default". -ENOSPC. */
int gateway_add_function(struct gateway *gateway, const char *namespace, const char *name);
void gateway_remove_function(struct gateway *gateway, const char *namespace, const char *name);

/* @server: the pod's name. */
int gateway_add_server(struct gateway *gateway, const char *namespace, const char *function,
	const char *server, uint16_t port);
/* No new requests; the ones in flight go on. */
int gateway_drain_server(struct gateway *gateway, const char *server);
/* Back from draining. */
int gateway_undrain_server(struct gateway *gateway, const char *server);
/* Requests in flight to it, or -ENOENT. */
int gateway_count_sessions(struct gateway *gateway, const char *server);
/* Cut what is left and forget it. HAProxy's entry goes once its idle connections are closed. */
void gateway_remove_server(struct gateway *gateway, const char *server);

#endif
