"""inspect's table and chart: the numbers are the catalog's, and the marks lie where the axes say."""
import fcntl
import json
import math
import os
import pty
import re
import struct
import termios
import xml.etree.ElementTree

from tests import tap
from tests.cli import stage
from tests.cli.stage import run
from tests.cli.screen import Screen
from tools import packtool
from tools.packtool.random_pack import random_pack

# (point, megabytes per token, KL, dominated): a frontier of four, one behind it, three far from it.
CATALOG = [("w8a8", 143.8, 0.0031, False), ("w8a8-r90", 132.6, 0.0034, False), ("w8a8-r80", 121.2, 0.31, True),
           ("w8a8-r70", 109.9, 0.9, True), ("w4a16", 90.8, 0.0033, False), ("w4a16-r90", 84.8, 0.12, False),
           ("w4a16-r80", 78.8, 0.95, True), ("w4a16-r70", 72.8, 0.41, False)]
SIGNS = {"*": "frontier", "●": "frontier", "o": "behind", "○": "behind", "x": "dominated", "×": "dominated"}
STANDING = {p: "dominated" if d else "behind" if p == "w8a8-r90" else "frontier" for p, _, _, d in CATALOG}


def catalog_row(i, point, mb, kld, dominated):
    return {"point": point, "bytes_per_token": round(mb * 1e6), "resident_bytes": round(mb * 1e6) + 500000 + i * 100000,
            "tokens": 2048, "ppl": 15 + i / 8, "ppl_error": 0.5, "ppl_ratio": 1 + kld, "ppl_ratio_error": 0.011 + i / 1e3,
            "kld": kld, "kld_error": kld / 10, "top1": 0.9 - i / 100, "top1_error": 0.015, "dominated": dominated}


def pack(catalog=CATALOG):
    path = stage.folder / f"catalog-{CATALOG is catalog}.edgert"
    if not path.exists():
        made = random_pack(7)
        rank = made.meta["tiers"]
        for tier, percent in zip(rank, (100, 90, 80, 70)):
            tier.update(name=f"r{percent}", rank_percent=percent)
        made.meta["catalog"] = [catalog_row(i, *row) for i, row in enumerate(catalog)]
        packtool.layout.write_pack(made, path)
    return path


def inspected(locale, *options, catalog=CATALOG):
    got = run("inspect", pack(catalog), *options, env=dict(os.environ, LC_ALL=locale))
    assert got.returncode == 0, got.stderr
    return got.stdout


def on_terminal(columns, **variables):
    """(bytes, the lines that a screen so wide then shows) of inspect on a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
        os.execve(stage.edgert, ["edgert", "inspect", pack()], dict(os.environ, LC_ALL="C.UTF-8", **variables))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    seen = b""
    try:
        while piece := os.read(fd, 65536):
            seen += piece
    except OSError:  # EIO: the other side is closed
        pass
    os.waitpid(pid, 0)
    return seen, Screen(columns, 60).feed(seen).said()


def test_the_table_is_the_catalog():
    rows = [line.split() for line in inspected("C").splitlines()]
    for i, (point, mb, kld, _) in enumerate(CATALOG):
        row = next(r for r in rows if len(r) > 5 and r[1] == point)
        want = [f"{mb:.1f}", f"{mb + 0.5 + i / 10:.1f}", f"{15 + i / 8:.2f}", f"{1 + kld:.3f}", f"+-{0.011 + i / 1e3:.3f}",
                f"{kld:.4f}", f"+-{kld / 10:.4f}", f"{90 - i:.1f}", "+-1.5"]
        assert row[2:] == want and SIGNS[row[0]] == STANDING[point], (row, want)


def chart_of(lines):
    """The lines of the plane, from the y axis's title to the axis below."""
    top = next(i for i, line in enumerate(lines) if line.startswith("KL to the source"))
    bottom = next(i for i in range(top, len(lines)) if re.match(r" +[└+][─┬+-]+$", lines[i]))
    return lines[top + 1:bottom], lines[bottom], lines[bottom + 1]


def line_through(places):
    """Least squares of value over place, and the worst residual in places."""
    n, sx, sy = len(places), sum(p for p, _ in places), sum(v for _, v in places)
    slope = (sum(p * v for p, v in places) - sx * sy / n) / (sum(p * p for p, _ in places) - sx * sx / n)
    return lambda place: (sy - slope * sx) / n + slope * place, slope


