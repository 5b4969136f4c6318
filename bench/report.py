"""Tables, marks and plots from the figures of one run.

figures[monitor][key] maps a round (as text, for JSON) to its value: a round that one monitor failed leaves the pairs
of the other rounds as they were.
"""
import html
import math
import statistics


def values(figures, monitor, key):
    return list(figures.get(monitor, {}).get(key, {}).values())


def median(figures, monitor, key):
    found = values(figures, monitor, key)
    return statistics.median(found) if found else None


def ratios(figures, ours, peer, key):
    """Round by round: drift of the machine falls out."""
    a, b = (figures.get(m, {}).get(key, {}) for m in (ours, peer))
    return [a[n] / b[n] for n in a if b.get(n)]


def form(value):
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures, monitors, rows, has=lambda monitor, key: True):
    """Markdown: one row a figure; each monitor's median, and ours against each peer as ratio with its spread."""
    ours, peers = monitors[0], monitors[1:]
    out = ["| figure | " + " | ".join(monitors) + " | " + " | ".join(f"{ours} / {p}" for p in peers) + " |",
           "|" + " --- |" * (1 + len(monitors) + len(peers))]
    for key, title, unit, way in rows:
        if not any(values(figures, m, key) for m in monitors):
            continue
        cells = [f"{title}, {unit}" if unit else title]
        cells[0] += " (less is better)" if way == "less" else " (more is better)"
        for m in monitors:
            mid = median(figures, m, key)
            cells.append(form(mid) if mid is not None else "failed" if has(m, key) else "")
        for p in peers:
            pairs = ratios(figures, ours, p, key)
            cells.append(f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})" if pairs else "")
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def sources(figures, monitors):
    """Markdown tables of figures named "from_LOAD: SOURCE": what exits one transaction took, and wherefrom."""
    keys = {key for m in monitors for key in figures.get(m, {}) if key.startswith("from_")}
    chosen = [m for m in monitors if any(key in figures[m] for key in keys)]
    out = []
    for load in sorted({key.partition(": ")[0] for key in keys}, reverse=True):
        out += ["", f"Exits for each transaction of {load[5:]}, by source:", "", "| source | " + " | ".join(chosen) + " |",
                "|" + " --- |" * (1 + len(chosen))]
        of_load = {key: [median(figures, m, key) or 0 for m in chosen] for key in keys if key.startswith(load + ": ")}
        of_load[f"{load}: all"] = [sum(column) for column in zip(*of_load.values())]
        for key, found in sorted(of_load.items(), key=lambda item: -max(item[1])):
            out.append(f"| {key.partition(': ')[2]} | " + " | ".join(form(value) for value in found) + " |")
    return out


def judge(figures, ours, marks, ratio_marks, rows):
    """[(met, words)] of every mark whose figure was measured."""
    titles = {row[0]: row for row in rows}
    lines = []
    for key, limit, words in marks:
        value = median(figures, ours, key)
        if value is not None:
            met = value <= limit if titles[key][3] == "less" else value >= limit
            lines.append((met, f"{words}: {form(value)} (mark {form(limit)})"))
    for key, peer, limit in ratio_marks:
        pairs = ratios(figures, ours, peer, key)
        if pairs:
            value = statistics.median(pairs)
            met = value <= limit if titles[key][3] == "less" else value >= limit
            at = "at most" if titles[key][3] == "less" else "at least"
            lines.append((met, f"{titles[key][1]}, against {peer}: {value:.2f} (mark {at} {limit:g})"))
    return lines


LEFT, TOP, STEP, WIDTH = 390, 60, 20, 900
LOW, HIGH = -2, 2  # powers of ten on the axis
COLOURS = ("#1b6ca8", "#c8553d", "#588157")


def place(ratio):
    at = min(max(math.log10(ratio), LOW), HIGH)
    return LEFT + (at - LOW) / (HIGH - LOW) * (WIDTH - LEFT - 30)


def dot(n, row, pairs, label, colour):
    y = TOP + STEP * n + 8
    mid = statistics.median(pairs)
    better = mid <= 1 if row[3] == "less" else mid >= 1
    return (f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(label)}</text>'
            f'<line x1="{place(min(pairs)):.1f}" x2="{place(max(pairs)):.1f}" y1="{y}" y2="{y}" stroke="{colour}"/>'
            f'<circle cx="{place(mid):.1f}" cy="{y}" r="5" stroke="{colour}" fill="{colour if better else "white"}"/>')


def svg(figures, monitors, rows, title):
    """Ratios as dots with whiskers on a logarithmic axis: left of the line we have less, right of it more."""
    ours, peers = monitors[0], monitors[1:]
    dots = []
    for row in rows:
        for n, peer in enumerate(peers):
            pairs = [r for r in ratios(figures, ours, peer, row[0]) if r > 0]
            if pairs:
                dots.append(dot(len(dots), row, pairs, f"{row[1]} vs {peer}", COLOURS[n % len(COLOURS)]))
    height = TOP + STEP * len(dots) + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
           f'font-size="11"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="16" y="24" font-size="15">{html.escape(title)}</text>',
           f'<text x="16" y="42" fill="#555">median and range of the ratio {ours} / peer, logarithmic; '
           'filled: ours is better</text>']
    for power in range(LOW, HIGH + 1):
        x, weight = place(10 ** power), "1.5" if power == 0 else "0.5"
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 34}" stroke="#888" '
                   f'stroke-width="{weight}"/><text x="{x:.1f}" y="{height - 18}" text-anchor="middle">'
                   f'{10 ** power:g}</text>')
    return "\n".join(out + dots + ["</svg>"])
