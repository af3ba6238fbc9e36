// SPDX-License-Identifier: Apache-2.0
#include "local/gateway.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "local/process.h"

#define START_TIMEOUT_MS   5000
#define RUNTIME_TIMEOUT_MS 2000
#define RESTART_PAUSE_MS   1000
#define MAX_CONNECTIONS	   10000
/* A server added at run time has no idle pool of its own accord: each request would connect. */
#define IDLE_POOL "pool-purge-delay 5s"
/* HAProxy's own descriptors beside two a connection. */
#define SPARE_DESCRIPTORS 200

enum server_state {
	SERVER_NONE,
	SERVER_READY,
	SERVER_DRAINING,
	SERVER_GONE
};

struct server {
	char name[254];
	unsigned int serial; /* HAProxy's name for it is NAME.SERIAL: an old entry may linger */
	size_t backend;
	uint16_t port;
	enum server_state state;
};

struct backend {
	char namespace[64];
	char name[254]; /* "" when free */
};

struct gateway {
	char address[64];
	uint16_t port;
	pid_t pid;
	int64_t restart_ms; /* when to start it again; 0: it runs */
	char config_path[256];
	char map_path[256];
	char socket_path[108];
	char log_path[256];
	struct backend backends[GATEWAY_BACKENDS];
	struct server *servers;
	size_t server_count;
	size_t server_room;
	unsigned int serial;
};

static const char config_text[] =
	"# Written by ebbtide-local at each start.\n"
	"global\n"
	"\tmaxconn %ld\n"
	"\tnbthread 1\n"
	"\tstats socket %s mode 600 level admin\n"
	"\tstats timeout 10s\n"
	"\n"
	"defaults\n"
	"\tmode http\n"
	"\toption http-keep-alive\n"
	"\t# No second attempt: a request that reached a server counts once.\n"
	"\tretries 0\n"
	"\thttp-reuse safe\n"
	"\tbalance leastconn\n"
	"\ttimeout connect 5s\n"
	"\ttimeout client 120s\n"
	"\ttimeout server 120s\n"
	"\ttimeout http-request 30s\n"
	"\ttimeout http-keep-alive 120s\n"
	"\ttimeout queue 30s\n"
	"\n"
	"frontend gateway\n"
	"\tbind %s:%u\n"
	"\tacl by_path path_beg /function/\n"
	"\thttp-request set-var(txn.function) path,field(3,/) if by_path\n"
	"\thttp-request set-var(txn.function) req.hdr(host),field(1,:),lower if !by_path\n"
	"\thttp-request set-var(txn.backend) var(txn.function),map_str(%s)\n"
	"\thttp-request return status 404 content-type text/plain string \"no such function\\n\" "
	"if !{ var(txn.backend) -m found }\n"
	"\thttp-request replace-path ^/function/[^/]+/?(.*)$ /\\1 if by_path\n"
	"\tuse_backend %%[var(txn.backend)]\n"
	"\n";

static int write_config(const struct gateway *gateway)
{
	struct rlimit files = {.rlim_max = RLIM_INFINITY};
	long connections = MAX_CONNECTIONS;
	FILE *file = fopen(gateway->config_path, "we");

	if (!file)
		return -errno;
	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_max != RLIM_INFINITY &&
		(long)files.rlim_max < 2 * connections + SPARE_DESCRIPTORS)
		connections = ((long)files.rlim_max - SPARE_DESCRIPTORS) / 2;
	if (connections < 64)
		connections = 64;
	fprintf(file, config_text, connections, gateway->socket_path, gateway->address,
		gateway->port, gateway->map_path);
	for (size_t i = 0; i < GATEWAY_BACKENDS; i++)
		fprintf(file, "backend function_%zu\n", i);
	if (fclose(file))
		return -errno;
	file = fopen(gateway->map_path, "we");
	if (!file)
		return -errno;
	for (size_t i = 0; i < GATEWAY_BACKENDS; i++) {
		const struct backend *backend = &gateway->backends[i];

		if (!*backend->name)
			continue;
		fprintf(file, "%s.%s function_%zu\n", backend->name, backend->namespace, i);
		if (!strcmp(backend->namespace, "default"))
			fprintf(file, "%s function_%zu\n", backend->name, i);
	}
	return fclose(file) ? -errno : 0;
}

