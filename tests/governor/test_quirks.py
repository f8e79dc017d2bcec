# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""What real handhelds and tablets get wrong, each as a device tree of umockdev's, with a real upowerd
and libsensors on it; and chips that come, go and change their number in mid-run."""
import json
import shutil

from tests import tap
from tests.governor.mock import mock, report

POLICIES = """
edgert: 1
sensors:
  temp.cpu: ["hwmon:k10temp/Tctl", "thermal:cpu-thermal"]
  temp.nvme: ["hwmon:nvme/Composite"]
  voltage.gpu: ["hwmon:amdgpu/vddgfx"]
  power.gpu: ["hwmon:amdgpu/PPT"]
  fan.acpi: ["hwmon:acpi_fan/fan1"]
  power.usb: ["hwmon:ucsi_source_psy_USBC000_001/power1"]
ladders:
  two: [w8a8, w4a16]
policies:
  all:
    ladder: two
    poll: 20ms
    trips:
      - {name: a, sensor: temp.cpu, above: 90C, states: 1}
      - {name: b, sensor: temp.nvme, above: 90C, states: 1}
      - {name: c, sensor: voltage.gpu, below: 500mV, states: 1}
      - {name: d, sensor: power.gpu, above: 100W, states: 1}
      - {name: e, sensor: fan.acpi, above: 5000, states: 1}
      - {name: f, sensor: power.usb, above: 100W, states: 1}
    dwell: {down: 0s, up: 0s}
  cpu:
    ladder: two
    poll: 20ms
    trips:
      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1}
    dwell: {down: 0s, up: 0s}
