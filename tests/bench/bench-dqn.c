// SPDX-License-Identifier: Apache-2.0
/*
 * Does the DQN learn what the reference learns, and how fast is one gradient step?
 *
 * The set-up is CleanRL's dqn.py (replay of 10,000, batch 128, Adam at 2.5e-4, one gradient step
 * every 10 steps after 10,000, epsilon from 1 to 0.05 over half of the run, net 120-84), with the
 * learner's default switches. CleanRL copies its target every 500 steps; our period is a switch.
 */
#include <cblas.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "environments/environment.h"
#include "learner/dqn/blas.h"
#include "learner/dqn/train.h"

#define REPLAY_CAPACITY 10000
#define TRAIN_EVERY	10
#define EPSILON_START	1.0
#define EPSILON_END	0.05
#define RETURNS_KEPT	100 /* episodes in the mean that is compared */
#define SEEDS_MAX	32
#define UPDATE_MFLOP	13.8 /* net 32-128-128-9, batch 64: three forward passes and a backward */

static double read_clock_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void log_blas(enum blas_level level, const char *line)
{
	fprintf(stderr, "# %s%s\n", level == BLAS_WARNING ? "warning: " : "", line);
}

/* The switches that --set knows. */
enum field_kind {
	FIELD_FLOAT,
	FIELD_U32,
	FIELD_U64,
	FIELD_BOOL
};

static const struct field {
	const char *name;
	enum field_kind kind;
	size_t offset;
} fields[] = {
	{"learning_rate", FIELD_FLOAT, offsetof(struct train_config, learning_rate)},
	{"adam_epsilon", FIELD_FLOAT, offsetof(struct train_config, adam_epsilon)},
	{"gamma", FIELD_FLOAT, offsetof(struct train_config, gamma)},
	{"n_step", FIELD_U32, offsetof(struct train_config, n_step)},
	{"batch", FIELD_U32, offsetof(struct train_config, batch)},
	{"huber_delta", FIELD_FLOAT, offsetof(struct train_config, huber_delta)},
	{"grad_clip", FIELD_FLOAT, offsetof(struct train_config, grad_clip)},
	{"double_dqn", FIELD_BOOL, offsetof(struct train_config, double_dqn)},
	{"dueling", FIELD_BOOL, offsetof(struct train_config, dueling)},
	{"prioritised", FIELD_BOOL, offsetof(struct train_config, prioritised)},
	{"alpha", FIELD_FLOAT, offsetof(struct train_config, alpha)},
	{"beta_start", FIELD_FLOAT, offsetof(struct train_config, beta_start)},
	{"beta_steps", FIELD_U64, offsetof(struct train_config, beta_steps)},
	{"target_period", FIELD_U32, offsetof(struct train_config, target_period)},
	{"tau", FIELD_FLOAT, offsetof(struct train_config, tau)},
	{"warmup", FIELD_U32, offsetof(struct train_config, warmup)},
};

/* @text is NAME=VALUE; 0, -EINVAL with the reason printed. */
static int set_field(struct train_config *config, const char *text)
{
	const char *equals = strchr(text, '=');
	char *end;
	double value;

	for (size_t i = 0; equals && i < sizeof(fields) / sizeof(fields[0]); i++) {
		void *at = (char *)config + fields[i].offset;

		if (strlen(fields[i].name) != (size_t)(equals - text) ||
			strncmp(fields[i].name, text, (size_t)(equals - text)) != 0)
			continue;
		value = strtod(equals + 1, &end);
		if (end == equals + 1 || *end || !(value >= 0 && value <= 1e9)) {
			fprintf(stderr, "bench-dqn: --set %s: not a number from 0 to 1e9\n", text);
			return -EINVAL;
		}
		switch (fields[i].kind) {
		case FIELD_FLOAT:
			*(float *)at = (float)value;
			break;
		case FIELD_U32:
			*(uint32_t *)at = (uint32_t)value;
			break;
		case FIELD_U64:
			*(uint64_t *)at = (uint64_t)value;
			break;
		case FIELD_BOOL:
			*(bool *)at = value != 0;
			break;
		}
		return 0;
	}
	fprintf(stderr, "bench-dqn: --set %s: not NAME=VALUE of a known name:", text);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		fprintf(stderr, " %s", fields[i].name);
	fprintf(stderr, "\n");
	return -EINVAL;
}

/* What one run keeps of its finished episodes. */
struct episodes {
	double returns[RETURNS_KEPT];
	uint64_t count;
};

static double mean_return(const struct episodes *episodes)
{
	uint64_t kept = episodes->count < RETURNS_KEPT ? episodes->count : RETURNS_KEPT;
	double sum = 0;

	for (uint64_t i = 0; i < kept; i++)
		sum += episodes->returns[i];
	return kept ? sum / (double)kept : 0;
}

