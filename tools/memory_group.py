"""A memory control group of version 1 with a limit, and hogs in it. Needs root. What is in the group cannot take more
than its limit from the machine."""
import os
import pathlib
import subprocess
import sys
import tempfile

HIERARCHY = pathlib.Path("/sys/fs/cgroup/memory")

# MEGABYTES SECONDS FOLDER: dirties the pages of a file that nobody sees, over and over, faster than they can be written
# back. Reclaim then waits for the disk, which the kernel counts as a memory stall.
DIRTIER = """
import mmap, sys, tempfile, time
size, end = int(sys.argv[1]) * 10**6 // 4096 * 4096, time.monotonic() + float(sys.argv[2])
with tempfile.TemporaryFile(dir=sys.argv[3]) as file:
    file.truncate(size)
    pages = mmap.mmap(file.fileno(), size, mmap.MAP_SHARED)
    n = 0
    while time.monotonic() < end:
        for at in range(0, size, 4096):
            pages[at] = n & 255
            if at % 409600 == 0 and time.monotonic() > end:
                break
        n += 1
"""

# MEGABYTES SECONDS MB_PER_SECOND: takes plain memory at that speed, keeps it and uses it; says how much it has.
GROWER = """
import sys, time
most, end, speed = int(sys.argv[1]), time.monotonic() + float(sys.argv[2]), float(sys.argv[3])
begin, has = time.monotonic(), []
while time.monotonic() < end:
    while len(has) < min(most, (time.monotonic() - begin) * speed):
        has.append(bytearray(b"x") * 10**6)
        print(len(has), flush=True)
    time.sleep(0.02)
"""


class MemoryGroup:
    """with MemoryGroup(name, limit in MB) as group: Popen(..., preexec_fn=group.enter). Gone afterwards."""

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
        """In a child, before it runs its program."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def number(self, name):
        return int((self.folder / name).read_text())

    def start(self, program, *arguments, **options):
        """A hog in the group; kill and wait for it before the group ends."""
        return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], preexec_fn=self.enter, **options)


def dirtier(group, megabytes, seconds):
    return group.start(DIRTIER, megabytes, seconds, os.environ.get("TMPDIR", "/var/tmp"))


def grower(group, megabytes, seconds, mb_per_second):
    return group.start(GROWER, megabytes, seconds, mb_per_second, stdout=subprocess.PIPE, text=True)


def private_copy(path, folder=None):
    """A copy whose pages are in nobody's cache, so that they count for the group that reads it first."""
    copy = tempfile.NamedTemporaryFile(dir=folder or os.environ.get("TMPDIR", "/var/tmp"), suffix=".edgert")
    with open(path, "rb") as source:
        while block := source.read(1 << 22):
            copy.write(block)
    copy.flush()
    os.fsync(copy.fileno())
    os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return copy
