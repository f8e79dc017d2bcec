"""Sensors on made-up machines under a root folder: every source's value, quirk and sentence, and the
loop on top of them. Expected values are worked out by hand from the files."""
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

from tests import tap

DRIVE = tap.build / "tests" / "governor" / "drive_loop"
# Whatever upowerd the machine that runs the tests may have is none of their business.
NO_BUS = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent/bus")

POLICIES = """
edgert: 1
sensors:
  temp.cpu: ["hwmon:k10temp/Tctl", "thermal:cpu-thermal", "thermal:soc-thermal"]
  battery.charge: ["upower:percentage", "power_supply:capacity"]
ladders:
  three: [w8a8, w4a16, pause]
policies:
  quick:
    ladder: three
    poll: 20ms
    trips:
      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1..max}
      - {name: low, sensor: memory.available, below: 100MB, hysteresis: 10MB, states: 2..max}
    dwell: {down: 0s, up: 0s}
    failsafe: w4a16
  battery:
    ladder: three
    poll: 20ms
    trips:
      - {name: empty, sensor: battery.charge, below: 20%, hysteresis: 2%, when: discharging, states: 1..max}
    dwell: {down: 0s, up: 0s}
    failsafe: w4a16
  busy:
    ladder: three
    poll: 20ms
    trips:
      - {name: all, sensor: cpu.load, above: 99%, hysteresis: 1%, states: 1..max}
      - {name: others, sensor: cpu.load.others, above: 99%, hysteresis: 1%, states: 1..max}
    failsafe: w4a16
"""


class Machine:
    """Files of a /sys and a /proc under a temporary root."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder)

    def write(self, path, text):
        """In place of the old file at once, as a driver's value changes: no reader sees half of it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        fresh.write_text(f"{text}\n")
        fresh.rename(target)

    def zone(self, number, kind, temp):
        self.write(f"sys/class/thermal/thermal_zone{number}/temp", temp)
        self.write(f"sys/class/thermal/thermal_zone{number}/type", kind)

    def supply(self, name, **files):
        for key, value in files.items():
            self.write(f"sys/class/power_supply/{name}/{key}", value)


@contextlib.contextmanager
def machine():
    with tempfile.TemporaryDirectory() as folder:
        yield Machine(folder)


def report(m):
    done = subprocess.run([DRIVE, "report", m.root], env=NO_BUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(l["signal"], l["source"]): l for l in lines}


def value(m, signal, source):
    return report(m)[signal, source]["value"]