struct run {
	const struct environment *environment;
	struct trainer trainer;
	struct replay replay;
	struct nstep stream;
	struct random_state random; /* of environment and exploration */
	struct episodes episodes;
	struct train_stats stats;
	double state[ENVIRONMENT_STATE];
	uint32_t episode_steps;
	double episode_return;
};

static double explore_share(uint64_t step, uint64_t steps)
{
	double part = (double)step / (0.5 * (double)steps);

	return part >= 1 ? EPSILON_END : EPSILON_START + part * (EPSILON_END - EPSILON_START);
}

static int act_once(struct run *run, double epsilon, float *scratch)
{
	const struct environment *environment = run->environment;
	float before[NETWORK_INPUTS_MAX];
	float after[NETWORK_INPUTS_MAX];
	float q[NETWORK_ACTIONS_MAX];
	uint32_t action;
	bool terminal;
	bool cut;
	double reward;
	int err;

	environment->observe(run->state, before);
	if (random_uniform_double(&run->random) < epsilon) {
		action = random_below(&run->random, environment->actions);
	} else {
		network_forward_one(&run->trainer.online, before, scratch, q);
		action =
			(uint32_t)network_best_action(q, environment->actions, NETWORK_ALL_ACTIONS);
	}
	reward = environment->step(run->state, action, &terminal);
	environment->observe(run->state, after);
	run->episode_return += reward;
	cut = ++run->episode_steps == environment->step_limit;
	err = replay_nstep_push(&run->replay, &run->stream, before, action, (float)reward, after,
		terminal ? REPLAY_TERMINAL
		: cut	 ? REPLAY_TRUNCATED
			 : REPLAY_CONTINUES,
		NETWORK_ALL_ACTIONS);
	if (terminal || cut) {
		run->episodes.returns[run->episodes.count++ % RETURNS_KEPT] = run->episode_return;
		run->episode_return = 0;
		run->episode_steps = 0;
		environment->reset(run->state, &run->random);
	}
	return err;
}

static int run_steps(struct run *run, uint64_t steps, uint64_t seed, float *scratch)
{
	double said_s = read_clock_s();
	bool on_terminal = isatty(STDERR_FILENO);
	int err = 0;

	run->environment->reset(run->state, &run->random);
	for (uint64_t step = 0; step < steps && !err; step++) {
		err = act_once(run, explore_share(step, steps), scratch);
		if (!err && step % TRAIN_EVERY == 0) {
			err = trainer_step(&run->trainer, &run->replay, &run->stats);
			if (err == -EAGAIN)
				err = 0;
		}
		if (step % 1024 == 0 && read_clock_s() - said_s >= (on_terminal ? 1 : 5)) {
			said_s = read_clock_s();
			fprintf(stderr,
				"%s# %s seed %llu: %3.0f %%, return %.1f, loss %.4f, Q %.1f%s",
				on_terminal ? "\r\033[K" : "", run->environment->name,
				(unsigned long long)seed, 100 * (double)step / (double)steps,
				mean_return(&run->episodes), run->stats.loss, run->stats.q_mean,
				on_terminal ? "" : "\n");
		}
	}
	if (on_terminal)
		fprintf(stderr, "\r\033[K");
	return err;
}

/* Train once; the mean return of the last episodes and the wall time. 0 or -errno. */
static int train_once(const struct environment *environment, const struct train_config *defaults,
	uint64_t seed, uint64_t steps, double *result, double *wall_s)
{
	struct train_config config = *defaults;
	struct network_shape shape = {
		.inputs = environment->inputs,
		.hidden1 = 120,
		.hidden2 = 84,
		.actions = environment->actions,
	};
	struct replay_config storage = {
		.capacity = REPLAY_CAPACITY,
		.inputs = environment->inputs,
		.actions = environment->actions,
		.prioritised = config.prioritised,
		.alpha = config.alpha,
	};
	struct run run = {.environment = environment};
	float *scratch = NULL;
	double begin_s = read_clock_s();
	int err;

	config.seed = seed;
	random_seed(&run.random, seed + 1000);
	err = trainer_create(&run.trainer, &shape, &config);
	err = err ? err : replay_create(&run.replay, &storage);
	err = err ? err : nstep_create(&run.stream, config.n_step, shape.inputs, config.gamma);
	if (!err) {
		scratch = malloc(network_scratch_floats(&run.trainer.online) * sizeof(float));
		err = scratch ? run_steps(&run, steps, seed, scratch) : -ENOMEM;
	}
	*result = mean_return(&run.episodes);
	*wall_s = read_clock_s() - begin_s;
	free(scratch);
	nstep_destroy(&run.stream);
	replay_destroy(&run.replay);
	trainer_destroy(&run.trainer);
	return err;
}

