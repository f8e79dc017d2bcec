"""A memory control group of version 1 with a limit, and a hog in it that dirties a file's pages faster than they can
be written back: reclaim waits for the disk, which is what the kernel counts as a memory stall. Needs root. What is in
the group cannot take more than its limit from the machine."""
import os
import pathlib
import subprocess
import sys
import tempfile

HIERARCHY = pathlib.Path("/sys/fs/cgroup/memory")

# PATH MEGABYTES SECONDS [MB A SECOND]: writes to each page of a file that nobody sees, over and over; with a speed it
# first takes plain memory up to MEGABYTES, at that speed, and keeps it.
HOG = r"""
import mmap, os, sys, time
path, size, seconds = sys.argv[1], int(sys.argv[2]) * 1000000 // 4096 * 4096, float(sys.argv[3])
end = time.monotonic() + seconds
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.unlink(path)
os.ftruncate(fd, size)
pages = mmap.mmap(fd, size, mmap.MAP_SHARED)
n = 0
while time.monotonic() < end:
    for at in range(0, size, 4096):
        pages[at] = n & 255
        if at % 409600 == 0 and time.monotonic() > end:
            break
    n += 1
"""


class MemoryGroup:
    """with MemoryGroup(name, limit in MB) as group: group.enter() in a child; gone afterwards."""

    def __init__(self, name, limit_mb):
        if not (HIERARCHY / "memory.limit_in_bytes").exists() or os.geteuid() != 0:
            sys.exit("needs root, and memory control groups of version 1 at /sys/fs/cgroup/memory")
        self.folder, self.limit_mb = HIERARCHY / name, limit_mb

    def __enter__(self):
        self.folder.mkdir(exist_ok=True)
        (self.folder / "memory.limit_in_bytes").write_text(str(self.limit_mb * 1000000))
        return self

    def __exit__(self, *_):
        self.folder.rmdir()

    def enter(self):
        """For preexec_fn of a child."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def number(self, name):
        return int((self.folder / name).read_text())


class Hog:
    """Works in the group, on a file of some MB, until closed or for some seconds."""

    def __init__(self, group, megabytes, seconds):
        path = tempfile.mktemp(prefix="edgert-hog-", dir="/var/tmp")
        self.process = subprocess.Popen([sys.executable, "-c", HOG, path, str(megabytes), str(seconds)],
                                        preexec_fn=group.enter)

    def close(self):
        self.process.kill()
        self.process.wait()
