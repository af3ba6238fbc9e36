// SPDX-License-Identifier: Apache-2.0
/* The fronts of a row as a picture: cores over the share of windows that broke the objective. */
#include "bench/policy/policy.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define WIDTH	     720
#define HEIGHT	     400
#define LEFT	     64
#define RIGHT	     210
#define TOP	     56
#define BOTTOM	     52
#define SHARE_LOWEST 1e-4 /* and all under it, none included */
#define SHARE_MOST   0.3
#define OVER_MOST    6.0 /* cores over use */

/* Okabe and Ito's colours: told apart without red and green. */
struct look {
	const char *family;
	const char *colour;
	double width;
};
static const struct look looks[] = {
	{"static", "#999999", 1.2},
	{"k8s-cpu", "#56b4e9", 1.2},
	{"k8s-cpu-fast", "#0072b2", 1.2},
	{"captain", "#009e73", 1.2},
	{"koordinator", "#cc79a7", 1.2},
	{"vpa", "#e69f00", 1.2},
	{"autopilot", "#b3a100", 1.2},
	{"reflex-fixed", "#000000", 2.4},
	{"rung", "#7a4fa3", 1.6},
	{"dqn", "#d55e00", 3},
};
#define LOOKS (sizeof(looks) / sizeof(looks[0]))

static const char *const dashes[VARIANT_COUNT] = {"none", "2 3", "7 3"};

static double x_of(double violations)
{
	double share =
		log(fmax(violations, SHARE_LOWEST) / SHARE_LOWEST) / log(SHARE_MOST / SHARE_LOWEST);

	return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(double over_use)
{
	double share = log(fmax(over_use, 1)) / log(OVER_MOST);

	return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *file, const struct bench_field *field)
{
	static const double shares[] = {1e-4, 1e-3, 1e-2, 5e-2, 0.2};
	static const double over[] = {1, 1.25, 1.5, 2, 3, 4, 6};
	const double used = field->outcomes[0].used_cores;

	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
		fprintf(file,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\"/>"
			"<text x=\"%.1f\" y=\"%d\" class=\"m\">%s%g %%</text>\n",
			x_of(shares[i]), TOP, x_of(shares[i]), HEIGHT - BOTTOM,
			fabs(shares[i] - BENCH_VIOLATIONS_MOST) < 1e-9 ? "#888888" : "#e4e4e4",
			x_of(shares[i]), HEIGHT - BOTTOM + 16, i ? "" : "&#8804; ",
			100 * shares[i]);
	for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++)
		fprintf(file,
			"<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>"
			"<text x=\"%d\" y=\"%.1f\" class=\"e\">%.2f</text>\n",
			LEFT, y_of(over[i]), WIDTH - RIGHT, y_of(over[i]), LEFT - 6,
			y_of(over[i]) + 4, over[i] * used);
	fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"m\">1 s windows over the objective</text>\n",
		(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14);
	fprintf(file,
		"<text x=\"14\" y=\"%d\" class=\"m\" transform=\"rotate(-90 14 %d)\">cores "
		"allocated (lowest line: used)</text>\n",
		(TOP + HEIGHT - BOTTOM) / 2, (TOP + HEIGHT - BOTTOM) / 2);
}

static void draw_front(FILE *file, const struct bench_field *field, const char *name,
	const struct look *look, enum bench_variant variant)
{
	struct front_point front[BENCH_POINTS_MAX];
	uint32_t count = front_make(front, field_points(field, name, NULL, front));
	const double used = field->outcomes[0].used_cores;

	fprintf(file,
		"<g clip-path=\"url(#plot)\"><title>%s</title><polyline fill=\"none\" "
		"stroke=\"%s\" stroke-width=\"%g\" stroke-dasharray=\"%s\" points=\"",
		name, look->colour, look->width, dashes[variant]);
	/* One point beyond the edge, so that the line leaves there. */
	while (count > 1 && front[count - 2].violations > SHARE_MOST)
		count--;
	for (uint32_t i = 0; i < count; i++)
		fprintf(file, "%.1f,%.1f ", x_of(front[i].violations), y_of(front[i].cores / used));
	fputs("\"/>", file);
	for (uint32_t i = 0; i < count; i++)
		fprintf(file,
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"><title>%s: %.3f "
			"cores, %.2f %%, %s</title></circle>",
			x_of(front[i].violations), y_of(front[i].cores / used),
			count == 1 || look->width > 2 ? 3 : 1.8, look->colour, name, front[i].cores,
			100 * front[i].violations, field->settings[front[i].index].parameters);
	fputs("</g>\n", file);
}

static void draw_key(
	FILE *file, double y, const char *text, const char *colour, double width, const char *dash)
{
	fprintf(file,
		"<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\" "
		"stroke-width=\"%g\" stroke-dasharray=\"%s\"/><text x=\"%d\" y=\"%.1f\" "
		"class=\"s\">%s</text>\n",
		WIDTH - RIGHT + 14, y, WIDTH - RIGHT + 44, y, colour, width, dash,
		WIDTH - RIGHT + 52, y + 4, text);
}

static const struct look *look_of(const struct bench_setting *setting)
{
	for (size_t i = 0; i < LOOKS; i++)
		if (strcmp(looks[i].family, setting->policy->family) == 0)
			return &looks[i];
	return NULL;
}

static void draw_keys(FILE *file, const bool shown[LOOKS])
{
	static const char *const texts[VARIANT_COUNT] = {
		"as published", "with burst", "with reflex and burst"};
	double y = TOP + 8;

	for (size_t i = 0; i < LOOKS; i++)
		if (shown[i]) {
			draw_key(file, y, looks[i].family, looks[i].colour, looks[i].width, "none");
			y += 20;
		}
	y += 12;
	for (int i = 0; i < VARIANT_COUNT; i++, y += 20)
		draw_key(file, y, texts[i], "#444444", 1.2, dashes[i]);
}

int picture_draw(FILE *file, const struct bench_field *field)
{
	const struct bench_row *row = field->row;
	const char *names[BENCH_NAMES_MAX];
	uint32_t count = field_names(field, names, BENCH_NAMES_MAX);
	bool shown[LOOKS] = {false};

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 "
		"%d %d\" font-family=\"DejaVu Sans, sans-serif\">\n"
		"<style>.m{font-size:11px;text-anchor:middle;fill:#333}.e{font-size:11px;"
		"text-anchor:end;fill:#333}.s{font-size:12px;fill:#333}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
		"<clipPath id=\"plot\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>"
		"</clipPath>\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT - 4, TOP - 4, WIDTH - LEFT - RIGHT + 8,
		HEIGHT - TOP - BOTTOM + 8);
	fprintf(file,
		"<text x=\"%d\" y=\"24\" font-size=\"15\">%s</text><text x=\"%d\" y=\"42\" "
		"class=\"s\">%g ms a request (cv %g), p99 under %g ms, %s%s</text>\n",
		LEFT, row->name, LEFT, row->work_ms, row->work_cv, row->objective_ms,
		row_load_name(row), row->bursts ? ", bursts within the second" : "");
	draw_axes(file, field);
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < field->setting_count; j++) {
			const struct bench_setting *setting = &field->settings[j];
			const struct look *look = look_of(setting);

			if (strcmp(setting->name, names[i]) != 0)
				continue;
			if (look) {
				draw_front(file, field, names[i], look, setting->variant);
				shown[look - looks] = true;
			}
			break;
		}
	draw_keys(file, shown);
	fputs("</svg>\n", file);
	return ferror(file) ? -EIO : 0;
}
