"""The command on a terminal: the status line, Ctrl-C, and characters that come whole."""
import os
import pty
import select
import shutil
import signal
import subprocess
import termios
import fcntl
import struct
import time

from tests import tap
from tests.cli import stage


class Terminal:
    """A pty of 80 x 24 with the command as its foreground process."""

    def __init__(self, *args, rows=24):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
            os.execv(stage.edgert, ["edgert", *map(str, args)])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        self.seen = b""

    def read_until(self, done, limit_s=60):
        """Reads until done(seen) or the end of output; False at the end."""
        deadline = time.monotonic() + limit_s
        while not done(self.seen):
            assert time.monotonic() < deadline, self.seen[-2000:]
            if not select.select([self.fd], [], [], 1)[0]:
                continue
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # EIO: the other side is closed
                return False
            if not piece:
                return False
            self.seen += piece
        return True

    def type(self, keys):
        os.write(self.fd, keys)

    def wait(self):
        self.read_until(lambda seen: False)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


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


def test_a_small_terminal_has_no_status_line():
    t = Terminal("run", "-m", stage.pack(), "--point", "w4a16", "-n", 20, "--raw", "abc", rows=5)
    assert t.wait() == 0
    assert b"\033[" not in t.seen


def test_ctrl_c_ends_the_answer_and_prints_the_table():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging((80,), 1), "-n", 0, "--raw", "abc")
    assert t.read_until(lambda seen: seen.count(b"tok/s") >= 2)
    t.type(b"\x03")
    assert t.wait() == 0, t.seen
    assert b"cancelled" in t.seen and b"swaps" in t.seen


def test_ctrl_c_ends_a_pause():
    paused = stage.folder / "paused.yaml"
    paused.write_text(stage.POLICY.replace("states: 2}", "states: 3}"))
    options = stage.swinging((80,), 1)
    options[options.index("--policy-file") + 1] = paused
    t = Terminal("run", "-m", stage.pack(), *options, "--raw", "abc")
    assert t.read_until(lambda seen: b"pause" in seen)
    t.type(b"\x03")
    assert t.wait() == 0, t.seen
    assert b"cancelled" in t.seen


def test_a_second_ctrl_c_ends_the_program_with_130_and_the_terminal_as_it_was():
    t = Terminal("run", "-m", stage.pack(), *stage.swinging((80,), 1), "-n", 0, "--raw", "abc")
    assert t.read_until(lambda seen: seen.count(b"tok/s") >= 2)
    os.kill(t.pid, signal.SIGSTOP)  # both arrive before the answer can end
    os.kill(t.pid, signal.SIGINT)
    os.kill(t.pid, signal.SIGCONT)
    os.kill(t.pid, signal.SIGINT)
    code = t.wait()
    assert code in (0, 130), code  # 0 where the first was enough
    assert t.seen.rindex(RELEASE) > t.seen.rindex(REGION)


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
    args = ["run", "-m", stage.pack("bytes", high_bytes=True), "--point", "w4a16", "-n", 200, "--raw",
            "--temperature", 3, "--top-k", 0, "abc"]
    piped = subprocess.run([stage.edgert, *map(str, args)], capture_output=True).stdout
    assert b"\033" in piped and b"\007" in piped, "the answer has no control characters: the test says nothing"
    t = Terminal(*args)
    assert t.wait() == 0
    answer = t.seen[t.seen.index(REGION) + len(REGION):t.seen.rindex(RELEASE)]
    drawn = answer.split(b"\0337")
    said = b"".join(part[part.rindex(b"\0338") + 2:] for part in drawn if b"\0338" in part)
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
