// SPDX-License-Identifier: Apache-2.0
#include "local/process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Below 32768, where outgoing connections get their ports from, so that none takes one meanwhile. */
#define PORT_FIRST	 20000
#define PORT_COUNT	 12000
#define PORT_TRIES	 256
#define CLEAR_TIMEOUT_MS 5000
#define CLEAR_STEP_MS	 10

enum child_step {
	STEP_LOG = 1,
	STEP_CHDIR,
	STEP_EXEC
};

struct child_failure {
	int step;
	int error;
};

/* Only async-signal-safe calls: other threads exist, and one may have held a lock at the fork. */
static _Noreturn void run_child(
	const struct process_spec *spec, pid_t parent, int log_fd, int go_fd, int report_fd)
{
	struct child_failure failure;
	sigset_t none;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	setpgid(0, 0);
	while (read(go_fd, &byte, 1) < 0 && errno == EINTR)
		;
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	failure.step = STEP_LOG;
	if (log_fd >= 0 && (dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0))
		goto fail;
	/* Everything else closes at exec; what a careless library opened included. */
	close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	failure.step = STEP_CHDIR;
	if (spec->directory && chdir(spec->directory))
		goto fail;
	failure.step = STEP_EXEC;
	execvpe(spec->arguments[0], spec->arguments, spec->environment);
fail:
	failure.error = errno;
	if (write(report_fd, &failure, sizeof(failure)) < 0)
		_exit(126);
	_exit(127);
}

static int open_log(const char *path)
{
	int fd = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	return fd < 0 ? -errno : fd;
}

int process_start(const struct cgroup_driver *driver, const struct process_spec *spec, pid_t *pid,
	const char **step)
{
	static const char *const steps[] = {"fork", "log", "chdir", "exec"};
	int go[2] = {-1, -1}, report[2] = {-1, -1}, log_fd = -1, err = 0;
	struct child_failure failure;
	pid_t parent = getpid(), child;

	*step = "log";
	if (spec->log_path) {
		log_fd = open_log(spec->log_path);
		if (log_fd < 0)
			return log_fd;
	}
	*step = "fork";
	if (pipe2(go, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) {
		err = -errno;
		goto out;
	}
	child = fork();
	if (child < 0) {
		err = -errno;
		goto out;
	}
	if (child == 0) {
		close(go[1]);
		run_child(spec, parent, log_fd, go[0], report[1]);
	}
	close(report[1]);
	report[1] = -1;
	if (spec->cgroup) {
		err = cgroup_add_process(driver, spec->cgroup, child);
		if (err) {
			*step = "cgroup";
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
			goto out;
		}
	}
	close(go[1]); /* end of file lets it go on */
	go[1] = -1;
	if (read(report[0], &failure, sizeof(failure)) == (ssize_t)sizeof(failure)) {
		waitpid(child, NULL, 0);
		*step = steps[failure.step];
		err = -failure.error;
		goto out;
	}
	*pid = child;
out:
	for (int i = 0; i < 2; i++) {
		if (go[i] >= 0)
			close(go[i]);
		if (report[i] >= 0)
			close(report[i]);
	}
	if (log_fd >= 0)
		close(log_fd);
	return err;
}

int process_check_listen(const char *address, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd, err = 0, on = 1;

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return -EINVAL;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&to, sizeof(to)) || listen(fd, 1))
		err = -errno;
	close(fd);
	return err;
}

int process_find_port(uint16_t *port)
{
	for (int i = 0; i < PORT_TRIES; i++) {
		uint16_t number = 0;

		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			continue;
		number = (uint16_t)(PORT_FIRST + number % PORT_COUNT);
		if (process_check_listen("127.0.0.1", number) == 0) {
			*port = number;
			return 0;
		}
	}
	return -EADDRINUSE;
}

bool process_port_answers(uint16_t port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answers;

	if (fd < 0)
		return false;
	answers = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
	if (!answers && errno == EINPROGRESS) {
		struct pollfd wait = {.fd = fd, .events = POLLOUT};
		int error = 0;
		socklen_t size = sizeof(error);

		/* On loopback the handshake is over at once; only a full backlog is silent. */
		answers = poll(&wait, 1, 20) == 1 &&
			  !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && error == 0;
	}
	close(fd);
	return answers;
}

static int signal_listed(const char *procs, int sig)
{
	FILE *file = fopen(procs, "re");
	int count = 0;
	int pid;

	if (!file)
		return 0;
	while (fscanf(file, "%d", &pid) == 1) {
		if (pid <= 0 || pid == getpid())
			continue;
		count++;
		if (sig)
			kill(pid, sig);
	}
	fclose(file);
	return count;
}

static int signal_tree(const char *directory, int sig, int depth)
{
	char path[1024];
	struct dirent *entry;
	DIR *dir = opendir(directory);
	int count;

	if (!dir)
		return 0;
	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	count = signal_listed(path, sig);
	while (depth > 0 && (entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) >=
			(int)sizeof(path))
			continue;
		count += signal_tree(path, sig, depth - 1);
	}
	closedir(dir);
	return count;
}

int process_signal_cgroup(const struct cgroup_driver *driver, const char *path, int sig)
{
	const char *roots[] = {driver->unified_root, driver->cpu_root, driver->memory_root};
	char directory[2 * CGROUP_PATH_MAX];
	int most = 0;

	for (size_t i = 0; i < 3; i++) {
		int count;

		if (i && !strcmp(roots[i], roots[i - 1]))
			continue;
		snprintf(directory, sizeof(directory), "%s%s", roots[i], path);
		count = signal_tree(directory, sig, 8);
		if (count > most)
			most = count;
	}
	return most;
}

int process_count_in_cgroup(const struct cgroup_driver *driver, const char *path)
{
	return process_signal_cgroup(driver, path, 0);
}

int process_clear_cgroup(const struct cgroup_driver *driver, const char *path)
{
	int killed, waited, err;

	if (!cgroup_exists(driver, path))
		return 0;
	killed = process_signal_cgroup(driver, path, SIGKILL);
	for (waited = 0; waited < CLEAR_TIMEOUT_MS; waited += CLEAR_STEP_MS) {
		err = cgroup_remove(driver, path);
		if (err != -EBUSY)
			return err && err != -ENOENT ? err : killed;
		process_signal_cgroup(driver, path, SIGKILL);
		poll(NULL, 0, CLEAR_STEP_MS);
	}
	return -EBUSY;
}