def check_marks(lines, catalog=CATALOG):
    """Each label's mark lies within a cell of its values, by the axes as they are printed."""
    rows, axis, labels = chart_of(lines)
    left = re.match(r" +[└+]", axis).end()
    ys = [(i, math.log10(float(row[:left - 2]))) for i, row in enumerate(rows) if row[:left - 2].strip()]
    columns = [i for i in range(left, len(axis)) if axis[i] in "┬+"]
    xs = []
    for m in re.finditer(r"\S+", labels):  # each label belongs to the tick nearest to its middle
        xs.append((min(columns, key=lambda c: abs(c - (m.start() + m.end() - 1) / 2)), float(m[0])))
    value_y, step_y = line_through(ys)
    value_x, step_x = line_through(xs)
    found = 0
    for point, mb, kld, _ in catalog:
        at = [(i, m.start(), m.end()) for i, row in enumerate(rows)
              for m in re.finditer(re.escape(point) + r"(?!-)\b", row)]
        if not at:
            continue
        i, begin, end = at[0]
        marks = [(r, c) for r in (i - 1, i, i + 1) if 0 <= r < len(rows) for c in range(begin - 3, end + 3)
                 if left <= c < len(rows[r]) and rows[r][c] in SIGNS and SIGNS[rows[r][c]] == STANDING[point]
                 and not begin <= c < end]
        assert any(abs(value_y(r) - math.log10(kld)) <= 1.5 * abs(step_y) and abs(value_x(c) - mb) <= 1.5 * abs(step_x)
                   for r, c in marks), (point, mb, kld, marks, "\n".join(lines))
        found += 1
    assert found >= 6, "labels are missing"


def test_marks_lie_where_the_axes_say():
    for locale in ("C", "C.UTF-8"):
        check_marks(inspected(locale).splitlines())
    # Less than a decade, without a round number of it inside.
    narrow = [(point, mb, 0.023 + kld / 60, dominated) for point, mb, kld, dominated in CATALOG]
    check_marks(inspected("C", catalog=narrow).splitlines(), narrow)
    assert inspected("C").isascii() and "●" in inspected("C.UTF-8")


def test_the_chart_takes_the_width_of_the_terminal():
    widths = []
    for columns in (60, 80, 110):
        seen, said = on_terminal(columns)
        widths.append(len(chart_of(said)[1]))
        assert widths[-1] < columns
        check_marks(said)
    assert widths == sorted(set(widths)), widths


def test_tones_only_on_a_terminal_that_wants_them():
    assert b"\033[" in on_terminal(80)[0]
    assert b"\033" not in on_terminal(80, NO_COLOR="1")[0]
    assert "\033" not in inspected("C.UTF-8")


def test_plot_is_an_svg_whose_marks_lie_on_its_scales():
    path = stage.folder / "plot.svg"
    inspected("C", "--plot", path)
    root = xml.etree.ElementTree.parse(path).getroot()
    paths = [e for e in root.iter() if e.tag.endswith("path") and "fill:rgb(0%,44.7" in e.get("style", "")]
    # A filled circle begins at its rightmost point; the first one is the legend's.
    places = sorted(tuple(map(float, re.match(r"M ([\d.]+) ([\d.]+) C", e.get("d")).groups())) for e in paths
                    if re.match(r"M [\d.]+ [\d.]+ C", e.get("d")))
    front = sorted((mb, math.log10(kld)) for p, mb, kld, _ in CATALOG if STANDING[p] == "frontier")
    assert len(places) == len(front) + 1, places
    for axis in (0, 1):
        pairs = [(place[axis], value[axis]) for place, value in zip(places[1:], front)]
        value_of, step = line_through(pairs)
        assert all(abs(value_of(p) - v) < 0.1 * abs(step) for p, v in pairs), pairs
    assert json.loads(inspected("C", "--plot", path, "--json"))["catalog"][1]["kld"] == CATALOG[1][2]
    got = run("inspect", pack(), "--plot", stage.folder / "nowhere/plot.svg")
    assert got.returncode == 1 and "nowhere/plot.svg" in got.stderr, got


def test_a_pack_without_catalog_says_so():
    bare = stage.folder / "bare.edgert"
    packtool.layout.write_pack(random_pack(7), bare)
    assert "no catalog" in run("inspect", bare).stdout
    got = run("inspect", bare, "--plot", stage.folder / "none.svg")
    assert got.returncode == 1 and "no catalog" in got.stderr and not (stage.folder / "none.svg").exists(), got


if __name__ == "__main__":
    tap.main()
