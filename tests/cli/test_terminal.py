"""The command on a terminal: words and characters that come whole, the status line, Ctrl-C."""
import fcntl
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import termios

from tests import tap
from tests.cli import stage
from tests.cli.screen import Screen, printable
from tests.cli.terminal import Terminal


REGION, RELEASE = b"\033[1;22r", b"\033[r"


def test_status_line_shows_point_rate_sensors_and_reason():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging(), "-n", 150, "--raw", "abc")
    assert t.wait() == 0, t.seen
    assert REGION in t.seen and RELEASE in t.seen
    assert t.seen.rindex(RELEASE) > t.seen.rindex(REGION)
    lines = [part for part in t.seen.split(b"\0337") if b"\033[23;1H" in part and b"tok/s" in part]
    assert lines
    assert any(b"charge 55.0%" in line or b"charge - (" in line for line in lines), lines[0]
    assert any(b"temp 60.0C" in line for line in lines) and any(b"power" in line for line in lines)
    assert any(b"above 50C (warm)" in line for line in lines)
    # Nothing is drawn after the region is given back, and the table comes then.
    after = t.seen[t.seen.rindex(RELEASE):]
    assert b"\033[23;1H" not in after and b"total" in after and b"swaps" in after


def test_every_swap_is_told_again_under_the_table():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging(), "-n", 200, "--raw", "abc")
    assert t.wait() == 0, t.seen
    table = t.seen[t.seen.rindex(RELEASE):].decode()
    count = int(re.search(r"^total .* (\d+)\r$", table, re.M)[1])
    told = re.findall(r"^\[token (\d+)\] (\S+) -> (\S+): (.+)\r$", table, re.M)
    assert len(told) == min(count, 20) and count >= 3, table
    assert table.index("total ") < table.index("[token ")
    assert (f"{count - 20} swaps, then" in table) == (count > 20)
    assert all(a[2] == b[1] and int(a[0]) <= int(b[0]) for a, b in zip(told, told[1:])), told
    assert any("above 50C (warm)" in reason for *_, reason in told), told


def test_only_the_last_20_swaps_are_told():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging((40, 60), 3), "-n", 0, "--raw",
                 "--policy-file", quick_swings(), "abc")
    assert t.wait() == 0, t.seen
    table = t.seen[t.seen.rindex(RELEASE):].decode()
    count = int(re.search(r"^total .* (\d+)\r$", table, re.M)[1])
    assert count > 20, table
    assert len(re.findall(r"^\[token \d+\]", table, re.M)) == 20 and f"{count - 20} swaps, then" in table


def quick_swings(name="quick.yaml"):
    """A policy whose two points compute the same, so that swaps do not change the answer."""
    path = stage.folder / name
    path.write_text("""edgert: 1
ladders:
  swing:
    - {point: w4a16, tokens-per-second: 120}
    - {point: w4a16, tokens-per-second: 119}
policies:
  swing:
    ladder: swing
    poll: 100ms
    trips:
      - {name: warm, sensor: temp.cpu, above: 50C, governor: bang_bang, states: 1}
    dwell: {down: 0s, up: 0s}
""")
    return path


def test_words_of_an_answer_come_whole_and_in_order():
    """While the status line is redrawn all the time the screen has the words that a pipe gets."""
    said = ["run", "-m", stage.prose_pack(), "-n", 240, "--raw", "--temperature", 2, "abc"]
    piped = stage.run(*said, "--point", "w4a16").stdout
    words = printable(piped).split()
    assert len(words) > 100 and "\n" in piped.strip() and max(map(len, words)) < 80
    for rows in (24, 9, 5):
        t = Terminal(*said, *stage.swinging((40, 60), 3), "--policy-file", quick_swings(), rows=rows)
        assert t.wait() == 0, t.seen
        answer = t.seen[:t.seen.rindex(RELEASE)] if rows > 5 else t.seen[:t.seen.rindex(b"point  ")]
        screen = Screen(rows=rows).feed(answer)
        assert rows == 5 or t.seen.count(b"\033[2K") > 20, "the status line was hardly drawn"
        assert " ".join(screen.said()).split() == words, screen.said()
        assert not screen.in_last_column, screen.in_last_column
        # As many lines as breaking greedily takes, so that words are taken along and not more.
        assert "\n".join(screen.said()).strip() == wrapped(printable(piped), 79), screen.said()


