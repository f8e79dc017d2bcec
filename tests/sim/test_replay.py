"""The decision code against an independent model of the language, and damaged inputs of every kind."""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import policy_from_page as model
from tests import tap

driver = tap.build / "tests" / "sim" / "drive_replay"
policies_yaml = tap.root / "policies.yaml"
traces = sorted((tap.root / "sim" / "traces").glob("*.csv"))
goldens = sorted((tap.root / "sim" / "golden").glob("*.txt"))


def drive(*arguments, stdin=None):
    done = subprocess.run([driver, *map(str, arguments)], input=stdin, capture_output=True, timeout=120)
    assert done.returncode >= 0 and b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, \
        done.stderr.decode(errors="replace")[-2000:]
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


UNITS = {"temp.cpu": "C", "temp.battery": "C", "battery.charge": "%", "battery.power": "W", "temp.skin": "C",
         "memory.available": "MB", "psi.memory.some": "%", "cpu.load.others": "%", "battery.discharging": ""}
SPANS = {"temp.cpu": (30, 100), "temp.battery": (20, 50), "temp.skin": (25, 50), "battery.charge": (0, 100),
         "battery.power": (-8, 12), "memory.available": (100, 1200), "psi.memory.some": (0, 40),
         "cpu.load.others": (0, 100), "battery.discharging": (0, 1)}


def random_policy(r):
    states = r.randint(2, 8)
    sensors = {}
    for name in r.sample(sorted(SPANS), r.randint(0, 4)):
        sensors[name] = {"sources": ["replay:x"], "stale": f"{r.choice([500, 1500, 4000, 20000])}ms"}
        if r.random() < 0.4:
            sensors[name]["stuck"] = f"{r.choice([1, 3, 10])}s"
    trips = []
    for i in range(r.randint(1, 8)):
        name = r.choice([n for n in sorted(SPANS) if n != "battery.discharging"])
        low, high = SPANS[name]
        at = round(r.uniform(max(low, model.signal_of(name).low), high), r.choice([0, 1]))
        at = min(max(at, model.signal_of(name).low), model.signal_of(name).high)
        first = r.randint(0, states - 1)
        trip = {"name": f"t{i}", "sensor": name, r.choice(["above", "below"]): f"{at}{UNITS[name]}",
                "states": r.choice([f"{first}", f"{first}..{r.randint(first, states - 1)}", f"{first}..max"])}
        if r.random() < 0.7:
            trip["hysteresis"] = f"{round(r.uniform(0, (high - low) / 8), 1)}{UNITS[name]}"
        if r.random() < 0.3:
            trip["for"] = f"{r.choice([300, 1000, 2500])}ms"
        if r.random() < 0.25:
            trip["when"] = "discharging"
        if r.random() < 0.5:
            trip["governor"] = r.choice(["step_wise", "bang_bang"])
        trips.append(trip)
    policy = {"ladder": "l", "poll": r.choice(["100ms", "500ms", "2s"]), "trips": trips}
    if r.random() < 0.8:
        policy["dwell"] = {k: f"{r.choice([0, 0.5, 2, 6])}s" for k in r.sample(["down", "up"], r.randint(0, 2))}
    missing = {n: r.choice(["ignore", f"state {r.randint(0, states - 1)}"]) for n in r.sample(sorted(SPANS), r.randint(0, 2))}
    if missing:
        policy["on-missing"] = missing
    ladder = [{"point": "w4a16", "name": f"p{i}"} for i in range(states)]
    return yaml.safe_dump({"edgert": 1, "sensors": sensors, "ladders": {"l": ladder}, "policies": {"p": policy}})