static const struct reference {
	const char *name, *dqn, *dqn_jax;
} references[] = {
	{"cartpole", "488.69 +- 16.11", "498.38 +- 2.29"},
	{"acrobot", "-91.54 +- 7.20", "-88.89 +- 1.56"},
	{"mountaincar", "-194.95 +- 8.48", "-188.90 +- 11.78"},
};

static int bench_environment(const struct environment *environment,
	const struct train_config *config, uint32_t seeds, uint64_t steps)
{
	double results[SEEDS_MAX];
	double mean = 0;
	double variance = 0;
	double wall_sum_s = 0;

	for (uint32_t i = 0; i < seeds; i++) {
		double wall_s;
		int err = train_once(environment, config, i + 1, steps, &results[i], &wall_s);

		if (err) {
			fprintf(stderr, "bench-dqn: %s, seed %u: %s\n", environment->name, i + 1,
				strerror(-err));
			return err;
		}
		printf("%s seed %u: mean return of the last %d episodes %.2f, %.1f s\n",
			environment->name, i + 1, RETURNS_KEPT, results[i], wall_s);
		fflush(stdout);
		mean += results[i] / seeds;
		wall_sum_s += wall_s;
	}
	for (uint32_t i = 0; i < seeds; i++)
		variance += (results[i] - mean) * (results[i] - mean) / seeds;
	printf("%s: %.2f +- %.2f over %u seeds of %llu steps", environment->name, mean,
		sqrt(variance), seeds, (unsigned long long)steps);
	for (size_t i = 0; i < sizeof(references) / sizeof(references[0]); i++) {
		if (strcmp(references[i].name, environment->name) == 0)
			printf(" (CleanRL at 500,000: dqn %s, dqn_jax %s)", references[i].dqn,
				references[i].dqn_jax);
	}
	printf("\nfigure %s_return %.2f return\nfigure %s_wall_s %.1f s\n", environment->name, mean,
		environment->name, wall_sum_s / seeds);
	fflush(stdout);
	return 0;
}

/* The machine's own rate: 1024^3, the best of a few. */
static double measure_sgemm_gflops(void)
{
	enum {
		N = 1024
	};
	float *memory = aligned_alloc(64, 3UL * N * N * sizeof(float));
	double best_s = INFINITY;

	if (!memory)
		return 0;
	for (size_t i = 0; i < 3UL * N * N; i++)
		memory[i] = (float)(i % 1013) / 1013 - 0.5F;
	for (int i = 0; i < 5; i++) {
		double begin_s = read_clock_s();

		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, N, N, N, 1, memory, N,
			memory + N * N, N, 0, memory + 2 * N * N, N);
		best_s = fmin(best_s, read_clock_s() - begin_s);
	}
	free(memory);
	return 2e-9 * N * N * N / best_s;
}

static int fill_replay(struct replay *replay, struct random_state *random)
{
	float state[NETWORK_INPUTS_MAX];
	float next[NETWORK_INPUTS_MAX];
	int err = 0;

	for (uint32_t i = 0; i < replay->config.capacity && !err; i++) {
		for (uint32_t k = 0; k < replay->config.inputs; k++) {
			state[k] = random_normal(random);
			next[k] = random_normal(random);
		}
		err = replay_push(replay, state, random_below(random, replay->config.actions),
			random_normal(random), 0.99F, next, NETWORK_ALL_ACTIONS);
	}
	return err;
}

/* Double DQN, Adam, uniform sampling: what PyTorch's script does too. */
static int bench_updates(void)
{
	const struct network_shape shape = {32, 128, 128, 9, false};
	const struct replay_config storage = {.capacity = 100000, .inputs = 32, .actions = 9};
	struct train_config config;
	struct train_stats stats;
	struct trainer trainer = {0};
	struct replay replay = {0};
	struct random_state random;
	double peak_gflops = 0;
	double best_rate = 0;
	int err;

	train_config_init(&config);
	config.batch = 64;
	config.dueling = false;
	config.prioritised = false;
	config.n_step = 1;
	config.grad_clip = 0;
	config.target_period = 500;
	random_seed(&random, 1);
	err = trainer_create(&trainer, &shape, &config);
	err = err ? err : replay_create(&replay, &storage);
	err = err ? err : fill_replay(&replay, &random);
	/*
	 * The best round, as PyTorch's script takes it: neighbours on the machine only slow down. Both
	 * rates are taken in turns, so that they see the same neighbours and the same clock.
	 */
	for (int round = 0; round < 20 && !err; round++) {
		enum {
			STEPS = 1000
		};
		double begin_s = read_clock_s();

		for (int i = 0; i < STEPS && !err; i++)
			err = trainer_step(&trainer, &replay, &stats);
		best_rate = fmax(best_rate, STEPS / (read_clock_s() - begin_s));
		peak_gflops = fmax(peak_gflops, measure_sgemm_gflops());
	}
	if (!err) {
		printf("update of net 32-128-128-9, batch 64: %.1f us on kernels %s; sgemm 1024^3 "
		       "%.0f GFLOP/s\n",
			1e6 / best_rate, blas_corename(), peak_gflops);
		printf("figure updates_per_s %.0f 1/s\n", best_rate);
		printf("figure gemm_peak_share %.3f share\n",
			best_rate * UPDATE_MFLOP * 1e-3 / peak_gflops);
	}
	replay_destroy(&replay);
	trainer_destroy(&trainer);
	return err;
}

