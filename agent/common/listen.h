// SPDX-License-Identifier: Apache-2.0
/* Listening sockets named as people write them: "127.0.0.1:9650", "[::1]:9650", ":9650". */
#ifndef EBBTIDE_LISTEN_H
#define EBBTIDE_LISTEN_H

/* A listening, close-on-exec TCP socket, or -errno (-EINVAL: not HOST:PORT). */
int listen_open(const char *address);

#endif
