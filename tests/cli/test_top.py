"""edgert top: the page against the journal read here, and the terminal it is drawn on."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import termios

from tests import tap
from tests.cli import stage
from tests.cli.screen import Screen
from tests.cli.stage import run
from tests.cli.terminal import Terminal

BLOCKS = "▁▂▃▄▅▆▇█"
LETTERS = "_.-~=+*#"


def journal(name="top.jsonl", tokens=150, temperatures=(40, 60, 80)):
    path = stage.folder / name
    got = run("run", "-m", stage.pack(), *stage.swinging(temperatures), "-n", tokens, "--raw", "--journal", path, "abc")
    assert got.returncode == 0, got
    return path


def page(path, unicode=True, **options):
    got = run("top", "--once", path, env={**os.environ, "LC_ALL": "C.UTF-8" if unicode else "C"}, **options)
    assert got.returncode == 0 and not got.stderr, got
    return got.stdout.splitlines()


def row_of(rows, name):
    return next(row for row in rows if row.startswith(name + "  "))


def sparks(values, cells, levels):
    """What a line of blocks has to be, from its definition: least to greatest, None blank."""
    shown = [None] * max(0, cells - len(values)) + values[-cells:]
    known = [v for v in shown if v is not None]
    low, high = min(known, default=0), max(known, default=0)
    share = [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in shown]
    return "".join(" " if s is None else levels[int(s * (len(levels) - 1) + 0.5)] for s in share)


def readings(path, sensor):
    """Values of a sensor at each decision; a line leaves out what stays."""
    values, last = [], None
    for line in stage.lines(path.read_text()):
        if line["type"] != "input":
            continue
        if sensor in line["readings"]:
            said = line["readings"][sensor]
            last = said[0] if isinstance(said, list) else said
        values.append(last)
    return values


def test_the_page_is_what_the_journal_says():
    path = journal()
    lines = stage.lines(path.read_text())
    rows = page(path)
    last_work = [l for l in lines if l["type"] == "work"][-1]
    last_state = [l for l in lines if l["type"] == "input"][-1]["state"]
    switches = [l for l in lines if l["type"] == "switch"]
    decisions = [l for l in lines if l["type"] == "decision"]
    assert rows[0].startswith(f"edgert top  {path}  policy swing  ")
    assert rows[1].startswith(f"{last_work['point']}  idle  {last_work['tokens']} tokens, 3 of prompts"), rows[1]
    assert rows[1].endswith(f"{last_work['energy_j']:.1f} J by battery"), rows[1]
    assert last_work["tokens"] == 149 and abs(last_work["energy_j"] / (last_work["decode_s"] + last_work["prefill_s"]) - 5) < 0.2
    assert rows[2] == decisions[-1]["reason"]
    assert f"{last_state} of 0-3" in row_of(rows, "state")
    temperatures = readings(path, "temp.cpu")
    row = row_of(rows, "temp.cpu")
    assert f"{temperatures[-1]:.1f}C" in row
    cells = 34  # two fifths of what 120 columns leave beside name and value
    assert sparks(temperatures, cells, BLOCKS) in row, (row, temperatures[-cells:])
    states = [l["state"] for l in lines if l["type"] == "input"]
    assert sparks(states, cells, BLOCKS) in row_of(rows, "state")
    told = [row for row in rows if "  token " in row]
    assert f"{len(switches)} switches, the last first:" in rows and len(told) == min(len(switches), 24)
    for row, s in zip(told, reversed(switches)):
        assert row.split(maxsplit=2)[2] == f"token {s['token']:<6} {s['from']} -> {s['to']}: {s['reason']}"[:120 - 13], row


def test_trips_that_act_stand_in_brackets():
    for temperatures, hot, warm in (((80,), "[hot > 70C: state 2]", "[warm > 50C: state 1]"),
                                    ((60,), "  hot > 70C", "[warm > 50C: state 1]"), ((40,), "  hot > 70C", "  warm > 50C")):
        row = row_of(page(journal("trips.jsonl", 40, temperatures)), "temp.cpu")
        assert hot in row and warm in row, row


def test_another_locale_gets_plain_letters():
    path = journal()
    rows = page(path, unicode=False)
    assert all(row.isascii() for row in rows)
    assert sparks(readings(path, "temp.cpu"), 34, LETTERS) in row_of(rows, "temp.cpu")


def test_what_is_no_journal_is_refused():
    for text, words in (("", None), ('{"type":"input"}\n', "no start line"), ("hello\n", "not valid JSON"),
                        ("x" * 2000000, "a line longer than")):
        path = stage.folder / "other.jsonl"
        path.write_text(text)
        got = run("top", "--once", path)
        if words:
            assert got.returncode == 1 and words in got.stderr and not got.stdout, got
        else:
            assert "waiting for its first decision" in got.stdout
    assert run("top", "--once", stage.folder / "none.jsonl").returncode == 1
    assert run("top").returncode == 2


def test_a_journal_cannot_command_the_terminal():
    path = stage.folder / "hostile.jsonl"
    lines = stage.lines(journal().read_text())
    for line in lines:
        if line["type"] in ("decision", "switch"):
            line["reason"] = "\033[2J\u009b2J\a\r\nhot" + "\u4e2d" * 200
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for unicode in True, False:
        rows = page(path, unicode)
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for row in rows for c in row), rows
        assert rows[2].startswith("?[2J?2J???hot"), rows[2]


def test_a_put_aside_journal_goes_on():
    """Cut in two as rotation does: the page of the second part has the histories of both."""
    path, parts = journal("parts.jsonl", 250), stage.folder / "part.jsonl"
    text = path.read_text().splitlines(keepends=True)
    half = next(i for i in range(len(text) // 2, len(text)) if json.loads(text[i])["type"] == "input")
    parts.write_text("".join(text[:half]))
    t = Terminal("top", parts, TERM="linux", LC_ALL="C.UTF-8")
    t.read_until(lambda seen: b"policy swing" in seen)
    # Segment 1 begins with what the decisions remember; without it they begin anew, which the page shows too.
    start = json.loads(text[0])
    start["segment"] = 1
    fresh = stage.folder / "part.new"
    fresh.write_text(json.dumps(start) + "\n")
    fresh.rename(parts)
    t.read_until(lambda seen: b"waiting" in seen)
    t.type(b"q")
    assert t.wait() == 0
    start["segment"] = 0
    parts.write_text("".join(text))
    assert page(parts)[1:] == [row for row in page(path)[1:]]


class Attached:
    """A slow run that is stopped in the end, and top on its journal."""

    def __init__(self, **environment):
        options = stage.swinging(speed=2)
        stage.policy().write_text(stage.POLICY.replace("second: 400", "second: 8"))
        self.path = stage.folder / f"live-{len(list(stage.folder.glob('live-*')))}.jsonl"
        self.run = subprocess.Popen([stage.edgert, "run", "-m", stage.pack(), *map(str, options), "-n", "0",
                                     "--raw", "--journal", self.path, "abc"], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self.path.exists():
            assert self.run.poll() is None
        self.terminal = Terminal("top", self.path, **{"TERM": "linux", "LC_ALL": "C.UTF-8", **environment})

    def __enter__(self):
        return self.terminal

    def __exit__(self, *_):
        self.run.kill()
        self.run.wait()


def shown(t, rows=24, columns=80):
    return [line.rstrip() for line in Screen(columns, rows).feed(t.seen).display]


def test_it_follows_a_run_and_q_leaves():
    attached = Attached()
    with attached as t:
        t.read_until(lambda seen: b"tokens, 3 of prompts" in seen and b"decode" in seen)
        t.read_until(lambda seen: b"token" in seen and b" -> " in seen)
        screen = shown(t)
        assert screen[0].startswith(f"edgert top  {attached.path}  policy swing"[:80]), screen
        assert any(row.startswith("temp.cpu") and any(b in row for b in BLOCKS) for row in screen), screen
        assert any(row.startswith("tokens per second") for row in screen), screen
        t.type(b"q")
        assert t.wait() == 0


def test_signals_give_the_terminal_back():
    for number, status in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with Attached(TERM="xterm") as t:
            t.read_until(lambda seen: b"policy swing" in seen)
            side = os.open(os.readlink(f"/proc/{t.pid}/fd/0"), os.O_RDWR | os.O_NOCTTY)
            raw = termios.tcgetattr(side)
            os.kill(t.pid, number)
            t.read_until(lambda seen: b"\033[?1049l" in seen)
            t.read_until(lambda seen: pathlib.Path(f"/proc/{t.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")
            restored = termios.tcgetattr(side)
            os.close(side)
            assert (got := t.wait()) == status, (number, got)
        assert not raw[3] & termios.ICANON and not raw[3] & termios.ECHO
        assert restored[3] & termios.ICANON and restored[3] & termios.ECHO, number
        assert t.seen.rindex(b"\033[?1049l") > t.seen.rindex(b"policy")


def test_any_size_will_do():
    with Attached() as t:
        t.read_until(lambda seen: b"policy swing" in seen)
        for rows, columns in ((10, 40), (1, 20), (2, 1), (5, 10), (60, 250), (24, 80)):
            mark = len(t.seen)
            t.resize(rows, columns)
            t.read_until(lambda seen: len(seen) > mark + 4)
            if rows == 10:
                t.read_until(lambda seen: b"tokens" in seen[mark:])
        t.type(b"q")
        assert t.wait() == 0


def test_no_row_is_wider_than_the_screen():
    path = journal()
    for columns in (1, 7, 20, 31, 33, 47, 80, 120, 250):
        t = Terminal("top", "--once", path, columns=columns, LC_ALL="C.UTF-8")
        assert t.wait() == 0
        rows = t.seen.decode().replace("\r\n", "\n").splitlines()
        assert max(map(len, rows)) <= columns, (columns, rows)
        assert rows[2] == page(path)[2][:columns].rstrip(), (columns, rows)


def test_a_terminal_that_cannot_draw_is_told():
    path = journal()
    for term, words in (("dumb", "cannot move its cursor"), ("no-such-terminal", "is not known")):
        t = Terminal("top", path, TERM=term)
        assert t.wait() == 1
        assert words in t.seen.decode() and "--once" in t.seen.decode() and b"\033" not in t.seen, t.seen
    got = run("top", path)
    assert got.returncode == 1 and "are no terminal" in got.stderr


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(stage.folder)
