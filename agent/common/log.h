// SPDX-License-Identifier: Apache-2.0
/* One-line, key=value logging to standard error, levels as in syslog(3). */
#ifndef EBBTIDE_LOG_H
#define EBBTIDE_LOG_H

enum log_level {
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Name shown in every line; messages above @level are dropped. Call once, before any thread. */
void log_init(const char *program, enum log_level level);
/* "err", "warning", "notice", "info", "debug" -> level; -EINVAL otherwise. */
int log_parse_level(const char *name);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)	 log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
