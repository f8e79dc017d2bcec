"""The C code against a model written from the language page alone, state by state."""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import policy_from_page as page
from tests import tap

driver = tap.build / "tests" / "sim" / "drive_replay"
policies_yaml = tap.root / "policies.yaml"
traces = sorted((tap.root / "sim" / "traces").glob("*.csv"))
SECOND = page.SECOND

# Thresholds of the random trips are drawn from these spans, on a grid that readings hit exactly.
SPANS = {"temp.cpu": (30, 100), "temp.battery": (20, 50), "temp.skin": (25, 50), "temp.ambient": (-20, 40),
         "temp.ssd": (30, 80), "power.package": (2, 60), "battery.charge": (1, 99), "battery.power": (-8, 12),
         "battery.voltage": (3, 9), "memory.available": (100, 1200), "psi.memory.some": (1, 40),
         "cpu.load.others": (1, 99), "cpu.frequency": (400, 420)}
CONDITIONS = {"battery.discharging": (0, 1), "battery.power": (-8, 12), "load.decode": (0, 100), "load.prefill": (0, 100)}
REASONS = ["NO_SOURCE", "NO_SAMPLE", "STALE", "READ_FAILED", "SOURCE_GONE"]


def drive(*arguments, stdin=None):
    done = subprocess.run([driver, *map(str, arguments)], input=stdin, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout.decode()


def random_trip(r, i, states):
    name = r.choice(sorted(SPANS))
    unit = page.signal_of(name).unit
    low, high = SPANS[name]
    trip = {"name": f"t{i}", "sensor": name, r.choice(["above", "below"]): f"{r.randint(low, high)}{unit}"}
    if r.random() < 0.7:
        trip["hysteresis"] = f"{r.randint(0, max(1, (high - low) // 8))}{unit}"
    if r.random() < 0.4:
        trip["for"] = f"{r.choice([0, 400, 1000, 1500, 3000])}ms"
    if r.random() < 0.3:
        trip["when"] = "discharging"
    if r.random() < 0.5:
        trip["governor"] = r.choice(["step_wise", "bang_bang"])
    first = r.randint(1, states - 1)
    trip["states"] = r.choice([first, f"{first}..{r.randint(first, states - 1)}", f"{first}..max"])
    return trip


def add_blends(r, settings):
    """Makes some of the temperatures of others, which may have no sources of their own, and may be made of others."""
    order = ["temp.battery", "temp.cpu", "temp.ssd", "temp.skin"]
    for i, name in enumerate(order):
        if name not in settings or r.random() < 0.5:
            continue
        parts = r.sample(order[:i] + ["temp.ambient"], r.randint(1, i + 1))
        kind = r.choice(["max", "mean", "sum"])
        settings[name][kind] = {p: r.choice([0.25, 0.5, 1]) for p in parts} if kind == "sum" else parts
        if r.random() < 0.5:
            settings[name]["offset"] = f"{r.choice([-5, 4, 20])}C"
        if r.random() < 0.7:
            del settings[name]["sources"]


def random_policy(r):
    states = r.randint(2, 8)
    trips = [random_trip(r, i, states) for i in range(r.randint(1, 5))]
    used = sorted({t["sensor"] for t in trips} | {"battery.discharging", "battery.power"})
    settings = {}
    for name in used:
        entry = {"sources": ["thermal:cpu-thermal"]}
        if r.random() < 0.7:
            entry["stale"] = f"{r.choice([500, 1000, 2500, 6000])}ms"
        if r.random() < 0.3:
            entry["stuck"] = f"{r.choice([0, 1000, 2500, 5000])}ms"
        if r.random() < 0.3:
            entry["median"] = r.choice([1, 3])
        settings[name] = entry
    add_blends(r, settings)
    policy = {"ladder": "l", "trips": trips, "poll": f"{r.choice([250, 500, 1000])}ms",
              "on-missing": {n: r.choice(["ignore", f"state {r.randrange(states)}"]) for n in used if r.random() < 0.3}}
    if r.random() < 0.2:
        policy["on-missing"]["default"] = r.choice(["ignore", f"state {r.randrange(states)}"])
    if r.random() < 0.8:
        policy["dwell"] = {way: f"{r.choice([0, 500, 1000, 1250, 4000])}ms" for way in ("down", "up")
                           if r.random() < 0.8}
    ladder = [{"point": "w4a16", "tokens-per-second": n} for n in range(100, 100 - states, -1)]
    if r.random() < 0.5:
        policy["power"] = random_power(r, states)
        for point, power in zip(ladder, sorted((r.randint(100, 9000) for _ in ladder), reverse=True)):
            point.update({"power": f"{power}mW", "prefill-power": f"{r.randint(100, 9000)}mW"})
    return yaml.safe_dump({"edgert": 1, "sensors": settings, "ladders": {"l": ladder}, "policies": {"p": policy}})


def random_power(r, states):
    first = r.choice([0, 0, r.randrange(states)])
    power = {"governor": r.choice(["power_allocator", "power_allocator", "predictive"]), "sensor": r.choice(["temp.skin", "temp.cpu"]),
             "target": f"{r.randint(36, 60)}C", "states": r.choice([f"{first}..max", f"{first}..{r.randint(first, states - 1)}"])}
    if r.random() < 0.6:
        power["sustainable"] = f"{r.randint(500, 6000)}mW"
    if r.random() < 0.3:
        power["switch-on"] = f"{r.randint(20, 35)}C"
    if r.random() < 0.4:
        power["burst"] = f"{r.randint(7, 14)}W for {r.choice([2, 10, 30])}s"
    if r.random() < 0.3:
        power["draw"] = r.choice(["battery.power", "power.package"])
    for gain in ("k_po", "k_pu", "k_i", "k_d"):
        if r.random() < 0.3:
            power[gain] = f"{r.randint(0, 900)}mW"
    if r.random() < 0.5:
        power["integral_cutoff"] = f"{r.choice([-2, 0, 1, 5, 30])}C"
    if r.random() < 0.3:
        power["share"] = {"decode": r.choice([1, 2, 0.5]), "prefill": r.choice([1, 3])}
    if power["governor"] == "predictive":
        power["horizon"] = f"{r.choice([5, 30, 120])}s"
        power["plant"] = {"chip": [f"{r.randint(1, 50) / 10}C/W", f"{r.randint(1, 20)}J/C"],
                          "case": [f"{r.randint(10, 90) / 10}C/W", f"{r.randint(20, 200)}J/C"],
                          "sensor-at": r.choice(["chip", "case"]), "ambient": f"{r.randint(10, 30)}C"}
        if r.random() < 0.4:
            power["plant"]["ambient-sensor"] = "temp.ambient"
    return power


class Source:
    """What a sensor's source says poll by poll: a walk on a grid, with every kind of trouble in stretches."""

    def __init__(self, r, name, bounds, calm):
        self.r, self.calm = r, calm
        self.low, self.high = SPANS.get(name) or CONDITIONS[name]
        self.signal = page.signal_of(name)
        self.bounds = [float(b) for b in bounds]
        self.value = float(r.randint(self.low, self.high))
        self.sample, self.mood, self.left = None, "walk", 0

    def next(self, now):
        if self.left == 0:
            self.mood = self.r.choice(["walk"] * self.calm + ["missing", "hold", "flat", "wild", "late", "range", "bound"])
            self.left = self.r.randint(1, 14)
        self.left -= 1
        return getattr(self, self.mood)(now)

    def walk(self, now):
        step = max(1, (self.high - self.low) // 10)
        self.value += self.r.choice([-step, -1, -0.5, 0, 0.5, 1, step])
        self.value = min(max(self.value, self.low - 1.0, self.signal.low), self.high + 1.0, self.signal.high)
        return self.flat(now)

    def flat(self, now):
        self.sample = (self.value, now)
        return self.sample

    def bound(self, now):
        if self.bounds:
            self.value = self.r.choice(self.bounds)
        return self.flat(now)

    def hold(self, now):
        return self.sample or self.flat(now)

    def late(self, now):
        self.sample = (self.value, max(0, now - self.r.randrange(0, 5 * SECOND, SECOND // 4)))
        return self.sample

    def wild(self, now):
        self.value = float(self.r.randint(self.low, self.high))
        return self.flat(now)

    def missing(self, now):
        return None, now

    def range(self, now):
        return self.r.choice([self.signal.low - 1.0, self.signal.high + 1.0, float(self.signal.low),
                              float(self.signal.high), float("nan"), float("inf")]), now


def random_readings(r, policy, count):
    """[(now, {sensor: (value, time)})]; half of the cases have a steady clock, the others jumps and falls."""
    calm = r.choice([2, 6, 20])
    bounds = {n: [b for t in policy.trips if t.sensor == n for b in (t.threshold, t.far_side)] for n in policy.sensors}
    sources = {n: Source(r, n, bounds[n], calm) for n in policy.sensors if r.random() < 0.95}
    now, steady, rows = 3600 * SECOND, r.random() < 0.5, []
    for _ in range(count):
        now += policy.poll
        if not steady and r.random() < 0.1:
            now += r.choice([-2 * SECOND, -SECOND // 2, SECOND // 3, 5 * SECOND, 20 * SECOND])
        rows.append((now, {n: s.next(now) for n, s in sources.items()}))
    return rows


def random_case(seed, count=240):
    r = random.Random(seed)
    text = random_policy(r)
    policy = page.Policy(text, "p")
    return text, policy, random_readings(r, policy, count)


def line_of(now, row, r):
    cells = [f"{n} {r.choice(REASONS) if v is None else repr(v)} {t}" for n, (v, t) in row.items()]
    return " ".join([str(now), *cells]) + "\n"


def check_case(folder, seed):
    text, policy, rows = random_case(seed)
    path = pathlib.Path(folder) / f"{seed}.yaml"
    path.write_text(text)
    r = random.Random(seed)
    lines = [line_of(now, row, r) for now, row in rows]
    answers = drive("decide", path, "p", stdin="".join(lines).encode()).splitlines()
    assert len(answers) == len(rows), seed
    changes, by_power, apart = 0, 0, 0
    for i, ((now, row), answer) in enumerate(zip(rows, answers)):
        before = policy.state
        state, memory = policy.decide(now, row)
        want = f"{state} {int(state != before)} {int(memory)} {policy.prefill}"
        assert answer.rsplit(" ")[:4] == want.split(), f"seed {seed}, poll {i}: page {want}, code {answer}\n{lines[i]}{text}"
        changes += state != before
        by_power += state != before and answer.endswith("W allowed")
        apart += policy.prefill != state
    return changes, by_power, apart


def test_400_random_policies_decide_as_the_page_says():
    with tempfile.TemporaryDirectory() as folder:
        changes, by_power, apart = zip(*(check_case(folder, seed) for seed in range(400)))
    assert sum(changes) > 4000 and sum(c > 0 for c in changes) > 300, (sum(changes), sum(c > 0 for c in changes))
    assert sum(by_power) > 500 and sum(apart) > 1000, (sum(by_power), sum(apart))


def check_statistics(got, changes):
    """Residence times and table, as the kernel's cooling devices have them, from the changes of the model."""
    size = len(got["states"])
    times, table, since, state = [0.0] * size, [[0] * size for _ in range(size)], 0, 0
    for t, a, b in [*changes, (got["duration_s"] * SECOND, None, None)]:
        times[state] += (t - since) / 10**6
        since = t
        if b is not None:
            table[a][b] += 1
            state = b
    assert got["trans_table"] == table and got["total_trans"] == len(changes)
    assert all(abs(a - b) < 1 for a, b in zip(got["time_in_state_ms"], times)), (got["time_in_state_ms"], times)


def check_replay(policies, name, trace):
    policy = page.Policy(policies.read_text(), name)
    changes, decisions = page.replay(policy, trace)
    got = json.loads(drive("replay", policies, name, trace))
    index = {s: i for i, s in enumerate(got["states"])}
    code = [(round(c["t_s"] * 1000), index[c["from"]], index[c["to"]]) for c in got["changes"]]
    want = [(round(t / 10**6), a, b) for t, a, b in changes]
    assert code == want, (name, trace.name, [x for x in zip(code, want) if x[0] != x[1]][:1], len(code), len(want))
    assert got["decisions"] == decisions, (name, trace.name, got["decisions"], decisions)
    check_statistics(got, changes)
    return len(changes)


def test_bundled_policies_replay_bundled_traces_as_the_page_says():
    names = list(yaml.safe_load(policies_yaml.read_text())["policies"])
    changes = sum(check_replay(policies_yaml, n, t) for n in names for t in traces)
    assert len(names) >= 4 and len(traces) >= 8 and changes > 40, changes


def test_example_policies_replay_bundled_traces_as_the_page_says():
    examples = sorted((tap.root / "docs" / "examples").glob("*.yaml"))
    changes = sum(check_replay(e, n, t) for e in examples for n in yaml.safe_load(e.read_text())["policies"] for t in traces)
    assert examples and changes >= 7, changes


tap.main()
