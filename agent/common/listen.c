// SPDX-License-Identifier: Apache-2.0
#include "common/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Ten thousand agents come back at once after a learner's restart; the kernel may allow less. */
#define BACKLOG 8192

int listen_open(const char *address)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	const char *colon = strrchr(address, ':');
	struct addrinfo *found = NULL;
	char host[256];
	int fd, one = 1, err = 0;

	if (!colon || colon[1] == '\0' || (size_t)(colon - address) >= sizeof(host))
		return -EINVAL;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		memmove(host, host + 1, strlen(host));
	}
	if (getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
	if (fd < 0) {
		err = -errno;
		goto out;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
		err = -errno;
		close(fd);
	}
out:
	freeaddrinfo(found);
	return err ? err : fd;
}