/* One command, its answer without the trailing newlines. HAProxy closes after each. */
static int run_command(
	const struct gateway *gateway, char *answer, size_t size, const char *format, ...)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = RUNTIME_TIMEOUT_MS / 1000};
	char command[1024];
	size_t used = 0;
	va_list args;
	int fd, length, err = 0;

	answer[0] = '\0';
	va_start(args, format);
	length = vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(command))
		return -ENAMETOOLONG;
	memcpy(to.sun_path, gateway->socket_path, sizeof(to.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
		send(fd, command, (size_t)length, MSG_NOSIGNAL) != length) {
		err = -errno;
		goto out;
	}
	for (;;) {
		char spill[4096];
		bool full = used + 1 >= size;
		ssize_t got = full ? recv(fd, spill, sizeof(spill), 0)
				   : recv(fd, answer + used, size - 1 - used, 0);

		if (got < 0)
			err = -errno;
		if (got <= 0)
			break;
		if (!full)
			used += (size_t)got;
	}
	answer[used] = '\0';
	while (used && (answer[used - 1] == '\n' || answer[used - 1] == ' '))
		answer[--used] = '\0';
out:
	close(fd);
	return err;
}

/* Commands that answer nothing when all is well. */
#define run_quiet(gateway, what, ...)                                                              \
	({                                                                                         \
		char run_answer[512];                                                              \
		int run_err = run_command(gateway, run_answer, sizeof(run_answer), __VA_ARGS__);   \
		check_quiet(run_err, run_answer, what);                                            \
	})

static int check_quiet(int err, const char *answer, const char *what)
{
	if (err) {
		log_warning("haproxy does not answer command=\"%s\" error=\"%s\"", what,
			strerror(-err));
		return err;
	}
	/* Success is silence or a confirmation; failures are sentences of other shapes. */
	if (!*answer || !strncmp(answer, "New server registered", 21) ||
		!strncmp(answer, "Server deleted", 14))
		return 0;
	log_warning("haproxy refused command=\"%s\" answer=\"%s\"", what, answer);
	return -EPROTO;
}

static int wait_until_up(struct gateway *gateway, char *error, size_t error_size)
{
	char answer[256];

	for (int waited = 0; waited < START_TIMEOUT_MS; waited += 5) {
		int status;

		if (waitpid(gateway->pid, &status, WNOHANG) == gateway->pid) {
			gateway->pid = 0;
			snprintf(error, error_size,
				"haproxy ended at its start (its messages are in %s)",
				gateway->log_path);
			return -EIO;
		}
		if (run_command(gateway, answer, sizeof(answer), "show version\n") == 0)
			return 0;
		poll(NULL, 0, 5);
	}
	snprintf(error, error_size, "haproxy did not answer on %s within %d s",
		gateway->socket_path, START_TIMEOUT_MS / 1000);
	return -ETIMEDOUT;
}

static int spawn(struct gateway *gateway, char *error, size_t error_size)
{
	char *arguments[] = {"haproxy", "-db", "-f", gateway->config_path, NULL};
	char *environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct process_spec spec = {
		.arguments = arguments,
		.environment = environment,
		.log_path = gateway->log_path,
	};
	const char *program = "/usr/sbin/haproxy", *step;
	int err = write_config(gateway);

	if (err) {
		snprintf(error, error_size, "cannot write %s: %s", gateway->config_path,
			strerror(-err));
		return err;
	}
	unlink(gateway->socket_path);
	/* Debian keeps it in /usr/sbin, which is not in everybody's PATH. */
	if (access(program, X_OK) == 0)
		arguments[0] = (char *)program;
	err = process_start(NULL, &spec, &gateway->pid, &step);
	if (err) {
		gateway->pid = 0;
		snprintf(error, error_size,
			err == -ENOENT ? "haproxy is not installed (apt-get install haproxy)"
				       : "cannot start haproxy: %s: %s",
			step, strerror(-err));
		return err;
	}
	return wait_until_up(gateway, error, error_size);
}

int gateway_start(struct gateway **out, const char *address, uint16_t port,
	const char *state_directory, char *error, size_t error_size)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));
	int err;

	if (!gateway)
		return -ENOMEM;
	gateway->port = port;
	snprintf(gateway->address, sizeof(gateway->address), "%s", address);
	snprintf(gateway->config_path, sizeof(gateway->config_path), "%s/haproxy.cfg",
		state_directory);
	snprintf(gateway->map_path, sizeof(gateway->map_path), "%s/functions.map", state_directory);
	snprintf(gateway->log_path, sizeof(gateway->log_path), "%s/logs/haproxy.log",
		state_directory);
	if (snprintf(gateway->socket_path, sizeof(gateway->socket_path), "%s/haproxy.sock",
		    state_directory) >= (int)sizeof(gateway->socket_path)) {
		snprintf(error, error_size, "--state %s is too long for a socket's path (%zu)",
			state_directory, sizeof(gateway->socket_path) - sizeof("/haproxy.sock"));
		err = -ENAMETOOLONG;
		goto fail;
	}
	err = process_check_listen(address, port);
	if (err) {
		snprintf(error, error_size, "--gateway %s:%u: %s%s", address, port, strerror(-err),
			err == -EADDRINUSE ? ": end the program that listens there or name "
					     "another port"
					   : "");
		goto fail;
	}
	err = spawn(gateway, error, error_size);
	if (err)
		goto fail;
	*out = gateway;
	return 0;