def wrapped(text, columns):
    """text broken greedily, the plain way."""
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for word in re.findall(r" *[^ ]+", line):
            if len(lines[-1]) + len(word) > columns:
                lines.append("")
                word = word.lstrip()
            lines[-1] += word
    return "\n".join(lines).strip()


class Wrapping:
    """tests/cli/drive_wrap on a terminal of its own."""

    def __init__(self, columns):
        self.fd, side = pty.openpty()
        self.resize(columns)
        self.process = subprocess.Popen([tap.build / "tests/cli/drive_wrap"], stdin=subprocess.PIPE, stdout=side,
                                        stderr=subprocess.PIPE, bufsize=0)
        os.close(side)
        self.screen = Screen(columns, 24)

    def resize(self, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def put(self, piece):
        self.process.stdin.write(piece.encode())
        assert self.process.stderr.read(1) == b"."
        while select.select([self.fd], [], [], 0)[0]:
            self.screen.feed(os.read(self.fd, 65536))

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0
        while select.select([self.fd], [], [], 0)[0]:
            try:
                self.screen.feed(os.read(self.fd, 65536))
            except OSError:
                break
        os.close(self.fd)
        self.process.stderr.close()
        return self.screen


def in_pieces(text, rng):
    while text:
        n = rng.randint(1, 9)
        yield text[:n]
        text = text[n:]


def streamed(text, columns, rng):
    w = Wrapping(columns)
    for piece in in_pieces(text, rng):
        w.put(piece)
    return w.close()


def random_word(rng, longest):
    letters = "abcdefghijklmnopqrstuvwxyz.,\u00e9\u0142\u043b"
    word = "".join(rng.choice(letters) for _ in range(rng.randint(1, longest)))
    return word + "q\u0323\u0307" if rng.random() < 0.1 else word  # combining marks that compose to nothing


def test_narrow_words_wrap_as_broken_greedily_however_they_come_in():
    rng = random.Random(1)
    for columns in (12, 21, 40, 81):
        text = "".join(random_word(rng, 10) + rng.choice([" ", " ", " ", "\n"]) for _ in range(300))
        screen = streamed(text, columns, rng)
        got = " ".join(screen.said()).split()
        assert got == printable(text).split(), (got, text)
        assert not screen.in_last_column
        lines = [line for line in screen.said() if line]
        for line, after in zip(lines, lines[1:]):
            first, room = after.split(" ")[0], columns - 1 - width(line)
            ended = re.search(re.escape(line.split(" ")[-1]) + r" *\n", printable(text))
            assert ended or width(first) + 1 > room, (line, after)


def width(text):
    return sum(1 for c in text if c not in "\u0323\u0307")


def test_long_words_wide_characters_and_tabs_lose_nothing():
    rng = random.Random(2)
    wide = "\u6c34\u706b\u98a8\uac00\u3042\U0001f600"
    for columns in (2, 3, 9, 16, 33):
        text = ""
        for _ in range(200):
            kind = rng.randrange(4)
            text += (random_word(rng, 60) if kind == 0 else random_word(rng, 6) if kind == 1 else
                     "\t" * rng.randint(1, 2) if kind == 2 else "".join(rng.choices(wide, k=rng.randint(1, 20))))
            text += rng.choice(["", " "])
        if columns < 4:
            text = "".join(c for c in text if c not in wide)  # no room for one beside an empty column
        screen = streamed(text, columns, rng)
        assert "".join("".join(screen.said()).split()) == "".join(printable(text).split()), (columns, screen.said())
        assert not screen.in_last_column, screen.in_last_column


def test_tabs_go_to_the_stops():
    screen = streamed("a\tbc\tdefghijk\tl\n\tm", 60, random.Random(3))
    assert screen.said() == ["a       bc      defghijk        l", "        m"]


def test_a_terminal_that_becomes_narrower_loses_no_character():
    w = Wrapping(60)
    w.put("one two three four five six seven eig")
    w.resize(20)
    w.put("ht nine ten eleven twelve")
    assert "".join("".join(w.close().said()).split()) == "onetwothreefourfivesixseveneightnineteneleventwelve"


def test_controls_do_not_reach_a_terminal():
    w = Wrapping(40)
    w.put("a\033[31mb\u009b1mc\x7fd\re\bf\0\u0085g")
    assert w.close().said() == ["a[31mb1mcdefg"]


def test_a_small_terminal_has_no_status_line():
    t = Terminal("run", "-m", stage.pack(), "--point", "w4a16", "-n", 20, "--raw", "abc", rows=5)
    assert t.wait() == 0
    assert b"\0337" not in t.seen and REGION not in t.seen


def test_ctrl_c_ends_the_answer_and_prints_the_table():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging((80,), 1), "-n", 0, "--raw", "abc")
    assert t.read_until(lambda seen: seen.count(b"tok/s") >= 2)
    t.type(b"\x03")
    assert t.wait() == 0, t.seen
    assert b"cancelled" in t.seen and b"swaps" in t.seen