/* The presets of a machine are not the bench's subject: start again without them. */
static void drop_presets(char **argv)
{
	const char *preset = getenv("OPENBLAS_CORETYPE");
	const char *cache = getenv("OPENBLAS_L2_SIZE");

	if ((!preset && !cache) || getenv("EBBTIDE_BLAS_CHOSEN"))
		return;
	printf("unset for this run: OPENBLAS_CORETYPE=%s OPENBLAS_L2_SIZE=%s\n",
		preset ? preset : "(not set)", cache ? cache : "(not set)");
	fflush(stdout);
	unsetenv("OPENBLAS_CORETYPE");
	unsetenv("OPENBLAS_L2_SIZE");
	execv("/proc/self/exe", argv);
	fprintf(stderr, "bench-dqn: cannot start again: %s; the presets stay\n", strerror(errno));
}

static void print_usage(FILE *out)
{
	fprintf(out,
		"Usage: bench-dqn [OPTION]...\n"
		"Train the DQN on CartPole-v1, Acrobot-v1 and MountainCar-v0 and time one update.\n\n"
		"  --env NAME        cartpole, acrobot, mountaincar, all (default) or none\n"
		"  --seeds N         runs for each environment, 1 to %d (default 3)\n"
		"  --steps N         environment steps a run (default 500000)\n"
		"  --set NAME=VALUE  change a switch of the trainer; may be repeated\n"
		"  --updates-only    as --env none\n"
		"  --no-updates      do not time the update\n"
		"  --help            this text\n"
		"  --version         the version\n",
		SEEDS_MAX);
}

static bool parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && end != text && !*end && *value >= min && *value <= max;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"env", required_argument, NULL, 'e'},
		{"seeds", required_argument, NULL, 's'},
		{"steps", required_argument, NULL, 'n'},
		{"set", required_argument, NULL, 'S'},
		{"updates-only", no_argument, NULL, 'u'},
		{"no-updates", no_argument, NULL, 'U'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	const char *wanted = "all";
	struct train_config config;
	uint64_t seeds = 3;
	uint64_t steps = 500000;
	bool updates = true;
	bool found = false;
	char error[128];
	int err = 0;
	int option;

	if (argc != 2 || strcmp(argv[1], "--blas-self-test") != 0)
		drop_presets(argv);
	blas_select(argc, argv, log_blas);
	train_config_init(&config);
	config.warmup = REPLAY_CAPACITY;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'e':
			wanted = optarg;
			break;
		case 's':
			if (!parse_count(optarg, 1, SEEDS_MAX, &seeds)) {
				fprintf(stderr, "bench-dqn: --seeds %s: give 1 to %d\n", optarg,
					SEEDS_MAX);
				return 2;
			}
			break;
		case 'n':
			if (!parse_count(optarg, 1, 1000000000, &steps)) {
				fprintf(stderr, "bench-dqn: --steps %s: give 1 to 1000000000\n",
					optarg);
				return 2;
			}
			break;
		case 'S':
			if (set_field(&config, optarg))
				return 2;
			break;
		case 'u':
			wanted = "none";
			break;
		case 'U':
			updates = false;
			break;
		case 'h':
			print_usage(stdout);
			return 0;
		case 'v':
			printf("bench-dqn %s\n", EBBTIDE_VERSION);
			return 0;
		default:
			print_usage(stderr);
			return 2;
		}
	}
	if (train_config_check(&config, error, sizeof(error))) {
		fprintf(stderr, "bench-dqn: --set: %s\n", error);
		return 2;
	}
	for (size_t i = 0; i < ENVIRONMENT_COUNT && !err; i++) {
		if (strcmp(wanted, "all") != 0 && strcmp(wanted, environments[i].name) != 0)
			continue;
		found = true;
		err = bench_environment(&environments[i], &config, (uint32_t)seeds, steps);
	}
	if (!found && strcmp(wanted, "none") != 0) {
		fprintf(stderr,
			"bench-dqn: --env %s: give cartpole, acrobot, mountaincar, all or "
			"none\n",
			wanted);
		return 2;
	}
	if (updates && !err) {
		err = bench_updates();
		if (err)
			fprintf(stderr, "bench-dqn: update: %s\n", strerror(-err));
	}
	return err ? 1 : 0;
}