fail:
	gateway_stop(gateway);
	return err;
}

void gateway_stop(struct gateway *gateway)
{
	if (!gateway)
		return;
	if (gateway->pid > 0) {
		kill(gateway->pid, SIGTERM);
		for (int waited = 0; waited < 1000; waited += 5) {
			if (waitpid(gateway->pid, NULL, WNOHANG) != 0) {
				gateway->pid = 0;
				break;
			}
			poll(NULL, 0, 5);
		}
		if (gateway->pid > 0) {
			kill(gateway->pid, SIGKILL);
			waitpid(gateway->pid, NULL, 0);
		}
	}
	unlink(gateway->config_path);
	unlink(gateway->map_path);
	unlink(gateway->socket_path);
	free(gateway->servers);
	free(gateway);
}

pid_t gateway_pid(const struct gateway *gateway)
{
	return gateway->pid;
}

void gateway_exited(struct gateway *gateway, int wait_status, int64_t now_ms)
{
	log_err("haproxy ended %s=%d, starting it again",
		WIFSIGNALED(wait_status) ? "signal" : "code",
		WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
	gateway->pid = 0;
	gateway->restart_ms = now_ms;
}

static int register_server(const struct gateway *gateway, const struct server *server)
{
	int err = run_quiet(gateway, "add server",
		"add server function_%zu/%s.%u 127.0.0.1:%u " IDLE_POOL "\n", server->backend,
		server->name, server->serial, server->port);

	if (err)
		return err;
	return run_quiet(gateway, "enable server", "enable server function_%zu/%s.%u\n",
		server->backend, server->name, server->serial);
}

bool gateway_check(struct gateway *gateway, int64_t now_ms)
{
	char error[512];

	if (gateway->restart_ms && now_ms >= gateway->restart_ms) {
		if (spawn(gateway, error, sizeof(error))) {
			log_err("%s", error);
			gateway->restart_ms = now_ms + RESTART_PAUSE_MS;
			return false;
		}
		gateway->restart_ms = 0;
		for (size_t i = 0; i < gateway->server_count; i++)
			if (gateway->servers[i].state == SERVER_READY)
				register_server(gateway, &gateway->servers[i]);
			else
				gateway->servers[i].state = SERVER_NONE;
	}
	if (gateway->restart_ms)
		return false;
	for (size_t i = 0; i < gateway->server_count; i++) {
		struct server *server = &gateway->servers[i];
		char answer[512];

		/* HAProxy refuses until the last idle connection to it is closed. */
		if (server->state == SERVER_GONE &&
			(run_command(gateway, answer, sizeof(answer),
				 "del server function_%zu/%s.%u\n", server->backend, server->name,
				 server->serial) ||
				!strncmp(answer, "Server deleted", 14) ||
				!strncmp(answer, "No such", 7)))
			server->state = SERVER_NONE;
		if (server->state == SERVER_NONE)
			*server = gateway->servers[--gateway->server_count], i--;
	}
	return true;
}

static struct backend *find_backend(
	struct gateway *gateway, const char *namespace, const char *name)
{
	for (size_t i = 0; i < GATEWAY_BACKENDS; i++)
		if (!strcmp(gateway->backends[i].name, name) &&
			!strcmp(gateway->backends[i].namespace, namespace))
			return &gateway->backends[i];
	return NULL;
}

int gateway_add_function(struct gateway *gateway, const char *namespace, const char *name)
{
	struct backend *backend;
	size_t index;
	int err;

	if (find_backend(gateway, namespace, name))
		return 0;
	for (index = 0; index < GATEWAY_BACKENDS; index++) {
		bool used = *gateway->backends[index].name;

		/* A removed function's last servers may still be leaving. */
		for (size_t i = 0; !used && i < gateway->server_count; i++)
			used = gateway->servers[i].backend == index;
		if (!used)
			break;
	}
	if (index == GATEWAY_BACKENDS) {
		log_warning("no route for function=%s namespace=%s: all %d backends are taken",
			name, namespace, GATEWAY_BACKENDS);
		return -ENOSPC;
	}
	backend = &gateway->backends[index];
	snprintf(backend->namespace, sizeof(backend->namespace), "%s", namespace);
	snprintf(backend->name, sizeof(backend->name), "%s", name);
	if (gateway->restart_ms)
		return 0; /* in the map file of the next start */
	err = run_quiet(gateway, "add map", "add map %s %s.%s function_%zu\n", gateway->map_path,
		name, namespace, index);
	if (!err && !strcmp(namespace, "default"))
		err = run_quiet(gateway, "add map", "add map %s %s function_%zu\n",
			gateway->map_path, name, index);
	return err;
}

void gateway_remove_function(struct gateway *gateway, const char *namespace, const char *name)
{
	struct backend *backend = find_backend(gateway, namespace, name);

	if (!backend)
		return;
	backend->name[0] = '\0';
	if (gateway->restart_ms)
		return;
	run_quiet(gateway, "del map", "del map %s %s.%s\n", gateway->map_path, name, namespace);
	if (!strcmp(namespace, "default"))
		run_quiet(gateway, "del map", "del map %s %s\n", gateway->map_path, name);
}

static struct server *find_server(struct gateway *gateway, const char *name)
{
	for (size_t i = 0; i < gateway->server_count; i++)
		if (!strcmp(gateway->servers[i].name, name) &&
			gateway->servers[i].state != SERVER_GONE)
			return &gateway->servers[i];
	return NULL;
}

int gateway_add_server(struct gateway *gateway, const char *namespace, const char *function,
	const char *name, uint16_t port)
{
	const struct backend *backend = find_backend(gateway, namespace, function);
	struct server *server;
	int err = 0;

	if (!backend)
		return -ENOENT;
	if (gateway->server_count == gateway->server_room) {
		size_t room = gateway->server_room ? gateway->server_room * 2 : 16;
		struct server *servers = realloc(gateway->servers, room * sizeof(*servers));

		if (!servers)
			return -ENOMEM;
		gateway->servers = servers;
		gateway->server_room = room;
	}
	server = &gateway->servers[gateway->server_count];
	*server = (struct server){
		.backend = (size_t)(backend - gateway->backends),
		.port = port,
		.serial = ++gateway->serial,
		.state = SERVER_READY,
	};
	snprintf(server->name, sizeof(server->name), "%s", name);
	if (!gateway->restart_ms)
		err = register_server(gateway, server);
	if (!err)
		gateway->server_count++;
	return err;
}

int gateway_drain_server(struct gateway *gateway, const char *name)
{
	struct server *server = find_server(gateway, name);

	if (!server)
		return -ENOENT;
	server->state = SERVER_DRAINING;
	if (gateway->restart_ms)
		return 0;
	return run_quiet(gateway, "set server state drain",
		"set server function_%zu/%s.%u state drain\n", server->backend, server->name,
		server->serial);
}

int gateway_undrain_server(struct gateway *gateway, const char *name)
{
	struct server *server = find_server(gateway, name);

	if (!server)
		return -ENOENT;
	server->state = SERVER_READY;
	if (gateway->restart_ms)
		return 0;
	return run_quiet(gateway, "set server state ready",
		"set server function_%zu/%s.%u state ready\n", server->backend, server->name,
		server->serial);
}

int gateway_count_sessions(struct gateway *gateway, const char *name)
{
	struct server *server = find_server(gateway, name);
	char answer[16384], wanted[600], *line, *rest = NULL;

	if (!server || gateway->restart_ms)
		return -ENOENT;
	if (run_command(gateway, answer, sizeof(answer), "show servers conn function_%zu\n",
		    server->backend))
		return -EIO;
	snprintf(wanted, sizeof(wanted), "function_%zu/%s.%u", server->backend, server->name,
		server->serial);
	/* "backend/server  bkid/svid  address  port  -  purge_delay  used_cur ...", a header first. */
	for (line = strtok_r(answer, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char full[600];
		int used;

		if (sscanf(line, "%599s %*s %*s %*s %*s %*s %d", full, &used) != 2)
			continue;
		if (!strcmp(full, wanted))
			return used;
	}
	return -ENOENT;
}

void gateway_remove_server(struct gateway *gateway, const char *name)
{
	struct server *server = find_server(gateway, name);

	if (!server)
		return;
	server->state = SERVER_GONE;
	if (gateway->restart_ms) {
		server->state = SERVER_NONE;
		return;
	}
	run_quiet(gateway, "set server state maint", "set server function_%zu/%s.%u state maint\n",
		server->backend, server->name, server->serial);
	run_quiet(gateway, "shutdown sessions server",
		"shutdown sessions server function_%zu/%s.%u\n", server->backend, server->name,
		server->serial);
}