class Loop:
    """A running governor; ask(word) gives its answer."""

    def __init__(self, folder, policy, environment=NO_BUS, wrapper=(), policies=POLICIES, **options):
        self.policies = pathlib.Path(folder) / "policies.yaml"
        self.policies.write_text(policies)
        arguments = [f"{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen([*wrapper, DRIVE, "run", self.policies, policy, *arguments], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        started = json.loads(self.process.stdout.readline())
        assert started == {"started": True}, started

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def until(self, holds, what, limit_s=20):
        """The first status for which holds(status); fails after limit_s."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            status = self.ask("status")
            if holds(status):
                return status
            time.sleep(0.02)
        raise AssertionError(f"never {what}: {status}")

    def stop(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == (1 if "error" in answer else 0)
        return answer


@contextlib.contextmanager
def loop(*arguments, **options):
    running = Loop(*arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_nothing_there_gives_a_sentence_for_each():
    with machine() as m:
        lines = report(m)
        assert len(lines) > 20
        for key, line in lines.items():
            assert line["value"] is None and len(line["why"]) > 15 and " " in line["why"], (key, line)


def test_nothing_there_and_the_loop_runs():
    with machine() as m, loop(m.root, "quick", root=m.root) as g:
        status = g.until(lambda s: s["decisions"] > 5 and s["beats"] > 5, "beating")
        assert status["state"] == 0 and status["transitions"] == 0
        for name in ("temp.cpu", "memory.available"):
            sensor = status["sensors"][name]
            assert sensor["value"] is None and sensor["absence"] == "NO_SOURCE" and " " in sensor["why"], sensor
        assert g.stop() == {"stopped": True}


def test_thermal_zones():
    with machine() as m:
        m.zone(0, "cpu-thermal", 71200)
        m.zone(1, "gpu-thermal", -1500)
        lines = report(m)
        assert lines["temp.cpu", "thermal:cpu-thermal"]["value"] == 71.2
        gpu = lines["temp.gpu", "thermal:gpu-thermal"]
        assert gpu["value"] is None and "plausible" in gpu["why"], gpu


def test_snapdragon_zones_that_are_not_wired():
    with machine() as m:
        m.zone(0, "cpu-thermal", 0)
        m.zone(1, "gpu-thermal", -273000)
        m.zone(2, "soc-thermal", 0)
        m.zone(3, "soc-thermal", 44500)
        lines = report(m)
        for key in (("temp.cpu", "thermal:cpu-thermal"), ("temp.gpu", "thermal:gpu-thermal")):
            assert lines[key]["value"] is None and "plausible" in lines[key]["why"], lines[key]
        assert lines["temp.cpu", "thermal:soc-thermal"]["value"] == 44.5
        with loop(m.root, "quick", root=m.root) as g:
            sensor = g.ask("status")["sensors"]["temp.cpu"]
            assert sensor["value"] == 44.5 and sensor["source"] == "thermal:soc-thermal", sensor


def test_thermal_zone_without_a_number():
    with machine() as m:
        m.zone(0, "cpu-thermal", "N/A")
        line = report(m)["temp.cpu", "thermal:cpu-thermal"]
        assert line["value"] is None and "Invalid argument" in line["why"], line


def battery(m, signal, source):
    return round(value(m, signal, source), 6)


def test_battery_with_power_now():
    with machine() as m:
        m.supply("BAT0", type="Battery", present=1, status="Discharging", capacity=63, power_now=8200000,
                 voltage_now=7700000, temp=311, energy_now=25200000, energy_full=40000000)
        assert battery(m, "battery.charge", "power_supply:capacity") == 63
        assert battery(m, "battery.power", "power_supply:power_now") == 8.2
        assert battery(m, "battery.voltage", "power_supply:voltage_now") == 7.7
        assert battery(m, "battery.discharging", "power_supply:status") == 1
        assert battery(m, "temp.battery", "power_supply:temp") == 31.1
        m.supply("BAT0", status="Charging")
        assert battery(m, "battery.power", "power_supply:power_now") == -8.2
        assert battery(m, "battery.discharging", "power_supply:status") == 0


def test_steam_deck_has_charge_and_current_on_bat1():
    with machine() as m:
        m.supply("BAT1", type="Battery", status="Discharging", capacity=41, current_now=1500000, voltage_now=7600000,
                 charge_now=2100000, charge_full=5100000)
        assert battery(m, "battery.charge", "power_supply:capacity") == 41
        assert battery(m, "battery.power", "power_supply:power_now") == 11.4


def test_steam_deck_oled_once_full_has_no_current():
    """Its current_now opens and then fails; a folder in its place fails to be read as well."""
    with machine() as m:
        m.supply("BAT1", type="Battery", status="Full", capacity=100, voltage_now=8700000)
        (m.root / "sys/class/power_supply/BAT1/current_now").mkdir()
        lines = report(m)
        power = lines["battery.power", "power_supply:power_now"]
        assert power["value"] is None and "BAT1" in power["why"], power
        assert lines["battery.charge", "power_supply:capacity"]["value"] == 100


def test_surface_go_has_charge_only():
    with machine() as m:
        m.supply("BAT1", type="Battery", status="Discharging", charge_now=1234000, charge_full=2468000)
        assert battery(m, "battery.charge", "power_supply:capacity") == 50
        assert value(m, "battery.power", "power_supply:power_now") is None


def test_odin_has_a_charge_counter():
    with machine() as m:
        m.supply("battery", type="Battery", status="Discharging", charge_counter=2000000, charge_full=8000000)
        assert battery(m, "battery.charge", "power_supply:capacity") == 25


def test_voltage_alone_is_no_charge():
    """ROG Ally Z1E."""
    with machine() as m:
        m.supply("BAT0", type="Battery", status="Unknown", voltage_now=15800000)
        lines = report(m)
        assert lines["battery.voltage", "power_supply:voltage_now"]["value"] == 15.8
        for key in (("battery.charge", "power_supply:capacity"), ("battery.discharging", "power_supply:status"),
                    ("battery.power", "power_supply:power_now")):
            assert lines[key]["value"] is None and "does not tell" in lines[key]["why"], lines[key]


def test_a_discharge_of_zero_watts_is_no_value():
    with machine() as m:
        m.supply("BAT0", type="Battery", status="Discharging", capacity=50, power_now=0)
        assert value(m, "battery.power", "power_supply:power_now") is None


def test_two_batteries_count_as_one_and_a_mouse_does_not():
    """Surface Book 3; 90 % of 20 Wh and 30 % of 60 Wh are 45 % of 80 Wh."""
    with machine() as m:
        m.supply("BAT1", type="Battery", status="Full", capacity=90, energy_now=18000000, energy_full=20000000,
                 power_now=1000000)
        m.supply("BAT2", type="Battery", status="Discharging", capacity=30, energy_now=18000000, energy_full=60000000,
                 power_now=5000000)
        m.supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging", capacity=5)
        m.supply("AC", type="Mains", online=0)
        assert battery(m, "battery.charge", "power_supply:capacity") == 45
        assert battery(m, "battery.discharging", "power_supply:status") == 1
        assert battery(m, "battery.power", "power_supply:power_now") == 6
        (m.root / "sys/class/power_supply/BAT1/power_now").unlink()
        assert value(m, "battery.power", "power_supply:power_now") is None


def test_only_a_mouse():
    with machine() as m:
        m.supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging", capacity=5)
        line = report(m)["battery.charge", "power_supply:capacity"]
        assert line["value"] is None and "no battery powers this machine" in line["why"], line


def test_thinkpad_from_the_data():
    path = tap.data("sysfs/procfs_fixture/selected_sysfs.tsv")
    with machine() as m:
        for line in path.read_text().splitlines():
            name, _, text = line.partition("\t")
            if "/power_supply/BAT0/" in name and not text.startswith("->"):
                m.write("sys/class/power_supply/BAT0/" + name.split("/power_supply/BAT0/")[1].replace("/", "_"), text)
        assert battery(m, "battery.charge", "power_supply:capacity") == 98
        assert battery(m, "battery.voltage", "power_supply:voltage_now") == 12.229


def test_memory_and_pressure():
    with machine() as m:
        m.write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB")
        m.write("proc/pressure/memory", "some avg10=12.50 avg60=1.00 avg300=0.10 total=123\n"
                "full avg10=3.25 avg60=0.00 avg300=0.00 total=45")
        lines = report(m)
        assert round(lines["memory.available", "procfs:meminfo/MemAvailable"]["value"], 6) == 2048
        assert lines["psi.memory.some", "psi:memory/some/avg10"]["value"] == 12.5
        assert lines["psi.memory.full", "psi:memory/full/avg10"]["value"] == 3.25


def test_lying_procfs():
    with machine() as m:
        m.write("proc/meminfo", "MemTotal: 1 kB\nMemAvailable: lots")
        m.write("proc/pressure/memory", "some avg10=nan avg60=0\nfull")
        m.write("proc/stat", "cpu 1 2")
        m.write("proc/self/stat", "1 (a) b")
        for (signal, source), line in report(m).items():
            assert line["value"] is None and line["why"], (signal, source, line)


def test_load_with_and_without_our_own():
    """Of 1,000 ticks 600 are busy, and 250 of these are this process's."""
    with machine() as m:
        m.write("proc/self/stat", "7 (a )b c) R 1 1 1 0 -1 0 0 0 0 0 100 50 0 0 20 0 1 0 1 1 1")
        m.write("proc/stat", "cpu  1000 0 500 8000 100 0 0 0 0 0\ncpu0 1 2 3")
        with loop(m.root, "busy", root=m.root) as g:
            first = g.until(lambda s: s["decisions"] > 3, "deciding")["sensors"]
            assert first["cpu.load"]["absence"] == "NO_SAMPLE" and first["cpu.load"]["value"] is None
            m.write("proc/self/stat", "7 (a )b c) R 1 1 1 0 -1 0 0 0 0 0 250 150 0 0 20 0 1 0 1 1 1")
            m.write("proc/stat", "cpu  1400 50 600 8300 200 20 20 10 300 0\ncpu0 1 2 3")
            now = g.until(lambda s: s["sensors"]["cpu.load.others"]["value"] is not None, "loaded")["sensors"]
            assert now["cpu.load"]["value"] == 60 and now["cpu.load.others"]["value"] == 35, now


def test_missing_k10temp_falls_to_the_zone_and_a_vanishing_zone_to_the_next():
    with machine() as m:
        m.zone(0, "cpu-thermal", 60000)
        m.zone(1, "soc-thermal", 50000)
        journal = m.root / "journal"
        with loop(m.root, "quick", root=m.root, journal=journal) as g:
            sensor = g.ask("status")["sensors"]["temp.cpu"]
            assert sensor["source"] == "thermal:cpu-thermal" and sensor["value"] == 60, sensor
            (m.root / "sys/class/thermal/thermal_zone0/temp").unlink()
            g.until(lambda s: s["sensors"]["temp.cpu"]["source"] == "thermal:soc-thermal", "falling back")
            (m.root / "sys/class/thermal/thermal_zone1/temp").unlink()
            status = g.until(lambda s: s["sensors"]["temp.cpu"]["value"] is None, "without a value")
            assert status["sensors"]["temp.cpu"]["why"], status
            decided = status["decisions"]
            g.until(lambda s: s["decisions"] > decided + 5, "going on")
            m.zone(0, "cpu-thermal", 61000)
            g.until(lambda s: s["sensors"]["temp.cpu"]["value"] == 61, "back")
            assert g.stop() == {"stopped": True}
        changes = [l for l in map(json.loads, journal.read_text().splitlines()) if l["type"] == "source"]
        cpu = [(l["from"], l["to"]) for l in changes if l["sensor"] == "temp.cpu"]
        assert cpu == [(None, "thermal:cpu-thermal"), ("thermal:cpu-thermal", "thermal:soc-thermal"),
                       ("thermal:soc-thermal", None), (None, "thermal:cpu-thermal")], cpu
        assert "libsensors" in changes[0]["why"] or "libsensors" in changes[1]["why"], changes


def test_heat_moves_the_state_and_the_journal_says_why():
    with machine() as m:
        m.zone(0, "cpu-thermal", 60000)
        m.write("proc/meminfo", "MemAvailable: 4000000 kB")
        journal = m.root / "journal"
        with loop(m.root, "quick", root=m.root, journal=journal) as g:
            assert g.ask("status")["state"] == 0
            m.zone(0, "cpu-thermal", 75000)
            status = g.until(lambda s: s["state"] >= 1 and s["applied"] == s["state"], "worse")
            assert "temp.cpu" in status["reason"], status
            assert g.ask("switch") == {"reported": True}
            g.until(lambda s: s["state"] == 2, "at the end of the ladder")
            m.zone(0, "cpu-thermal", 50000)
            g.until(lambda s: s["state"] == 0 and s["applied"] == 0, "better")
            assert g.stop() == {"stopped": True}
        check_journal(journal)


def check_journal(path):
    """Every line parses; inputs carry all sensors first and later what differs; states agree."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    start = lines[0]
    assert start["type"] == "start" and start["version"] == 2 and start["poll_ns"] == 20_000_000, start
    assert start["policy"] == "quick" and "temp.cpu" in start["policy_yaml"]
    inputs = [l for l in lines if l["type"] == "input"]
    assert set(inputs[0]["readings"]) == {"temp.cpu", "memory.available"}
    assert all(a["t_ns"] <= b["t_ns"] for a, b in zip(inputs, inputs[1:])) and inputs[0]["t_ns"] >= 3600 * 10**9
    assert inputs[0]["readings"]["temp.cpu"] == 60
    assert any(not l["readings"] for l in inputs[1:]), "what stands still goes without saying"
    states = [0] + [l["state"] for l in inputs]
    decisions = [l for l in lines if l["type"] == "decision"]
    assert [l["state"] for l in decisions] == [b for a, b in zip(states, states[1:]) if a != b]
    assert all(l["trip"] in ("hot", None) and l["from"] != l["to"] and l["reason"] for l in decisions), decisions
    switches = [l for l in lines if l["type"] == "switch"]
    assert len(switches) == 1 and switches[0]["token"] == 17 and switches[0]["cost_ns"] == 900, switches
    assert switches[0]["from"] == "w8a8" and switches[0]["to"] == "w4a16" and switches[0]["trip"] == "hot"
    assert switches[0]["readings"]["temp.cpu"] == 75 and "temp.cpu" in switches[0]["reason"]


def test_a_full_disk_ends_the_journal_and_not_the_run():
    with machine() as m, loop(m.root, "quick", root=m.root, journal="/dev/full") as g:
        status = g.until(lambda s: s["decisions"] > 5, "deciding")
        assert "No space left" in status["journal_failure"], status
        assert "No space left" in g.stop()["error"]


def test_a_journal_that_cannot_be_made_is_refused():
    with machine() as m:
        policies = m.root / "policies.yaml"
        policies.write_text(POLICIES)
        done = subprocess.run([DRIVE, "run", policies, "quick", f"journal={m.root}/no/such/folder"],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "no/such/folder" in json.loads(done.stdout)["error"], done.stdout


def test_replay_decides_the_same_at_any_speed():
    trace = "time_s,temp.cpu_C\n" + "".join(f"{i / 10:.1f},{60 + 20 * (i % 40 > 20):d}\n" for i in range(200))
    with machine() as m:
        (m.root / "trace.csv").write_text(trace)
        seen = []
        for speed in (20, 200):
            journal = m.root / f"journal{speed}"
            with loop(m.root, "quick", root=m.root, replay=m.root / "trace.csv", speed=speed, journal=journal) as g:
                g.until(lambda s: s["replay_ended"], "ended", 60)
                assert g.ask("status")["sensors"]["memory.available"]["absence"] == "NO_SOURCE"
                g.stop()
            lines = [json.loads(line) for line in journal.read_text().splitlines()]
            seen.append([(l["t_ns"], l["state"]) for l in lines if l["type"] == "input"])
        n = int(19.9 / 0.02)
        assert seen[0][:n] == seen[1][:n] and len(seen[0]) >= n
        assert {s for _, s in seen[0]} == {0, 1, 2}


def test_odd_replays_are_refused():
    with machine() as m:
        (m.root / "trace.csv").write_text("time_s,temp.cpu_C\n0,50\n1,51\n")
        policies = m.root / "policies.yaml"
        policies.write_text(POLICIES)
        for speed in ("-1", "nan", "inf"):
            done = subprocess.run([DRIVE, "run", policies, "quick", f"replay={m.root}/trace.csv", f"speed={speed}"],
                                  capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
            assert done.returncode == 1 and "speed" in json.loads(done.stdout)["error"], done.stdout


if __name__ == "__main__":
    tap.main()
