# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""A real upowerd on a private bus and libsensors on a made-up /sys, which umockdev's preloaded library
puts in the place of the machine's."""
import shutil
import signal

from tests import tap
from tests.governor.mock import mock, report


def test_battery_through_upowerd():
    with mock() as m:
        m.battery()
        m.start_bus()
        m.start_upowerd()
        lines = report(m)
        assert lines["battery.charge", "upower:percentage"]["value"] == 63, lines["battery.charge", "upower:percentage"]
        assert lines["battery.discharging", "upower:state"]["value"] == 1
        assert round(lines["battery.power", "upower:energy-rate"]["value"], 3) == 8.2
        assert round(lines["battery.charge", "power_supply:capacity"]["value"], 3) == 63


def test_upowerd_without_a_battery():
    with mock() as m:
        m.start_bus()
        m.start_upowerd()
        line = report(m)["battery.charge", "upower:percentage"]
        assert line["value"] is None and "knows no battery" in line["why"], line


def test_upowerd_dies_and_comes_back():
    with mock() as m:
        home = m.battery()
        m.start_bus()
        daemon = m.start_upowerd()
        with m.loop("battery") as g:
            charge = g.ask("status")["sensors"]["battery.charge"]
            assert charge["source"] == "upower:percentage" and charge["value"] == 63, charge
            m.write(f"{home}/capacity", 62)
            daemon.kill()
            status = g.until(lambda s: s["sensors"]["battery.charge"]["source"] == "power_supply:capacity", "falling back")
            assert status["sensors"]["battery.charge"]["value"] == 62, status
            shutil.rmtree(m.root / home)
            status = g.until(lambda s: s["sensors"]["battery.charge"]["value"] is None, "without a value")
            assert status["sensors"]["battery.charge"]["absence"] == "SOURCE_GONE", status
            assert "upowerd went away" in status["sensors"]["battery.charge"]["why"], status
            decided = status["decisions"]
            g.until(lambda s: s["decisions"] > decided + 5, "going on")
            (m.root / "sys/class/power_supply/BAT0").unlink()
            m.battery()
            m.start_upowerd()
            g.until(lambda s: s["sensors"]["battery.charge"]["source"] == "upower:percentage", "back at UPower")
            assert g.stop() == {"stopped": True}


def test_the_loop_runs_while_upowerd_hangs():
    with mock() as m:
        m.battery()
        m.start_bus()
        daemon = m.start_upowerd()
        daemon.send_signal(signal.SIGSTOP)
        with m.loop("battery") as g:
            status = g.ask("status")["sensors"]["battery.charge"]
            assert status["source"] == "power_supply:capacity" and status["value"] == 63, status
            daemon.send_signal(signal.SIGCONT)
            g.until(lambda s: s["sensors"]["battery.charge"]["source"] == "upower:percentage", "at UPower")
            daemon.send_signal(signal.SIGSTOP)
            assert g.stop() == {"stopped": True}


def test_no_bus_at_all():
    with mock() as m:
        m.battery()
        line = report(m)["battery.charge", "upower:percentage"]
        assert line["value"] is None and line["why"].startswith("no system bus"), line
        with m.loop("battery") as g:
            status = g.ask("status")["sensors"]["battery.charge"]
            assert status["source"] == "power_supply:capacity" and status["value"] == 63, status
            assert g.stop() == {"stopped": True}


def test_the_bus_dies_in_mid_run():
    with mock() as m:
        m.battery()
        m.start_bus()
        m.start_upowerd()
        with m.loop("battery") as g:
            g.until(lambda s: s["sensors"]["battery.charge"]["source"] == "upower:percentage", "at UPower")
            m.running[0].kill()
            g.until(lambda s: s["sensors"]["battery.charge"]["source"] == "power_supply:capacity", "falling back")
            assert g.stop() == {"stopped": True}


def chip(m, **files):
    return m.device("hwmon", "hwmon0", **files)


def test_k10temp_through_libsensors():
    with mock() as m:
        home = chip(m, name="k10temp", temp1_input=71250, temp1_label="Tctl", temp2_input=66500, temp2_label="Tccd1")
        lines = report(m)
        assert lines["temp.cpu", "hwmon:k10temp/Tctl"]["value"] == 71.25, lines["temp.cpu", "hwmon:k10temp/Tctl"]
        assert lines["", "hwmon:k10temp/Tccd1"]["value"] == 66.5
        assert "nothing called 'Tdie'" in lines["temp.cpu", "hwmon:k10temp/Tdie"]["why"]
        assert "no monitoring chip 'coretemp'" in lines["temp.cpu", "hwmon:coretemp/Package id 0"]["why"]
        with m.loop("quick") as g:
            g.until(lambda s: s["state"] == 2, "at the end of the ladder")
            m.write(f"{home}/temp1_input", 40000)
            g.until(lambda s: s["state"] == 0, "better")
            (m.root / home / "temp1_input").unlink()
            status = g.until(lambda s: s["sensors"]["temp.cpu"]["value"] is None, "without a value")
            assert "k10temp" in status["sensors"]["temp.cpu"]["why"], status
            assert g.stop() == {"stopped": True}


def test_k10temp_that_reads_0():
    with mock() as m:
        chip(m, name="k10temp", temp1_input=0, temp1_label="Tctl")
        line = report(m)["temp.cpu", "hwmon:k10temp/Tctl"]
        assert line["value"] is None and "plausible" in line["why"], line


if __name__ == "__main__":
    tap.main()
