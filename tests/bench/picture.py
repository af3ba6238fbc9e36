# SPDX-License-Identifier: Apache-2.0
"""Small line charts as SVG, for figures in docs/: what a panel shows is what was measured."""
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 28, 52, 46
COLUMNS = 2


@dataclass
class Panel:
    title: str
    x_label: str
    y_label: str
    points: dict  # x: y
    targets: dict = field(default_factory=dict)  # x: at most this


def nice(top):
    """1, 2 or 5 times a power of ten: up to six lines to @top."""
    for exponent in range(-6, 12):
        for mantissa in (1, 2, 5):
            size = mantissa * 10.0 ** exponent
            if top / size <= 6:
                return size
    return top


def number(value):
    return f"{value:,.10g}".replace(",", " ")


def panel_draw(panel, left, top):
    x_top = max(panel.points) or 1
    y_most = max(list(panel.points.values()) + list(panel.targets.values())) or 1
    line = nice(y_most)
    y_top = line * -(-y_most // line)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    at_x = lambda x: left + LEFT + across * x / x_top
    at_y = lambda y: top + TOP + up * (1 - y / y_top)
    out = [f'<text class="title" x="{left + LEFT}" y="{top + 20}">{escape(panel.title)}</text>']
    for i in range(round(y_top / line) + 1):
        y = at_y(i * line)
        out.append(f'<line class="grid" x1="{at_x(0):.1f}" x2="{at_x(x_top):.1f}" y1="{y:.1f}" '
                   f'y2="{y:.1f}"/><text class="y" x="{at_x(0) - 6:.1f}" y="{y + 4:.1f}">'
                   f'{number(i * line)}</text>')
    ticks = nice(x_top)
    for i in range(int(x_top / ticks) + 1):
        out.append(f'<text class="x" x="{at_x(i * ticks):.1f}" y="{at_y(0) + 16:.1f}">'
                   f'{number(i * ticks)}</text>')
    out.append(f'<text class="x" x="{at_x(x_top / 2):.1f}" y="{at_y(0) + 34:.1f}">'
               f'{escape(panel.x_label)}</text>')
    out.append(f'<text class="unit" x="{left + 8}" y="{top + TOP - 8}">{escape(panel.y_label)}</text>')
    marks = sorted(panel.points.items())
    path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in marks)
    out.append(f'<polyline class="curve" points="{path}"/>')
    out += [f'<circle class="point" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3"><title>{number(x)}: '
            f'{y:.3g}</title></circle>' for x, y in marks]
    for x, y in panel.targets.items():
        out.append(f'<path class="target" d="M{at_x(x) - 7:.1f},{at_y(y):.1f}h14"><title>at most '
                   f'{number(y)} at {number(x)}</title></path>'
                   f'<text class="limit" x="{at_x(x) - 9:.1f}" y="{at_y(y) + 4:.1f}">≤ {number(y)}'
                   f'</text>')
    return "\n".join(out)


def picture(title, panels):
    rows = -(-len(panels) // COLUMNS)
    width, height = WIDTH * min(COLUMNS, len(panels)), HEIGHT * rows
    drawn = "\n".join(panel_draw(panel, WIDTH * (i % COLUMNS), HEIGHT * (i // COLUMNS))
                      for i, panel in enumerate(panels))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="12" role="img">
<title>{escape(title)}</title>
<style>
rect {{ fill: #fff; }} text {{ fill: #333; }} .title {{ font-weight: bold; }}
.grid {{ stroke: #ddd; }} .y, .limit {{ text-anchor: end; }} .x {{ text-anchor: middle; }}
.curve {{ fill: none; stroke: #1667a8; stroke-width: 2; }} .point {{ fill: #1667a8; }}
.target {{ stroke: #c0392b; stroke-width: 2; }} .limit {{ fill: #c0392b; }}
</style>
<rect width="{width}" height="{height}"/>
{drawn}
</svg>
"""
