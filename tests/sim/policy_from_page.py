"""The policy language as docs/policy-language.md tells it, in plain Python; times are ns, values in base units.

Written from the page alone, without a look at the C code: where the two differ, the page lacks something
or the code is wrong.
"""
import csv
import dataclasses
import math
import re
from fractions import Fraction

import yaml

from power_from_page import Power

SECOND = 10**9
TIME = {"ms": SECOND // 1000, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND}
SCALES = {
    "C": {"C": 1}, "%": {"%": 1}, "W": {"mW": Fraction(1, 1000), "W": 1}, "V": {"mV": Fraction(1, 1000), "V": 1},
    "MHz": {"MHz": 1, "GHz": 1000}, "": {"": 1},
    "MB": {"kB": Fraction(1, 1000), "MB": 1, "GB": 1000,
           "KiB": Fraction(1024, 10**6), "MiB": Fraction(1024**2, 10**6), "GiB": Fraction(1024**3, 10**6)},
}


@dataclasses.dataclass(frozen=True)
class Signal:
    unit: str
    low: float
    high: float
    rate: float = math.inf
    stale: int = 180 * SECOND


LONG = 600 * SECOND
SHARE = Signal("%", 0, 100)
SIGNALS = {
    "temp.skin": Signal("C", 1, 90, 10),
    "temp.battery": Signal("C", -30, 90, 10, LONG),
    "temp.ambient": Signal("C", -50, 80, 10, LONG),
    "temp.": Signal("C", 1, 125),
    "battery.charge": Signal("%", 0, 100, 5, LONG),
    "battery.power": Signal("W", -300, 300, stale=LONG),
    "battery.voltage": Signal("V", 0.5, 60, stale=LONG),
    "battery.discharging": Signal("", 0, 1, stale=LONG),
    "battery.warning": Signal("", 0, 3, stale=LONG),
    "system.sleeping": Signal("", 0, 1, stale=LONG),
    "desktop.profile": Signal("", 0, 2, stale=LONG),
    "desktop.degraded": Signal("", 0, 1, stale=LONG),
    "memory.available": Signal("MB", 0, 16777216),
    "psi.": SHARE,
    "cpu.load": SHARE,
    "cpu.load.others": SHARE,
    "load.": SHARE,
    "cpu.frequency": Signal("MHz", 1, 20000),
    "power.": Signal("W", 0, 2000),
}


def signal_of(name):
    return SIGNALS.get(name) or SIGNALS[name.split(".")[0] + "."]


def quantity(text, scales):
    number, unit = re.fullmatch(r"(-?[0-9.]+)([A-Za-z%]*)", str(text)).groups()
    return Fraction(number) * scales[unit]


def duration(text):
    return int(quantity(text, TIME))


def elapsed(now, then):
    """A sample from later than now has age 0."""
    return max(0, now - then)


@dataclasses.dataclass
class Accepted:
    value: float
    time: int


class Sensor:
    """Steps 1 and 2: judges the readings of one sensor and remembers the last accepted one."""

    def __init__(self, name, settings):
        self.signal = signal_of(name)
        settings = settings if isinstance(settings, dict) else {}
        self.stale = duration(settings["stale"]) if "stale" in settings else self.signal.stale
        self.stuck = duration(settings.get("stuck", "0s"))
        self.blend = next((kind for kind in ("max", "mean", "sum") if kind in settings), None)
        weights = settings.get(self.blend, {})
        self.parts = {p: float(weights[p]) if self.blend == "sum" else 1.0 for p in weights}
        self.offset = float(quantity(settings.get("offset", 0), {**SCALES[self.signal.unit], "": 1}))
        self.median = settings.get("median", 1) == 3
        self.samples = []        # the last new ones, for the median
        self.raw, self.raw_since = None, 0
        self.accepted = None
        self.previous = None     # the accepted value before
        self.has_reading = self.new = False
        self.silent = True

    def judge(self, now, value, time, sensors):
        reading = self.accept(now, value, time)
        if not reading and self.blend:
            made = self.made_of_parts(sensors)
            reading = made is not None and self.accept(now, *made)
        self.has_reading = reading
        self.silent = not reading and (self.accepted is None or elapsed(now, self.accepted.time) > self.stale)

    def accept(self, now, value, time):
        self.new = False
        if self.why_not(now, value, time) is not None:
            return False
        self.new = self.accepted is None or self.accepted.time != time
        if self.median:
            value = self.median_with(value, time)
        self.previous, self.accepted = self.accepted, Accepted(value, time)
        return True

    def median_with(self, value, time):
        if not self.new:
            return self.accepted.value
        if self.accepted and elapsed(time, self.accepted.time) > self.stale:
            self.samples = []
        self.samples = [*self.samples, value][-3:]
        return sorted(self.samples)[1] if len(self.samples) == 3 else value

    def made_of_parts(self, sensors):
        have = [(sensors[p].accepted, w) for p, w in self.parts.items() if sensors[p].has_reading]
        if not have or (self.blend != "max" and len(have) < len(self.parts)):
            return None
        values = [a.value * w for a, w in have]
        total = 0.0
        for v in values:
            total += v
        made = {"max": max(values), "mean": total / len(values), "sum": total}[self.blend]
        return self.offset + made, max(a.time for a, _ in have)

    def why_not(self, now, value, time):
        if value is None:
            return "source"
        if not (math.isfinite(value) and self.signal.low <= value <= self.signal.high):
            return "OUT_OF_RANGE"
        if self.raw != value:
            self.raw, self.raw_since = value, now
        if elapsed(now, time) > self.stale:
            return "STALE"
        if self.stuck and elapsed(now, self.raw_since) > self.stuck:
            return "STUCK"
        if self.accepted:
            seconds = max(1.0, elapsed(time, self.accepted.time) / SECOND)
            if abs(value - self.accepted.value) > self.signal.rate * seconds:
                return "TOO_FAST"
        return None


class Trip:
    def __init__(self, entry, worst_of_ladder):
        self.sensor = entry["sensor"]
        self.sign = 1 if "above" in entry else -1
        scales = SCALES[signal_of(self.sensor).unit]
        bound = quantity(entry["above" if self.sign > 0 else "below"], scales)
        self.threshold = float(bound)
        delta = quantity(entry["hysteresis"], scales) if "hysteresis" in entry else 0
        self.far_side = float(bound - self.sign * delta)
        self.patience = duration(entry.get("for", "0s"))
        self.when_discharging = entry.get("when") == "discharging"
        self.bang_bang = entry.get("governor") == "bang_bang"
        first, _, last = str(entry["states"]).partition("..")
        self.first = int(first)
        self.last = worst_of_ladder if last == "max" else int(last or first)
        self.release()

    def release(self):
        self.request = None      # None: inactive
        self.past_since = None

    def past(self, value):
        return self.sign * (value - self.threshold) > 0

    def at_far_side(self, value):
        return self.sign * (value - self.far_side) <= 0

    def update(self, now, sensor, may_worsen, may_improve):
        """Step 3 for a sensor that has a reading."""
        value = sensor.accepted.value
        if self.request is None:
            self.enter(now, value)
        elif self.bang_bang:
            if self.at_far_side(value):
                self.release()
        elif self.past(value):
            back = sensor.previous and self.sign * (value - sensor.previous.value) < 0
            if sensor.new and not back and may_worsen:
                self.request = min(self.request + 1, self.last)
        elif self.at_far_side(value) and may_improve:
            self.request -= 1
            if self.request < self.first:
                self.release()

    def enter(self, now, value):
        if not self.past(value):
            self.past_since = None
            return
        if self.past_since is None:
            self.past_since = now
        if elapsed(now, self.past_since) >= self.patience:
            self.request = self.last if self.bang_bang else self.first


class Policy:
    """A policy of a file and its memory; decide() is one decision."""

    def __init__(self, text, name):
        document = yaml.safe_load(text)
        entry = next(p for n, p in document["policies"].items() if name in (n, *p.get("aliases", ())))
        self.states = len(document["ladders"][entry["ladder"]])
        self.poll = duration(entry.get("poll", "500ms"))
        self.trips = [Trip(t, self.states - 1) for t in entry.get("trips", ())]
        dwell = entry.get("dwell", {})
        self.down, self.up = duration(dwell.get("down", "0s")), duration(dwell.get("up", "10s"))
        on_missing = dict(entry.get("on-missing", {}))
        default = on_missing.pop("default", "ignore")
        watched = [t.sensor for t in self.trips] + ([entry["power"]["sensor"]] if "power" in entry else [])
        on_missing = {**dict.fromkeys(watched, default), **on_missing}
        self.on_missing = {s: int(what.split()[1]) for s, what in on_missing.items() if what != "ignore"}
        self.power = None
        if "power" in entry:
            scale = lambda unit: lambda text: quantity(text, SCALES[unit])
            self.power = Power(entry["power"], document["ladders"][entry["ladder"]], self.poll,
                               (scale("C"), scale("W"), duration, lambda text: float(re.match(r"-?[0-9.]+", str(text))[0])))
        names = {t.sensor for t in self.trips} | set(self.on_missing) | (self.power.sensors() if self.power else set())
        if any(t.when_discharging for t in self.trips):
            names |= {"battery.discharging", "battery.power"}
        settings = document.get("sensors", {})
        self.sensors = {}        # parts before what is made of them
        for name in sorted(names):
            self.add_sensor(name, settings)
        self.now = 0
        self.state = self.prefill = 0
        self.changed_at = None

    def add_sensor(self, name, settings):
        if name in self.sensors:
            return
        sensor = Sensor(name, settings.get(name))
        for part in sensor.parts:
            self.add_sensor(part, settings)
        self.sensors[name] = sensor

    def decide(self, now, readings):
        """readings: {sensor: (value or None, time)}. Returns (state, whether memory may be released)."""
        self.now = now = max(now, self.now)
        for name, sensor in self.sensors.items():
            sensor.judge(now, *readings.get(name, (None, 0)), self.sensors)
        discharging = any(t.when_discharging for t in self.trips) and self.discharging()
        for trip in self.trips:
            sensor = self.sensors[trip.sensor]
            if sensor.silent or trip.when_discharging and not discharging:
                trip.release()
            elif sensor.has_reading:
                trip.update(now, sensor, self.passed(self.down), self.passed(self.up))
        if self.power:
            self.power.decide(now, self.sensors, self.state)
        target = max([self.power.wants()] if self.power else [0])
        besides = max([t.request for t in self.trips if t.request is not None]
                     + [s for n, s in self.on_missing.items() if self.sensors[n].silent] + [0])
        target = max(target, besides)
        if target != self.state and self.passed(self.down if target > self.state else self.up):
            self.state, self.changed_at = target, now
        sharing = self.power and self.power.share and self.power.granted < self.power.most
        self.prefill = max(besides, self.power.wants("prefill")) if sharing else self.state
        memory = any(t.request is not None and t.sensor.startswith(("memory.", "psi.memory.")) for t in self.trips)
        return self.state, memory

    def passed(self, dwell):
        return self.changed_at is None or elapsed(self.now, self.changed_at) >= dwell

    def discharging(self):
        for name, bound in (("battery.discharging", 0.5), ("battery.power", 0)):
            if not self.sensors[name].silent:
                return self.sensors[name].accepted.value > bound
        return False


def replay(policy, path):
    """The changes [(time, from, to)] of an open-loop replay of a trace, and the number of decisions."""
    with open(path, encoding="utf-8", newline="") as f:
        header, *rows = csv.reader(line for line in f if not line.startswith("#"))
    names = [column.rpartition("_")[0] if "_" in column else column for column in header]
    rows = [(int(Fraction(row[0]) * SECOND), row) for row in rows]
    held, changes, now, done, decisions = {}, [], 0, 0, 0
    start = 3600 * SECOND
    while now <= rows[-1][0]:
        while done < len(rows) and rows[done][0] <= now:
            time, row = rows[done]
            held.update({n: (float(v), start + time) for n, v in zip(names[1:], row[1:]) if v})
            done += 1
        before = policy.state
        policy.decide(start + now, held)
        if policy.state != before:
            changes.append((now, before, policy.state))
        now += policy.poll
        decisions += 1
    return changes, decisions