"""

PACK = dict(type="Battery", present=1, scope="System", technology="Li-ion")


def lines_with_upowerd(*batteries):
    """The report of a machine with these batteries (name, files)."""
    with mock() as m:
        for name, files in batteries:
            m.device("power_supply", name, **PACK, **files)
        m.start_bus()
        m.start_upowerd()
        return report(m)


def rounded(line, digits=2):
    return None if line["value"] is None else round(line["value"], digits)


CHARGE = ("battery.charge", "upower:percentage"), ("battery.charge", "power_supply:capacity")
POWER = ("battery.power", "upower:energy-rate"), ("battery.power", "power_supply:power_now")


def test_steam_deck():
    """charge_now and current_now, on BAT1; 1.5 A at 7.6 V are 11.4 W."""
    lines = lines_with_upowerd(("BAT1", dict(status="Discharging", capacity=41, current_now=1500000, voltage_now=7600000,
                                             charge_now=2091000, charge_full=5100000, charge_full_design=5313000)))
    assert [rounded(lines[k]) for k in CHARGE] == [41, 41], [lines[k] for k in CHARGE]
    assert rounded(lines[POWER[1]]) == 11.4, lines[POWER[1]]
    assert lines["battery.discharging", "upower:state"]["value"] == 1


def test_steam_deck_oled_once_full():
    """Its current_now fails to be read, as a folder in its place does."""
    with mock() as m:
        home = m.device("power_supply", "BAT1", status="Full", capacity=100, voltage_now=8700000, charge_now=6400000,
                        charge_full=6400000, charge_full_design=6400000, **PACK)
        (m.root / home / "current_now").mkdir()
        m.start_bus()
        m.start_upowerd()
        lines = report(m)
        assert [rounded(lines[k]) for k in CHARGE] == [100, 100], [lines[k] for k in CHARGE]
        power = lines[POWER[1]]
        assert power["value"] is None and "BAT1" in power["why"], power


def test_rog_xbox_ally_x():
    lines = lines_with_upowerd(("BAT0", dict(status="Discharging", capacity=75, energy_now=60000000, energy_full=80000000,
                                             energy_full_design=80000000, power_now=18500000, voltage_now=15800000)))
    assert [rounded(lines[k]) for k in CHARGE + POWER] == [75, 75, 18.5, 18.5], lines


def test_rog_ally_has_a_voltage_only():
    lines = lines_with_upowerd(("BAT0", dict(status="Unknown", voltage_now=15800000)))
    # UPower takes it for empty and charging.
    assert rounded(lines["battery.voltage", "power_supply:voltage_now"]) == 15.8
    for key in POWER + CHARGE + (("battery.discharging", "power_supply:status"), ("battery.warning", "upower:warning-level")):
        assert lines[key]["value"] is None and "does not tell" in lines[key]["why"], lines[key]


def test_surface_go_has_charge_only():
    lines = lines_with_upowerd(("BAT1", dict(status="Discharging", charge_now=1234000, charge_full=2468000,
                                             charge_full_design=2500000, voltage_now=7600000)))
    assert rounded(lines[CHARGE[1]]) == 50, lines[CHARGE[1]]
    assert lines[POWER[1]]["value"] is None


def test_surface_book_has_two_batteries_and_no_current():
    """90 % of 20 Wh and 30 % of 60 Wh are 45 % of 80 Wh."""
    common = dict(status="Discharging", voltage_now=7600000)
    lines = lines_with_upowerd(
        ("BAT1", dict(capacity=90, energy_now=18000000, energy_full=20000000, energy_full_design=20000000, **common)),
        ("BAT2", dict(capacity=30, energy_now=18000000, energy_full=60000000, energy_full_design=60000000, **common)))
    assert [rounded(lines[k]) for k in CHARGE] == [45, 45], [lines[k] for k in CHARGE]
    assert lines[POWER[1]]["value"] is None, lines[POWER[1]]


def test_odin_has_a_charge_counter():
    lines = lines_with_upowerd(("battery", dict(status="Discharging", charge_counter=2000000, charge_full=8000000)))
    assert rounded(lines[CHARGE[1]]) == 25, lines[CHARGE[1]]
    for key in (CHARGE[0], ("battery.warning", "upower:warning-level")):
        assert lines[key]["value"] is None, "UPower takes it for empty"


def test_chips_that_tell_what_cannot_be():
    with mock() as m:
        m.device("hwmon", "hwmon0", name="nvme", temp1_label="Composite", temp1_input=43850, temp1_max=65261850,
                 temp1_min=-273150)
        m.device("hwmon", "hwmon1", name="amdgpu", in0_label="vddgfx", in0_input=15, power1_label="PPT",
                 power1_average="N/A", power1_cap="N/A")
        m.device("hwmon", "hwmon2", name="acpi_fan", fan1_input=160000)
        m.device("hwmon", "hwmon3", name="ucsi_source_psy_USBC000:001", power1_input="N/A")
        m.device("hwmon", "hwmon4", name="k10temp", temp1_label="Tctl", temp1_input=0)
        with m.loop("all", policies=POLICIES) as g:
            status = g.ask("status")
            sensors = status["sensors"]
            assert sensors["temp.nvme"]["value"] == 43.85, sensors
            absent = {name: sensors[name]["absence"] for name in sensors if sensors[name]["value"] is None}
            assert absent == {"temp.cpu": "OUT_OF_RANGE", "voltage.gpu": "OUT_OF_RANGE", "fan.acpi": "OUT_OF_RANGE",
                              "power.gpu": "READ_FAILED", "power.usb": "NO_SOURCE"}, sensors
            assert status["state"] == 0, status
            assert g.stop() == {"stopped": True}


def test_snapdragon_zones_that_are_not_wired():
    with mock() as m:
        for i, (kind, temp) in enumerate((("cpu-thermal", 0), ("gpu-thermal", -273000), ("soc-thermal", 44500))):
            m.zone(i, kind, temp)
        lines = report(m)
        for key in (("temp.cpu", "thermal:cpu-thermal"), ("temp.gpu", "thermal:gpu-thermal")):
            assert lines[key]["value"] is None and "plausible" in lines[key]["why"], lines[key]
        assert lines["temp.cpu", "thermal:soc-thermal"]["value"] == 44.5


def test_a_chip_comes_late_changes_its_number_and_goes():
    with mock() as m:
        journal = m.root / "journal"
        m.zone(0, "cpu-thermal", 50000)
        with m.loop("cpu", policies=POLICIES, journal=journal) as g:
            def temp(value, source):
                return lambda s: (s["sensors"]["temp.cpu"]["value"], s["sensors"]["temp.cpu"]["source"]) == (value, source)
            g.until(temp(50, "thermal:cpu-thermal"), "at the zone")
            late = m.device("hwmon", "hwmon7", name="k10temp", temp1_label="Tctl", temp1_input=61000)
            m.uevent("add", "hwmon", "platform/hwmon/hwmon7")
            g.until(temp(61, "hwmon:k10temp/Tctl"), "at the chip")
            (m.root / "sys/class/hwmon/hwmon7").unlink()
            shutil.rmtree(m.root / late)
            g.until(temp(50, "thermal:cpu-thermal"), "at the zone again")
            m.device("hwmon", "hwmon2", name="nvme", temp1_label="Composite", temp1_input=30000)
            m.device("hwmon", "hwmon3", name="k10temp", temp1_label="Tccd1", temp1_input=90000, temp2_label="Tctl",
                     temp2_input=75000)
            m.uevent("add", "hwmon", "platform/hwmon/hwmon3")
            status = g.until(temp(75, "hwmon:k10temp/Tctl"), "at the chip under its new number")
            assert "temp.cpu 75C" in g.until(lambda s: s["state"] == 1, "hot")["reason"], status
            assert g.stop() == {"stopped": True}
        changes = [(l["from"], l["to"]) for l in map(json.loads, journal.read_text().splitlines()) if l["type"] == "source"]
        zone, chip = "thermal:cpu-thermal", "hwmon:k10temp/Tctl"
        assert changes == [(None, zone), (zone, chip), (chip, zone), (zone, chip)], changes


if __name__ == "__main__":
    tap.main()
