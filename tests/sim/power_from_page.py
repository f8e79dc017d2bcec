"""`power:` as docs/policy-language.md tells it. Powers in mW, temperatures in C, times in ns."""
import math
import pathlib
import sys
from fractions import Fraction

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "policies"))
import power_allocator as kernel

SECOND = 10**9
ACTORS = ("decode", "prefill")


def milli(x):
    return math.floor(x * 1000 + 0.5)


def matrix_product(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def exponential(matrix):
    """Of a small matrix, by its series on a 2^-14th of it and squaring."""
    size = len(matrix)
    unit = [[float(i == k) for k in range(size)] for i in range(size)]
    small = [[x / 2**14 for x in row] for row in matrix]
    result, term = unit, unit
    for n in range(1, 9):
        term = [[x / n for x in row] for row in matrix_product(term, small)]
        result = [[x + y for x, y in zip(a, b)] for a, b in zip(result, term)]
    for _ in range(14):
        result = matrix_product(result, result)
    return result


class Plant:
    """Chip and case; with power and ambient as further, constant, states the system is linear without an input."""

    def __init__(self, entry, scale):
        self.r1, self.c1 = (scale(x) for x in entry["chip"])
        self.r2, self.c2 = (scale(x) for x in entry["case"])
        self.node = ["chip", "case"].index(entry["sensor-at"])
        self.ambient = scale(entry["ambient"])
        self.ambient_sensor = entry.get("ambient-sensor")
        self.heat = None

    def after(self, seconds):
        r1, c1, r2, c2 = self.r1, self.c1, self.r2, self.c2
        rates = [[-1 / (r1 * c1), 1 / (r1 * c1), 1 / c1, 0], [1 / (r1 * c2), -(1 / r1 + 1 / r2) / c2, 0, 1 / (r2 * c2)],
                 [0] * 4, [0] * 4]
        return exponential([[x * seconds for x in row] for row in rates])

    def move(self, seconds, watts, ambient):
        self.heat = [sum(x * y for x, y in zip(row, [*self.heat, watts, ambient])) for row in self.after(seconds)[:2]]

    def begin(self, temperature, ambient):
        """Steady: case and chip lie above the air as their resistances to it do."""
        above = [self.r1 + self.r2, self.r2]
        watts = (temperature - ambient) / above[self.node]
        self.heat = [ambient + watts * r for r in above]


class Power:
    def __init__(self, entry, ladder, poll, quantities):
        """quantities: readers of C, W, seconds and plain numbers from the file's texts."""
        celsius, watts, seconds, plain = quantities
        self.poll, self.kind, self.sensor = poll, entry["governor"], entry["sensor"]
        self.target = float(celsius(entry["target"]))
        free = -50 if self.kind == "predictive" else celsius(entry["target"]) - 10
        self.switch_on = float(celsius(entry["switch-on"]) if "switch-on" in entry else free)
        self.draw, self.share = entry.get("draw"), entry.get("share")
        paused = ladder[-1] == "pause" or isinstance(ladder[-1], dict) and ladder[-1]["point"] == "pause"
        first, _, last = str(entry.get("states", f"0..{len(ladder) - 1 - paused}")).partition("..")
        self.first, self.last = int(first), len(ladder) - 1 if last == "max" else int(last or first)
        points = [p if isinstance(p, dict) else {"point": p} for p in ladder]
        decode = [milli(watts(p.get("power", "0W"))) for p in points]
        prefill = [milli(watts(p.get("prefill-power", "0W"))) for p in points]
        self.table = {"decode": decode, "prefill": prefill}
        self.greatest = {a: max(self.table[a][self.first:self.last + 1]) for a in ACTORS}
        self.most = sum(self.greatest.values()) if self.share else self.greatest["decode"]
        spending = [p for p in decode[self.first:self.last + 1] if p]
        self.sustainable = milli(watts(entry["sustainable"])) if "sustainable" in entry else (spending or [0])[-1]
        self.controller = kernel.Controller.estimated(self.sustainable, max(1, milli(self.target - self.switch_on)), poll // 10**6)
        for gain in ("k_po", "k_pu", "k_i", "k_d"):
            if gain in entry:
                setattr(self.controller, gain, Fraction(math.floor(watts(entry[gain]) * kernel.ONE + Fraction(1, 2)), kernel.ONE))
        self.controller.cutoff = milli(celsius(entry.get("integral_cutoff", "0C")))
        self.burst = self.room = None
        if "burst" in entry:
            power, _, time = entry["burst"].partition(" for ")
            self.burst = milli(watts(power))
            self.room = (self.burst - self.sustainable) * seconds(time) // 1000  # mW * us = nJ
        self.bucket, self.spent, self.looked = self.room, False, None
        self.horizon = seconds(entry.get("horizon", "60s")) / SECOND
        self.plant = Plant(entry["plant"], plain) if "plant" in entry else None
        if self.kind == "predictive":
            self.ahead = [self.plant.after(self.horizon * (i + 1) / 8) for i in range(8)]
        self.stepped_at = None       # None: begins anew
        self.decided_at = None
        self.granted = self.most
        self.request = dict.fromkeys(ACTORS, 0)

    def sensors(self):
        names = {self.sensor} | {self.draw} | ({"load.decode", "load.prefill"} if self.share else set())
        if self.plant:
            names.add(self.plant.ambient_sensor)
        return names - {None}

    def reset(self):
        self.stepped_at = None
        self.controller.err_integral = self.controller.err_before = Fraction(0)

    def spending(self, sensors, state):
        """W."""
        if self.draw and not sensors[self.draw].silent and sensors[self.draw].accepted.value > 0:
            return sensors[self.draw].accepted.value
        return self.table["decode"][state] / 1000

    def fill(self, now, sensors, state):
        if self.looked is not None:
            us = (now - self.looked) // 1000
            self.bucket += (self.sustainable - milli(self.spending(sensors, state))) * us
            self.bucket = min(max(self.bucket, 0), self.room)
            if self.bucket == 0:
                self.spent = True
            elif self.bucket >= self.room // 2:
                self.spent = False
        self.looked = now

    def decide(self, now, sensors, state):
        """Before the state of this decision is chosen; state is the one until now."""
        if self.burst:
            self.fill(now, sensors, state)
        sensor = sensors[self.sensor]
        if sensor.silent:
            self.reset()
            self.decided_at, self.granted = None, self.most
        elif sensor.has_reading and (self.decided_at is None or self.stepped_at is None or now - self.decided_at >= self.poll / 2):
            self.look(now, sensors, state, sensor.accepted.value)

    def look(self, now, sensors, state, temperature):
        allowed = self.most
        if temperature < self.switch_on:
            self.reset()
        else:
            allowed = self.predicted(now, sensors, state, temperature) if self.kind == "predictive" else \
                self.controller.step(milli(self.target) - milli(temperature), self.most)[3]
            self.stepped_at = now
        self.decided_at = now
        if self.burst:
            allowed = min(allowed, self.sustainable if self.spent else self.burst)
        self.granted = allowed
        self.request = dict.fromkeys(ACTORS, self.best("decode", allowed))
        if self.share:
            self.split(sensors)

    def predicted(self, now, sensors, state, temperature):
        plant, ambient = self.plant, self.plant.ambient
        if plant.ambient_sensor and not sensors[plant.ambient_sensor].silent:
            ambient = sensors[plant.ambient_sensor].accepted.value
        if self.stepped_at is None:
            plant.begin(temperature, ambient)
        else:
            plant.move((now - self.decided_at) / SECOND, self.spending(sensors, state), ambient)
        plant.heat[plant.node] = temperature
        allowed = self.most
        for ahead in self.ahead:
            row = ahead[plant.node]
            coasting = row[0] * plant.heat[0] + row[1] * plant.heat[1] + row[3] * ambient
            allowed = min(allowed, (self.target - coasting) / row[2] * 1000)
        return max(0, int(allowed))

    def best(self, actor, power):
        within = [s for s in range(self.first, self.last + 1) if self.table[actor][s] <= power]
        return within[0] if within else self.last

    def split(self, sensors):
        load = {a: 1.0 if sensors[f"load.{a}"].silent else max(sensors[f"load.{a}"].accepted.value, 1) / 100 for a in ACTORS}
        wants = [math.floor(load[a] * float(self.share[a]) * self.greatest[a] + 0.5) for a in ACTORS]
        granted = kernel.grants(wants, [self.greatest[a] for a in ACTORS], self.granted)
        self.request = {a: self.best(a, int(g / load[a])) for a, g in zip(ACTORS, granted)}

    def wants(self, actor="decode"):
        return self.request[actor] if self.granted < self.most else 0
