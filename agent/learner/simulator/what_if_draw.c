// SPDX-License-Identifier: Apache-2.0
/* The grid of `what-if` as a picture: a field for each limit and number of replicas. */
#include "learner/simulator/what_if.h"

#include <errno.h>
#include <math.h>

#define FIELD_WIDTH  96
#define FIELD_HEIGHT 50
#define LEFT	     96
#define TOP	     72
#define BOTTOM	     76
#define RIGHT	     24

/* Told apart without red and green and in grey print: blue holds, orange does not. */
static const int blue[3] = {0x00, 0x72, 0xb2}, orange[3] = {0xe6, 0x9f, 0x00};

/* Strong blue far under the target, pale at it, strong orange at eight times it. */
static void field_colour(double ratio, bool holds, char colour[8])
{
	double strength = fmin(fabs(log2(fmax(ratio, 1e-3))) / 3, 1);
	const int *full = holds ? blue : orange;
	unsigned int rgb[3];

	/* A tick may break what all requests together hold, and the other way round. */
	strength = 0.2 + 0.5 * strength;
	for (int i = 0; i < 3; i++)
		rgb[i] = (unsigned int)(255 - (255 - full[i]) * strength) & 0xff;
	snprintf(colour, 8, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

static void format_time(double us, char *text, size_t size)
{
	if (us >= 1e6)
		snprintf(text, size, "%.3g s", us / 1e6);
	else
		snprintf(text, size, "%.3g ms", us / 1e3);
}

static void draw_field(FILE *file, const struct what_if *what_if, const struct what_if_cell *cell,
	double x, double y, bool chosen)
{
	double target_us = what_if->config.service[0].latency_target_us;
	char colour[8], latency[32];

	field_colour(cell->latency_objective_us / target_us, cell->holds, colour);
	format_time(cell->latency_objective_us, latency, sizeof(latency));
	fprintf(file,
		"<g><title>%u x %.0fm: p50 %.3g ms, p%g %s, %.2f %% of seconds over, %.3f cores "
		"used, %.3f allocated</title>\n",
		cell->replicas, cell->limit_millicores, cell->latency_p50_us / 1e3,
		what_if->config.service[0].latency_percentile, latency, 100 * cell->violations,
		cell->used_cores, cell->allocated_cores);
	fprintf(file,
		"<rect x=\"%g\" y=\"%g\" width=\"%d\" height=\"%d\" fill=\"%s\" stroke=\"%s\" "
		"stroke-width=\"%d\"/>\n",
		x + 2, y + 2, FIELD_WIDTH - 4, FIELD_HEIGHT - 4, colour,
		chosen ? "#000000" : "none", chosen ? 3 : 0);
	fprintf(file, "<text x=\"%g\" y=\"%g\" class=\"v\">%s</text>\n", x + FIELD_WIDTH / 2.0,
		y + 22, latency);
	fprintf(file, "<text x=\"%g\" y=\"%g\" class=\"c\">%.2f cores</text></g>\n",
		x + FIELD_WIDTH / 2.0, y + 38, cell->allocated_cores);
}

static void draw_limit(
	FILE *file, const struct what_if *what_if, double limit_millicores, double x, double y)
{
	fprintf(file, "<text x=\"%g\" y=\"%g\" class=\"v\">", x, y);
	if (limit_millicores > 0)
		fprintf(file, "%.0fm</text>\n", limit_millicores);
	else
		fprintf(file, "no %s</text>\n",
			what_if_reserves(what_if) ? "reservation" : "limit");
}

static void draw_frame(FILE *file, const struct what_if *what_if, int width, int height)
{
	const struct simulate_service *service = &what_if->config.service[0];
	double bottom = TOP + FIELD_HEIGHT * (double)what_if->replica_count;

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans, sans-serif\">\n"
		"<style>.v{font-size:14px;text-anchor:middle}.c{font-size:11px;"
		"text-anchor:middle;fill:#333}.l{font-size:13px;fill:#333}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
		width, height, width, height);
	fprintf(file,
		"<text x=\"%d\" y=\"28\" font-size=\"16\">p%g latency and cores allocated; "
		"objective %g ms in %g %% of seconds</text>\n",
		RIGHT, service->latency_percentile, service->latency_target_us / 1e3,
		100 * (1 - what_if->acceptable_violations));
	fprintf(file,
		"<text x=\"%d\" y=\"54\" class=\"l\">%u s of load, %.3g ms of CPU a request "
		"(cv %.2g), %g workers a replica</text>\n",
		RIGHT, what_if->ticks, service->work_us / 1e3, service->work_cv, service->workers);
	fprintf(file, "<text x=\"%g\" y=\"%g\" class=\"v\">CPU %s of one replica</text>\n",
		LEFT + FIELD_WIDTH * what_if->limit_count / 2.0, bottom + 40,
		what_if_reserves(what_if) ? "reservation" : "limit");
	fprintf(file,
		"<text x=\"%d\" y=\"%g\" class=\"l\">blue holds, orange does not; the frame is "
		"the least CPU that holds</text>\n",
		RIGHT, bottom + 64);
	fprintf(file,
		"<text x=\"30\" y=\"%g\" class=\"v\" transform=\"rotate(-90 30 %g)\">replicas"
		"</text>\n",
		(TOP + bottom) / 2, (TOP + bottom) / 2);
}

int what_if_draw(FILE *file, const struct what_if *what_if, const struct what_if_cell *cells)
{
	const uint32_t columns = what_if->limit_count, rows = what_if->replica_count;
	const struct what_if_cell *chosen = what_if_cheapest(cells, columns * rows);
	int width = LEFT + FIELD_WIDTH * (int)columns + RIGHT;

	/* The title is wider than a narrow grid. */
	width = width > 640 ? width : 640;
	draw_frame(file, what_if, width, TOP + FIELD_HEIGHT * (int)rows + BOTTOM);
	for (uint32_t row = 0; row < rows; row++) {
		double y = TOP + FIELD_HEIGHT * (double)row;

		fprintf(file, "<text x=\"70\" y=\"%g\" class=\"v\">%u</text>\n",
			y + FIELD_HEIGHT / 2.0 + 5, what_if->replicas[row]);
		for (uint32_t column = 0; column < columns; column++) {
			const struct what_if_cell *cell = &cells[row * columns + column];

			draw_field(file, what_if, cell, LEFT + FIELD_WIDTH * (double)column, y,
				cell == chosen);
		}
	}
	for (uint32_t column = 0; column < columns; column++)
		draw_limit(file, what_if, what_if->limit_millicores[column],
			LEFT + FIELD_WIDTH * (column + 0.5),
			TOP + FIELD_HEIGHT * (double)rows + 18);
	fputs("</svg>\n", file);
	return ferror(file) ? -EIO : 0;
}
