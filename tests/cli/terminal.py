"""The command as the foreground process of a pty."""
import contextlib
import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import termios
import time

from tests.cli import stage


class Terminal:
    """A pty of 80 x 24 with the command in it."""

    def __init__(self, *args, rows=24, columns=80, **environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(stage.edgert, ["edgert", *map(str, args)], {**os.environ, **environment})
        self.resize(rows, columns)
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

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

    @contextlib.contextmanager
    def stopped(self):
        """Nothing that is written gets through, as after Ctrl-S."""
        side = os.open(os.readlink(f"/proc/{self.pid}/fd/0"), os.O_RDWR | os.O_NOCTTY)
        termios.tcflow(side, termios.TCOOFF)
        yield
        termios.tcflow(side, termios.TCOON)
        os.close(side)

    def interrupt(self):
        """Sends SIGINT and waits until it is taken, or the program is gone."""
        os.kill(self.pid, signal.SIGINT)
        status = pathlib.Path(f"/proc/{self.pid}/status")
        bit, deadline = 1 << (signal.SIGINT - 1), time.monotonic() + 60
        while any(int(mask, 16) & bit for mask in re.findall(r"(?:SigPnd|ShdPnd):\s*(\w+)", status.read_text())):
            assert time.monotonic() < deadline, "the signal is not taken"
            time.sleep(0.01)

    def wait(self):
        self.read_until(lambda seen: False)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)
