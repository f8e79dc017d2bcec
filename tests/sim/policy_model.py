"""The rules of docs/policy-language.md once more: what the decision code is compared with.

Nothing here is shared with policies/: PyYAML reads the file, plain Python decides. Where the two differ,
the page says which is right.
"""
import csv
import math
import re

import yaml

# name: (min, max, rate per second, stale seconds); a prefix ends in "."
SIGNALS = {
    "temp.cpu": (1, 125, 0, 180), "temp.skin": (1, 90, 10, 180), "temp.battery": (-30, 90, 10, 600),
    "battery.charge": (0, 100, 5, 600), "battery.power": (-300, 300, 0, 600),
    "battery.discharging": (0, 1, 0, 600), "memory.available": (0, 16777216, 0, 180),
    "psi.memory.some": (0, 100, 0, 180), "cpu.load.others": (0, 100, 0, 180),
}
FACTOR = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "C": 1, "%": 1, "MB": 1, "GB": 1e3, "W": 1, "mW": 1e-3}


def quantity(text):
    number, unit = re.fullmatch(r"([-+0-9.e]+)\s*([A-Za-z%]*)", str(text)).groups()
    return float(number) * FACTOR.get(unit, 1)


def ns(text, default):
    return int((quantity(text) if text is not None else default) * 1e9 + 0.5)


class Sensor:
    def __init__(self, name, settings):
        self.name = name
        self.low, self.high, self.rate, stale = SIGNALS[name]
        settings = settings if isinstance(settings, dict) else {}
        self.stale = ns(settings.get("stale"), stale)
        self.stuck = ns(settings.get("stuck"), 0)
        self.missing = None      # state while there is no value
        self.good = None         # (value, time) last accepted
        self.raw = None          # (value, since) for the stuck test
        self.trend, self.new, self.valid = 0, False, False

    def take(self, now, value, time):
        """value: a float, or None where the source has none."""
        self.valid = self.new = False
        if value is None or not math.isfinite(value) or not self.low <= value <= self.high:
            return
        if self.raw is None or self.raw[0] != value:
            self.raw = (value, now)
        if now - time > self.stale:
            return
        if self.stuck and now - self.raw[1] > self.stuck:
            return
        if self.rate and self.good:
            seconds = max(1.0, max(0, time - self.good[1]) * 1e-9)
            if abs(value - self.good[0]) > self.rate * seconds:
                return
        self.new = self.good is None or time != self.good[1]
        self.trend = 0 if self.good is None else (value > self.good[0]) - (value < self.good[0])
        self.good, self.valid = (value, time), True

    def silent(self, now):
        return not self.valid and (self.good is None or now - self.good[1] > self.stale)


class Trip:
    def __init__(self, y, top):
        self.name, self.sensor = y["name"], y["sensor"]
        self.sign = 1 if "above" in y else -1
        self.at = quantity(y["above"] if "above" in y else y["below"])
        self.margin = quantity(y.get("hysteresis", "0C"))
        self.wait = ns(y.get("for"), 0)
        self.on_battery = "when" in y
        self.jump = y.get("governor", "step_wise") == "bang_bang"
        low, _, high = str(y["states"]).partition("..")
        self.low = int(low)
        self.high = top if high == "max" else int(high or low)
        self.request, self.since = None, None

    def tripped(self, v):
        return v > self.at if self.sign > 0 else v < self.at

    def clear(self, v):
        return v <= self.at - self.margin if self.sign > 0 else v >= self.at + self.margin

    def update(self, now, s, worse_ok, better_ok, discharging):
        if (self.on_battery and not discharging) or s.silent(now):
            self.request = self.since = None
            return
        if not s.valid:
            return
        v = s.good[0]
        if self.request is None:
            if not self.tripped(v):
                self.since = None
                return
            if self.since is None:
                self.since = now
            if now - self.since >= self.wait:
                self.request = self.high if self.jump else self.low
        elif self.jump:
            if self.clear(v):
                self.request = self.since = None
        elif self.tripped(v):
            if s.new and s.trend * self.sign >= 0 and worse_ok:
                self.request = min(self.request + 1, self.high)
        elif self.clear(v) and better_ok:
            self.request -= 1
            if self.request < self.low:
                self.request = self.since = None


class Policy:
    def __init__(self, text, name):
        y = yaml.safe_load(text)
        p = next(v for k, v in y["policies"].items() if k == name or name in v.get("aliases", []))
        self.ladder = y["ladders"][p["ladder"]]
        self.poll = ns(p.get("poll"), 0.5)
        dwell = p.get("dwell", {})
        self.down, self.up = ns(dwell.get("down"), 0), ns(dwell.get("up"), 10)
        self.trips = [Trip(t, len(self.ladder) - 1) for t in p.get("trips", [])]
        missing = {k: v for k, v in p.get("on-missing", {}).items() if v != "ignore"}
        names = [t.sensor for t in self.trips] + list(missing)
        if any(t.on_battery for t in self.trips):
            names += ["battery.discharging", "battery.power"]
        self.sensors = {n: Sensor(n, y.get("sensors", {}).get(n)) for n in names}
        for n, state in missing.items():
            self.sensors[n].missing = int(state.split()[1])
        self.state, self.now, self.changed = 0, 0, None

    def discharging(self):
        for name, bound in (("battery.discharging", 0.5), ("battery.power", 0)):
            s = self.sensors.get(name)
            if s and not s.silent(self.now):
                return s.good[0] > bound
        return False

    def decide(self, now, readings):
        """readings: {sensor: (value or None, time)}. Returns the state and whether memory is wanted."""
        self.now = now = max(now, self.now)
        for s in self.sensors.values():
            s.take(now, *readings.get(s.name, (None, 0)))
        worse_ok = self.changed is None or now - self.changed >= self.down
        better_ok = self.changed is None or now - self.changed >= self.up
        discharging = self.discharging()
        for t in self.trips:
            t.update(now, self.sensors[t.sensor], worse_ok, better_ok, discharging)
        want = max([0] + [t.request for t in self.trips if t.request is not None]
                   + [s.missing for s in self.sensors.values() if s.missing is not None and s.silent(now)])
        if (want > self.state and worse_ok) or (want < self.state and better_ok):
            self.state, self.changed = want, now
        memory = any(t.request is not None and t.sensor.startswith(("memory.", "psi.memory."))
                     for t in self.trips)
        return self.state, memory


class Trace:
    def __init__(self, path):
        lines = [l for l in open(path) if not l.startswith("#")]
        rows = list(csv.reader(lines))
        self.columns = [c.rpartition("_")[0] or c for c in rows[0]]
        self.columns = [c if "_" in raw else raw for c, raw in zip(self.columns, rows[0])]
        self.rows = [[float(c) if c else None for c in r] for r in rows[1:]]
        self.end = self.rows[-1][0]
        self.next, self.held = 0, {}

    def until(self, seconds):
        """Readings held at that time; call with rising times."""
        while self.next < len(self.rows) and self.rows[self.next][0] <= seconds:
            row = self.rows[self.next]
            for name, value in zip(self.columns[1:], row[1:]):
                if value is not None:
                    self.held[name] = (value, round(row[0] * 1e9))
            self.next += 1
        return self.held


def replay(policy, trace):
    """(time s, from, to) of every change."""
    changes, now = [], 0
    while now <= round(trace.end * 1e9):
        before = policy.state
        policy.decide(now, trace.until(now * 1e-9))
        if policy.state != before:
            changes.append((now * 1e-9, before, policy.state))
        now += policy.poll
    return changes
