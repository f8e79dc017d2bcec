"""TAP for Python tests: functions named test_* in a module, run by tap.main(); tap.skip(reason)."""
import inspect
import os
import pathlib
import sys
import traceback

root = pathlib.Path(__file__).resolve().parent.parent
build = pathlib.Path(os.environ.get("BUILD", root / "build"))
data_root = pathlib.Path(os.environ.get("EDGERT_TEST_DATA", root.parent / "shared" / "data"))


class Skip(Exception):
    pass


def skip(reason):
    raise Skip(reason)


def data(name):
    """A file of the test data; skips the test, naming the file, where it is absent."""
    path = data_root / name
    if not path.exists():
        skip(f"needs test data {name}")
    return path


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and inspect.isfunction(f)]
    print(f"1..{len(tests)}")
    bad = 0
    for i, (name, test) in enumerate(tests, 1):
        try:
            test()
            print(f"ok {i} - {name}", flush=True)
        except Skip as s:
            print(f"# {s}\nok {i} # SKIP {name}: {s}", flush=True)
        except Exception:
            bad += 1
            print("".join("# " + l + "\n" for l in traceback.format_exc().splitlines()) + f"not ok {i} - {name}", flush=True)
    sys.exit(bad > 0)