def pausing():
    """Options of a run that pauses, for ever."""
    paused = stage.folder / "paused.yaml"
    paused.write_text(stage.POLICY.replace("states: 2}", "states: 3}"))
    options = stage.swinging((80,), 1)
    options[options.index("--policy-file") + 1] = paused
    return options


def test_ctrl_c_ends_a_pause():
    t = Terminal("run", "-m", stage.pack(), *pausing(), "--raw", "abc")
    assert t.read_until(lambda seen: b"pause" in seen)
    t.type(b"\x03")
    assert t.wait() == 0, t.seen
    assert b"cancelled" in t.seen


def test_a_second_ctrl_c_ends_the_program_with_130_and_the_terminal_as_it_was():
    """The first cannot end the program: that takes writing, and the terminal takes nothing."""
    t = Terminal("run", "-m", stage.pack(), *pausing(), "--raw", "abc")
    assert t.read_until(lambda seen: b"pause" in seen)
    with t.stopped():
        t.interrupt()
        assert os.waitpid(t.pid, os.WNOHANG) == (0, 0)
        t.interrupt()
    assert t.wait() == 130
    assert b"cancelled" not in t.seen and b"total" not in t.seen
    assert Screen().feed(t.seen).margins is None
    assert t.seen.endswith(b"\0338")


def test_sigterm_gives_the_terminal_back():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging((80,), 1), "-n", 0, "--raw", "abc")
    assert t.read_until(lambda seen: seen.count(b"tok/s") >= 2)
    os.kill(t.pid, signal.SIGTERM)
    assert t.wait() == 143
    assert t.seen.rindex(RELEASE) > t.seen.rindex(REGION)


def test_ctrl_c_ends_the_answer_but_not_the_chat():
    t = Terminal("chat", "-m", stage.pack(), *stage.swinging((60,), 1), "-n", 0, "--raw")
    assert t.read_until(lambda seen: b"> " in seen)
    t.type(b"abc\n")
    assert t.read_until(lambda seen: seen.count(b"tok/s") >= 2)
    t.type(b"\x03")
    before = t.seen.count(b"> ")
    assert t.read_until(lambda seen: seen.count(b"> ") > before)
    t.type(b"\x03")  # at the prompt: a new line
    before = t.seen.count(b"> ")
    assert t.read_until(lambda seen: seen.count(b"> ") > before)
    t.type(b"\x04")
    assert t.wait() == 0, t.seen
    assert b"prompt: " in t.seen


def test_answers_cannot_command_the_terminal():
    """Control characters of an answer reach a pipe, but not a terminal."""
    for seed in range(10):  # what a random model says is chance
        args = ["run", "-m", stage.pack("bytes", high_bytes=True), "--point", "w4a16", "-n", 200, "--raw",
                "--temperature", 3, "--top-k", 0, "--seed", seed, "abc"]
        piped = subprocess.run([stage.edgert, *map(str, args)], capture_output=True).stdout
        if b"\033" in piped and b"\007" in piped:
            break
    assert b"\033" in piped and b"\007" in piped, "no answer has control characters: the test says nothing"
    t = Terminal(*args)
    assert t.wait() == 0, t.seen
    answer = t.seen[t.seen.index(REGION) + len(REGION):t.seen.rindex(RELEASE)]
    drawn = answer.split(b"\0337")
    said = b"".join(part[part.rindex(b"\0338") + 2:] for part in drawn if b"\0338" in part)
    said = re.sub(rb"\033\[\d+D\033\[K\r\n", b"", said)  # a word that moves to the next line
    assert said and not any(c < 32 and c not in (9, 10, 13) for c in said), said


def test_output_arrives_in_whole_characters():
    process = subprocess.Popen([stage.edgert, "run", "-m", stage.pack("bytes", high_bytes=True), "--point", "w4a16",
                                "-n", "200", "--raw", "--temperature", "1", "abc"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    pieces = 0
    while piece := os.read(process.stdout.fileno(), 1 << 16):
        piece.decode("utf-8", "strict")
        pieces += 1
    assert process.wait() == 0 and pieces > 3


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(stage.folder)