def random_readings(r, names, steps):
    """Rows of (now, {sensor: (value or None, absence, time)}): walks with jumps, gaps, repeats, clock faults."""
    now, value, rows = 3600 * 10**9, {n: r.uniform(*SPANS[n]) for n in names}, []
    time = dict.fromkeys(names, now)
    for _ in range(steps):
        now += r.choice([100, 500, 500, 500, 2000, 7000]) * 10**6
        if r.random() < 0.02:
            now -= 3 * 10**9
        row = {}
        for n in names:
            low, high = SPANS[n]
            if r.random() < 0.7:  # else the source repeats its last sample
                time[n] = now + (r.choice([-1, 1]) * 10**8 if r.random() < 0.1 else 0)
                step = (high - low) / 12 if r.random() < 0.9 else (high - low)
                value[n] = min(high, max(low, round(value[n] + r.uniform(-step, step), 1)))
                if n == "battery.discharging":
                    value[n] = float(r.random() < 0.6)
            fault = r.random()
            if fault < 0.04:
                row[n] = (None, r.choice(["READ_FAILED", "NO_SAMPLE", "SOURCE_GONE"]), time[n])
            elif fault < 0.07:
                row[n] = (r.choice([-273.1, 65261.8, float("nan"), float("inf"), -1e308]), "", time[n])
            else:
                row[n] = (value[n], "", time[n])
        rows.append((now, row))
    return rows


def random_case(seed, steps=200):
    r = random.Random(seed)
    text = random_policy(r)
    p = model.Policy(text, "p")
    return text, p, random_readings(r, sorted(p.sensors), steps)


def test_320_random_policies_equal_the_model():
    changes = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(320):
            text, p, rows = random_case(seed)
            path = pathlib.Path(folder) / "p.yaml"
            path.write_text(text)
            lines = [f"{now} " + " ".join(f"{n} {repr(v) if v is not None else why} {t}" for n, (v, why, t) in row.items())
                     for now, row in rows]
            status, out, err = drive("decide", path, "p", stdin=("\n".join(lines) + "\n").encode())
            assert status == 0, (seed, err, text)
            got = [line.split(" ", 4) for line in out.splitlines()]
            assert len(got) == len(rows), seed
            before = 0
            for i, (now, row) in enumerate(rows):
                state, memory = p.decide(now, {n: (v, t) for n, (v, _, t) in row.items()})
                assert (int(got[i][0]), int(got[i][2])) == (state, memory), (seed, i, text, lines[i], got[i], state)
                assert int(got[i][1]) == (state != before), (seed, i)
                assert state < p.states and got[i][4].strip(), (seed, i)
                changes += state != before
                before = state
    assert changes > 3000, f"only {changes} changes: the random cases are too quiet"


def test_dwell_bounds_how_often_the_state_changes():
    """Against a sensor that alternates at every poll: no two changes for the better within dwell.up of a
    change, none for the worse within dwell.down."""
    text = """edgert: 1
ladders: {l: [w8a8, w4a16, w4a16-r90]}
policies:
  p:
    ladder: l
    trips: [{name: hot, sensor: temp.cpu, above: 70C, governor: bang_bang, states: 2}]
    dwell: {down: 2s, up: 5s}
"""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "p.yaml"
        path.write_text(text)
        lines = [f"{i * 500000000} temp.cpu {90 if i % 2 else 40} {i * 500000000}\n" for i in range(400)]
        _, out, _ = drive("decide", path, "p", stdin="".join(lines).encode())
        states = [int(line.split()[0]) for line in out.splitlines()]
    changes = [(i * 0.5, b > a) for i, (a, b) in enumerate(zip(states, states[1:]), 1) if a != b]
    assert len(changes) > 20
    for (t0, _), (t1, worse) in zip(changes, changes[1:]):
        assert t1 - t0 >= (2 if worse else 5), (t0, t1, worse)


