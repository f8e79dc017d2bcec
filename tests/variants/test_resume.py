# long: minutes under a sanitizer
"""Builds that were stopped, killed or damaged on the way: the same command goes on, and the pack has the bytes
of one that was never stopped."""
import fcntl
import os
import signal

from tests import tap
from tests.variants import tiny_gguf
from tests.variants.building import ODD, build, folder, source

SMALL = tiny_gguf.model(n_layers=3, n_ctx=64)


class Build:
    """One build in a folder of its own: what it makes if nothing stops it, and its work folder."""

    def __init__(self, name, m=SMALL, *options, seed=5):
        self.path, _ = source(f"{name}.gguf", m, seed=seed)
        self.pack, self.options = folder / f"{name}.edgert", options
        self.work = folder / f"{name}.edgert.build"
        self.expected = self.finish()

    def run(self, *more):
        return build(self.path, self.pack.name, "threads=1", *self.options, *more)

    def finish(self):
        """Builds to the end; the pack's bytes, which are taken away."""
        done = self.run()
        assert done.returncode == 0, done.stderr
        assert not self.work.exists(), list(self.work.iterdir())
        self.notes = done.stderr
        content = self.pack.read_bytes()
        self.pack.unlink()
        return content

    def kill(self, report):
        """Kills it at a report of its progress; whether it lived so long."""
        done = self.run(f"kill={report}")
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    def kill_after(self, name):
        """Kills it at the first report at which a file is in the work folder."""
        done = self.run(f"kill-at={self.work / name}")
        assert done.returncode == -signal.SIGKILL and (self.work / name).exists(), (name, done.stderr)

    def clear(self):
        if self.work.exists():
            for file in self.work.iterdir():
                file.unlink()
            self.work.rmdir()
        self.pack.unlink(missing_ok=True)


def test_a_killed_build_goes_on():
    b, report, stops = Build("killed", ODD, "comp=8"), 1, 0
    while b.kill(report):
        stops += 1
        assert not b.pack.exists(), report
        assert b.finish() == b.expected and not b.notes, report
        report = report * 6 // 5 + 3  # close together at first, up to every stage
    assert stops >= 12, stops
    b.clear()


def test_killed_again_and_again_it_gets_ahead():
    b, written = Build("again", SMALL, "tiers=100"), []
    b.kill_after("texts")
    for _ in range(12):
        if not b.kill(9):
            break
        written.append(len(list(b.work.glob("moments-*")) + list(b.work.glob("written*"))))
    # Three layers' moments, then the planes of the model and of three layers.
    assert written == sorted(written) and written[-1] == 3 + 4 and len(set(written)) >= 4, written
    assert b.finish() == b.expected


def test_a_stopped_build_goes_on():
    b = Build("stopped", SMALL)
    for stage in ("writing a draft", "writing sample text", "watching the model", "writing weights", "measuring", "done"):
        done = b.run(f"cancel={stage}")
        assert done.returncode == 1 and "stopped" in done.stderr, (stage, done.stderr)
        assert not b.pack.exists() and b.work.exists(), stage
        assert b.finish() == b.expected, stage


def test_what_was_damaged_is_made_again():
    b = Build("damaged", SMALL)
    for last, names in (("texts", ["texts"]), ("moments-0001", ["moments-0000", "stream"]), ("states", ["states", "moments"]),
                        ("written-0001", ["pack.part", "written-0000"]), ("written-0001", ["moments-0002", "written-0001"])):
        b.kill_after(last)
        for name in names:
            file = b.work / name
            content = bytearray(file.read_bytes())
            content[len(content) * 2 // 3] ^= 0x40
            file.write_bytes(content)
        assert b.finish() == b.expected, names
        b.kill_after(last)
        for name in names:
            os.truncate(b.work / name, (b.work / name).stat().st_size // 2)
        assert b.finish() == b.expected, names


def test_a_folder_of_other_options_or_of_another_source_begins_anew():
    b = Build("other", SMALL)
    b.options = ("seed=2",)
    seeded = b.finish()
    assert seeded != b.expected
    b.kill_after("moments-0000")
    b.options = ()
    assert b.finish() == b.expected
    assert "other.edgert.build: left by a build of another source or with other options" in b.notes, b.notes
    b.kill_after("moments-0000")
    b.path, _ = source("other.gguf", SMALL, seed=6)
    assert b.finish() != b.expected and "beginning anew" in b.notes, b.notes


def test_a_folder_that_is_no_builds_is_left_alone():
    path, _ = source("foreign.gguf", SMALL)
    room = folder / "foreign.edgert.build"
    room.mkdir()
    (room / "diary").write_text("mine")
    done = build(path, "foreign.edgert")
    assert done.returncode == 1 and "it is no build's" in done.stderr, done.stderr
    assert (room / "diary").read_text() == "mine"


def test_two_builds_of_one_pack_do_not_meet():
    b = Build("twice", SMALL)
    b.kill_after("texts")
    lock = os.open(b.work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = b.run()
    assert done.returncode == 1 and "another build of this pack is running" in done.stderr, done.stderr
    os.close(lock)
    assert b.finish() == b.expected


if __name__ == "__main__":
    tap.main()
