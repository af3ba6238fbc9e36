// SPDX-License-Identifier: Apache-2.0
#include "node/limits/pressure.h"

#include "common/log.h"
#include "common/memory_limit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Of one wake; the rest comes with the next. */
#define EVENTS_MAX 16

struct pressure {
	struct agent *agent;
	pthread_t thread;
	int poll_fd;
	int stop_fd;
};

void pressure_watch(struct agent *agent, struct container *container)
{
	struct epoll_event event = {.events = EPOLLPRI, .data.u32 = container->attachment.slot};
	int fd;

	if (container->pressure_fd > 0 || !agent->pressure)
		return;
	fd = cgroup_open_memory_trigger(
		&agent->driver, container->path, MEMORY_STALL_US, MEMORY_WINDOW_US);
	/* Without PSI, or on the hybrid layout: pressure_tick() watches. */
	if (fd < 0)
		return;
	if (epoll_ctl(agent->pressure->poll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		close(fd);
		return;
	}
	container->pressure_fd = fd;
}

void pressure_unwatch(struct agent *agent, struct container *container)
{
	(void)agent;
	if (container->pressure_fd > 0)
		close(container->pressure_fd);
	container->pressure_fd = 0;
}

bool pressure_is_watched(const struct container *container)
{
	return container->pressure_fd > 0;
}

/* The owner's limit, as far as ours has taken its place. */
static int64_t owners_bytes(const struct agent *agent, const struct container *container)
{
	const struct cgroup_limits *original = &container->original;

	if (agent->driver.layout == CGROUP_LAYOUT_V2 && original->memory_high_bytes > 0)
		return original->memory_high_bytes;
	return original->memory_max_bytes;
}

static void raise_to(
	struct agent *agent, struct container *container, uint64_t bytes, const char *because)
{
	struct unit *unit = container->unit;
	int64_t before = actuate_memory_limit(&container->current);
	int err = actuate_memory(agent, container, (int64_t)bytes);

	if (err) {
		log_warning("unit=%s/%s pod=%s memory_bytes=%llu error=\"%s\"", unit->namespace,
			unit->service, container->pod, (unsigned long long)bytes, strerror(-err));
		return;
	}
	resize_ask(agent, container, 0, 0, (int64_t)bytes);
	unit->total_memory_raises++;
	/* A container that joins before the next answer lives on it as well. */
	if (unit->has_plan && unit->plan.memory_bytes && unit->plan.memory_bytes < bytes)
		unit->plan.memory_bytes = bytes;
	log_info("unit=%s/%s pod=%s event=\"memory limit raised\" because=\"%s\" "
		 "memory_bytes=%lld->%lld",
		unit->namespace, unit->service, container->pod, because, (long long)before,
		(long long)actuate_memory_limit(&container->current));
}

static void pressed(struct agent *agent, struct container *container)
{
	int64_t limit = actuate_memory_limit(&container->current);
	int64_t most = owners_bytes(agent, container);
	struct cgroup_usage usage;

	if (limit <= 0 || most <= limit ||
		cgroup_read_usage(&agent->driver, container->path, &usage))
		return;
	raise_to(agent, container,
		memory_raised_bytes(
			(uint64_t)limit, usage.memory_working_set_bytes, (uint64_t)most),
		"pressure");
}

static void event_handle(struct agent *agent, const struct epoll_event *event)
{
	uint32_t slot = event->data.u32;
	struct container *container = slot < agent->config.max_slots ? agent->owners[slot] : NULL;

	if (!container)
		return;
	/* Its cgroup is gone; the API will say so. */
	if (event->events & (EPOLLERR | EPOLLHUP))
		pressure_unwatch(agent, container);
	else
		pressed(agent, container);
}

/*
 * Looking at a trigger takes its event, so that an epoll inside the main loop's would lose it: hence
 * a thread.
 */
static void *pressure_thread(void *context)
{
	struct pressure *pressure = context;
	struct agent *agent = pressure->agent;
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int count = epoll_wait(pressure->poll_fd, events, EVENTS_MAX, -1);

		for (int i = 0; i < count; i++)
			if (events[i].data.u32 == SLOT_NONE)
				return NULL;
		if (count < 0 && errno != EINTR)
			return NULL;
		pthread_mutex_lock(&agent->lock);
		for (int i = 0; i < count; i++)
			event_handle(agent, &events[i]);
		pthread_mutex_unlock(&agent->lock);
	}
}

int pressure_open(struct agent *agent)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = SLOT_NONE};
	struct pressure *pressure = calloc(1, sizeof(*pressure));
	int err = 0;

	if (!pressure)
		return -ENOMEM;
	pressure->agent = agent;
	pressure->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	pressure->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (pressure->poll_fd < 0 || pressure->stop_fd < 0 ||
		epoll_ctl(pressure->poll_fd, EPOLL_CTL_ADD, pressure->stop_fd, &event) != 0)
		err = -errno;
	if (!err)
		err = -pthread_create(&pressure->thread, NULL, pressure_thread, pressure);
	if (!err) {
		agent->pressure = pressure;
		return 0;
	}
	if (pressure->poll_fd >= 0)
		close(pressure->poll_fd);
	if (pressure->stop_fd >= 0)
		close(pressure->stop_fd);
	free(pressure);
	return err;
}

void pressure_close(struct agent *agent)
{
	struct pressure *pressure = agent->pressure;

	if (!pressure)
		return;
	(void)eventfd_write(pressure->stop_fd, 1);
	pthread_join(pressure->thread, NULL);
	close(pressure->poll_fd);
	close(pressure->stop_fd);
	free(pressure);
	agent->pressure = NULL;
}

static void watch_by_tick(struct agent *agent, struct container *container)
{
	uint64_t used = container->memory_working_set_bytes;
	int64_t limit = actuate_memory_limit(&container->current);
	int64_t most = owners_bytes(agent, container);

	if (limit > 0 && most > limit && (uint64_t)limit < memory_floor_bytes(used))
		raise_to(agent, container,
			memory_raised_bytes((uint64_t)limit, used, (uint64_t)most), "working set");
}

void pressure_tick(struct agent *agent)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *unit = agent->units.items[i];

		for (size_t k = 0; k < unit->container_count; k++)
			if (unit->containers[k]->pressure_fd <= 0)
				watch_by_tick(agent, unit->containers[k]);
	}
}