def test_hysteresis_holds_a_state_that_the_band_covers():
    text = """edgert: 1
ladders: {l: [w8a8, w4a16]}
policies: {p: {ladder: l, dwell: {up: 0s}, trips: [{name: hot, sensor: temp.cpu, above: 70C, hysteresis: 4C, states: 1}]}}
"""
    values = [69, 70, 70.1, 69, 66.1, 68, 66, 67, 70, 70.5, 66]
    expected = [0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "p.yaml"
        path.write_text(text)
        lines = [f"{i * 10**9} temp.cpu {v} {i * 10**9}\n" for i, v in enumerate(values)]
        _, out, _ = drive("decide", path, "p", stdin="".join(lines).encode())
    rows = [line.split(" ", 4) for line in out.splitlines()]
    assert [int(r[0]) for r in rows] == expected
    assert rows[2][4] == "temp.cpu 70.1C above 70C (hot)"
    assert rows[6][4] == "temp.cpu 66C back at 66C, hot cleared"


def test_the_worked_example_of_the_language_page():
    """The page's own policy and the states that its text gives by hand."""
    page = (tap.root / "docs" / "policy-language.md").read_text()
    text = re.search(r"```yaml\n(.*?)```", page, re.S)[1]
    values = [69, 71, 72, 71.5, 68, 66.9] + [66] * 40
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "p.yaml"
        path.write_text(text)
        lines = [f"{i * 500000000} temp.cpu {v} {i * 500000000}\n" for i, v in enumerate(values)]
        status, out, err = drive("decide", path, "bedtime", stdin="".join(lines).encode())
        assert status == 0, err
    states = [int(line.split()[0]) for line in out.splitlines()]
    assert states[:6] == [0, 1, 2, 2, 2, 2]
    assert (states.index(1, 6), states.index(0, 6)) == (2 + 20, 2 + 40)  # 10 s and 20 s after the change


def test_goldens():
    assert len(goldens) >= 4
    for golden in goldens:
        trace, policy = golden.stem.split("--")
        example = tap.root / "docs" / "examples" / f"{policy}.yaml"
        policies = example if example.exists() else policies_yaml
        status, _, err = drive("golden", policies, policy, tap.root / "sim" / "traces" / f"{trace}.csv", golden)
        assert status == 0, err


def test_a_golden_that_differs_names_the_first_line():
    golden = goldens[0]
    trace, policy = golden.stem.split("--")
    lines = golden.read_text().splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as folder:
        other = pathlib.Path(folder) / "g.txt"
        for changed in (lines[:4] + ["total_trans\t99\n"] + lines[5:], lines[:-1], lines + ["more\n"]):
            other.write_text("".join(changed))
            where = next((i for i, (a, b) in enumerate(zip(changed, lines), 1) if a != b), min(len(changed), len(lines)) + 1)
            status, _, err = drive("golden", policies_yaml, policy, tap.root / "sim" / "traces" / f"{trace}.csv", other)
            assert status == 1 and f"g.txt:{where}: expected" in err, (where, err)


def journal_of(seed, steps=60):
    """A journal as a live run would leave it, its states from the model."""
    text, p, rows = random_case(seed, steps)
    lines = [json.dumps({"type": "start", "version": 2, "policy": "p", "policy_yaml": text, "poll_ns": p.poll})]
    last, state = {}, 0
    for now, row in rows:
        readings = {}
        for n, (v, why, t) in row.items():
            finite = v is not None and abs(v) < 1e300 and v == v
            said, held_time, fresh = v if finite else why or "READ_FAILED", *last.get(n, (None, 0, False))[1:]
            if n not in last or last[n][0] != said or t != (now if fresh else held_time):
                readings[n] = said if t == now else [said, t]
            last[n] = said, t, t == now
        before = state
        state, _ = p.decide(now, {n: (v if v is not None and abs(v) < 1e300 else None, t) for n, (v, _, t) in row.items()})
        lines.append(json.dumps({"type": "input", "t_ns": now, "readings": readings, "state": state}))
        if state != before:
            lines.append(json.dumps({"type": "decision", "t_ns": now, "from": before, "to": state}))
    return lines


def test_journaled_inputs_give_the_journaled_decisions():
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for seed in range(40):
            paths.append(pathlib.Path(folder) / f"{seed}.jsonl")
            paths[-1].write_text("\n".join(journal_of(seed)) + "\n")
        _, out, _ = drive("journal", *paths)
        answers = out.splitlines()
        assert len(answers) == 40 and all(re.fullmatch(r"60 decisions, \d+ changes ok", a) for a in answers), answers


def test_a_journal_with_another_state_names_its_line():
    lines = journal_of(3)
    at = max(i for i, l in enumerate(lines) if '"input"' in l)
    other = json.loads(lines[at])
    other["state"] = other["state"] + 1
    lines[at] = json.dumps(other)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "j.jsonl"
        path.write_text("\n".join(lines) + "\n")
        _, out, _ = drive("journal", path)
        assert f"j.jsonl:{at + 1}: journaled state {other['state']}, replayed state {other['state'] - 1}" in out, out


def test_a_journal_cut_in_its_last_line_is_read_up_to_there():
    text = "\n".join(journal_of(3)) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "j.jsonl"
        path.write_text(text[:-30])
        _, out, _ = drive("journal", path)
        assert re.fullmatch(r"\d+ decisions, \d+ changes, truncated ok\n", out), out
        lines = text.splitlines()
        path.write_text("\n".join([*lines[:5], lines[5][:-30], *lines[6:]]) + "\n")
        _, out, _ = drive("journal", path)
        assert "j.jsonl:6: not valid JSON at column " in out, out


TOKENS = [b"", b"\0", b"\xff\xfe", b"{", b"]", b"- ", b": ", b"&a ", b"*a", b"1e999", b"-1", b"nan", b"\n\n", b"\t", b",,,", b"#",
          b"!!binary ", b"99999999999999999999", b"70", b"%", b"?", b"|", b"'", b'"', "\u2028".encode(), b"\xc3", b"..", b"max"]


def damaged(original, r):
    data = bytearray(original)
    for _ in range(r.randint(1, 4)):
        at = r.randrange(len(data) + 1)
        kind = r.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << r.randrange(8)
        elif kind == 2:
            data[at:at] = r.choice(TOKENS)
        elif kind == 3:
            del data[at:at + r.randint(1, 30)]
        elif kind == 4:
            source = r.randrange(len(data) + 1)
            data[at:at] = data[source:source + r.randint(1, 200)]
        else:
            lines = bytes(data).split(b"\n")
            r.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        if not data:
            data = bytearray(b"\n")
    return bytes(data)


def check_damaged(mode, originals, suffix, place, count=250):
    r = random.Random(mode)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(count):
            paths.append(pathlib.Path(folder) / f"{i}.{suffix}")
            paths[-1].write_bytes(damaged(r.choice(originals), r))
        _, out, _ = drive(mode, *paths)
        answers = out.splitlines()
        assert len(answers) == count, (len(answers), count)
        refused = [(p, a) for p, a in zip(paths, answers) if not a.endswith("ok")]
        assert len(refused) > count // 3, f"only {len(refused)} of {count} were refused"
        for path, answer in refused:
            assert re.search(re.escape(str(path)[-40:]) + place, answer), answer


def test_250_damaged_policies():
    small = random_policy(random.Random(7)).encode()
    check_damaged("policies", [policies_yaml.read_bytes(), small], "yaml", r":\d+:\d+: ")


def test_250_damaged_traces():
    check_damaged("traces", [b"\n".join(t.read_bytes().split(b"\n")[:40]) + b"\n" for t in traces], "csv", r":\d+: ")


def test_250_damaged_journals():
    check_damaged("journal", ["\n".join(journal_of(s, 12)).encode() + b"\n" for s in range(5)], "jsonl", r":(\d+: | policy_yaml of line \d+:\d+:\d+)")


def test_what_the_fuzzers_found():
    """Inputs that each reach something else (tests/fuzz/corpus): read, or refused in words."""
    for mode in ("journal", "policies", "traces"):
        paths = sorted((tap.root / "tests" / "fuzz" / "corpus" / f"fuzz_{mode}").iterdir())
        _, out, _ = drive(mode, *paths)
        answers = out.splitlines()
        read = sum(a.endswith("ok") for a in answers)
        assert len(answers) == len(paths) > 50 and 4 < read < len(paths) - 20, (mode, len(answers), len(paths), read)
        assert all(a.endswith("ok") or p.name in a or "policy_yaml of line" in a for a, p in zip(answers, paths)), mode


def test_policies_that_try_to_exhaust_memory_or_time():
    bombs = {
        "deep": "edgert: 1\nsensors: " + "[" * 100000,
        "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)),
        "self": "edgert: 1\nladders: &l {x: *l}\n",
        "shared": "edgert: 1\nladders:\n  x: &x [" + ",".join(f"w{i}a8" for i in range(32)) + "]\n"
                  + "".join(f"  y{i}: *x\n" for i in range(2000)),
        "long": "edgert: 1\n#" + "x" * (1 << 20),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in bombs.items():
            paths.append(pathlib.Path(folder) / f"{name}.yaml")
            paths[-1].write_text(text)
        _, out, _ = drive("policies", *paths)
        assert len(out.splitlines()) == len(bombs) and "ok" not in out.split(), out
        assert "deep.yaml:2:41: nested deeper than 32 levels" in out, out


tap.main()
