# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""Services on a private bus: the machine's sleep, the desktop's power profile, mains and batteries as a
real upowerd tells them. The policies poll once an hour, so that nothing here is due to a poll."""
import json
import os
import signal
import time

from tests import tap
from tests.governor.mock import mock, report, wait_for

POLICIES = """
edgert: 1
sensors:
  psi.cpu.some: psi:cpu/some/2s
ladders:
  three: [w8a8, w4a16, pause]
policies:
  slow:
    ladder: three
    poll: 1h
    trips:
      - {name: asleep, sensor: system.sleeping, above: 0, states: 2, governor: bang_bang}
      - {name: saver, sensor: desktop.profile, below: 1, states: 1}
      - {name: held-down, sensor: desktop.degraded, above: 0, states: 1}
      - {name: unplugged, sensor: ac.online, below: 1, states: 1}
      - {name: low, sensor: battery.warning, above: 0, states: 2, governor: bang_bang}
    dwell: {down: 0s, up: 0s}
  watching:
    ladder: three
    poll: 1h
    trips:
      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1}
      - {name: empty, sensor: battery.charge, below: 20%, hysteresis: 2%, states: 2, governor: bang_bang}
    dwell: {down: 0s, up: 0s}
  stalled:
    ladder: three
    poll: 1h
    trips:
      - {name: stall, sensor: psi.cpu.some, above: 50%, states: 1}
    dwell: {down: 0s, up: 0s}
  quick:
    ladder: three
    poll: 50ms
    trips:
      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1}
    dwell: {down: 0s, up: 0s}
"""


def at(state):
    return lambda s: s["state"] == s["applied"] == state


def value(status, sensor):
    return status["sensors"][sensor]["value"]


def events_of(journal):
    return [l["what"] for l in map(json.loads, journal.read_text().splitlines()) if l["type"] == "event"]


def test_sleep_pauses_before_and_goes_on_after():
    with mock() as m:
        m.start_bus()
        logind = m.start_service("login1")
        with m.loop("slow", policies=POLICIES) as g:
            g.until(lambda s: value(s, "system.sleeping") == 0, "awake")
            wait_for(lambda: logind.ask("locks") == "1", "the lock that delays a sleep")
            logind.ask("sleep 1")
            status = g.until(at(2), "paused")
            assert "system.sleeping" in status["reason"], status
            wait_for(lambda: logind.ask("locks") == "0", "leave to sleep")
            logind.ask("sleep 0")
            g.until(at(0), "going on")
            wait_for(lambda: logind.ask("locks") == "1", "the next lock")
            logind.kill()
            status = g.until(lambda s: value(s, "system.sleeping") is None, "without logind")
            assert "logind went away" in status["sensors"]["system.sleeping"]["why"], status
            m.start_service("login1")
            g.until(lambda s: value(s, "system.sleeping") == 0, "with logind again")
            assert g.stop() == {"stopped": True}


def test_the_shipped_policies_pause_for_sleep_and_follow_the_profile():
    shipped = (tap.root / "policies.yaml").read_text()
    with mock() as m:
        m.start_bus()
        logind = m.start_service("login1")
        desktop = m.start_service("profile", "org.freedesktop.UPower.PowerProfiles")
        for policy, pause in ("performance", 4), ("balanced", 6), ("power-saver", 6), ("cool", 6):
            with m.loop(policy, policies=shipped) as g:
                before = g.until(lambda s: value(s, "system.sleeping") == 0, "awake")["state"]
                logind.ask("sleep 1")
                status = g.until(at(pause), "paused")
                assert "(sleep)" in status["reason"], status
                logind.ask("sleep 0")
                g.until(lambda s: s["state"] <= max(before, 3), "going on")
                if policy == "balanced":
                    desktop.ask("active power-saver")
                    g.until(lambda s: s["state"] >= 2, "saving, as the desktop does")
                assert g.stop() == {"stopped": True}


def test_the_desktops_profile_is_followed():
    for name in ("org.freedesktop.UPower.PowerProfiles", "net.hadess.PowerProfiles"):
        with mock() as m:
            m.start_bus()
            daemon = m.start_service("profile", name)
            with m.loop("slow", policies=POLICIES) as g:
                status = g.until(lambda s: value(s, "desktop.profile") == 1, "balanced")
                assert value(status, "desktop.degraded") == 0 and status["state"] == 0, status
                daemon.ask("active power-saver")
                status = g.until(at(1), "saving")
                assert "desktop.profile" in status["reason"], status
                daemon.ask("active performance")
                status = g.until(at(0), "at performance")
                assert value(status, "desktop.profile") == 2, status
                daemon.ask("degraded lap-detected")
                status = g.until(at(1), "degraded")
                assert "desktop.degraded" in status["reason"], status
                daemon.ask("active silent-mode-of-a-vendor")
                g.until(lambda s: value(s, "desktop.profile") is None, "at a profile that nobody knows")
                assert g.stop() == {"stopped": True}


def test_the_new_name_of_the_profiles_comes_first_and_the_old_one_stands_in():
    with mock() as m:
        m.start_bus()
        old = m.start_service("profile", "net.hadess.PowerProfiles")
        new = m.start_service("profile", "org.freedesktop.UPower.PowerProfiles")
        old.ask("active power-saver")
        new.ask("active performance")
        with m.loop("slow", policies=POLICIES) as g:
            g.until(lambda s: value(s, "desktop.profile") in (0, 2), "known")
            new.kill()
            g.until(lambda s: value(s, "desktop.profile") == 0, "at the old name's")
            old.kill()
            status = g.until(lambda s: value(s, "desktop.profile") is None, "without")
            assert "power-profiles-daemon went away" in status["sensors"]["desktop.profile"]["why"], status
            assert g.stop() == {"stopped": True}


def test_none_of_the_services():
    with mock() as m:
        m.start_bus()
        lines = report(m)
        for key, words in ((("system.sleeping", "logind:sleeping"), "no logind on the system bus"),
                           (("desktop.profile", "profile:active"), "no power-profiles-daemon on"),
                           (("ac.online", "upower:online"), "no upowerd on")):
            assert lines[key]["value"] is None and words in lines[key]["why"], lines[key]


def test_mains_and_warning_through_upowerd():
    with mock() as m:
        home = m.battery()
        mains = m.device("power_supply", "AC", type="Mains", online=1)
        m.start_bus()
        m.start_upowerd()
        with m.loop("slow", policies=POLICIES) as g:
            status = g.until(lambda s: value(s, "ac.online") is not None, "known")
            assert value(status, "ac.online") == 1 and value(status, "battery.warning") == 0, status
            assert status["sensors"]["ac.online"]["source"] == "upower:online"
            assert g.ask("status")["state"] == 0
            m.write(f"{mains}/online", 0)
            assert m.udev_event("change", mains) > 0
            g.until(at(1), "unplugged")
            m.write(f"{home}/energy_now", 400000)
            m.write(f"{home}/capacity", 1)
            m.udev_event("change", home)
            status = g.until(at(2), "paused for the battery's end")
            assert value(status, "battery.warning") == 3 and "battery.warning" in status["reason"], status
            assert g.stop() == {"stopped": True}


def test_the_shipped_policies_pause_for_the_batterys_end():
    """UPower calls a battery of 4 % critical; what the policies call flat comes below 3 %."""
    shipped = (tap.root / "policies.yaml").read_text()
    for policy, pause in ("performance", 4), ("balanced", 6), ("power-saver", 6), ("cool", 6):
        with mock() as m:
            home = m.battery(45)
            mains = m.device("power_supply", "AC", type="Mains", online=0)

            def charge(percent, status):
                for name, content in ("energy_now", percent * 400000), ("capacity", percent), ("status", status):
                    m.write(f"{home}/{name}", content)
                m.write(f"{mains}/online", int(status == "Charging"))
                m.udev_event("change", mains)
                m.udev_event("change", home)
            m.start_bus()
            m.start_upowerd()
            with m.loop(policy, policies=shipped) as g:
                g.until(lambda s: value(s, "battery.warning") == 0 and s["state"] < pause, "at work")
                charge(4, "Discharging")
                status = g.until(at(pause), "paused")
                assert value(status, "battery.warning") == 2 and "(critical)" in status["reason"], status
                charge(2, "Discharging")
                g.until(lambda s: value(s, "battery.charge") == 2 and at(pause)(s), "paused still")
                charge(2, "Charging")
                g.until(lambda s: s["state"] < pause, "at work again, from the mains")
                assert g.stop() == {"stopped": True}


def test_two_batteries_through_upowerd_weigh_by_their_energy():
    """90 % of 20 Wh and 30 % of 60 Wh are 45 % of 80 Wh; 1 W and 5 W are 6 W."""
    with mock() as m:
        common = dict(type="Battery", present=1, voltage_now=7700000, technology="Li-ion", scope="System",
                      status="Discharging")
        m.device("power_supply", "BAT1", energy_now=18000000, energy_full=20000000, energy_full_design=20000000,
                 capacity=90, power_now=1000000, **common)
        m.device("power_supply", "BAT2", energy_now=18000000, energy_full=60000000, energy_full_design=60000000,
                 capacity=30, power_now=5000000, **common)
        m.start_bus()
        m.start_upowerd()
        lines = report(m)
        for charge, power in ((("battery.charge", "upower:percentage"), ("battery.power", "upower:energy-rate")),
                              (("battery.charge", "power_supply:capacity"), ("battery.power", "power_supply:power_now"))):
            assert round(lines[charge]["value"], 3) == 45, lines[charge]
            assert round(lines[power]["value"], 3) == 6, lines[power]


def test_a_uevent_decides_without_a_poll_and_says_so():
    """As the kernel sends them for a battery and for a thermal zone, where no UPower runs."""
    with mock() as m:
        home = m.battery(capacity=22)
        m.zone(0, "cpu-thermal", 50000)
        journal = m.root / "journal"
        with m.loop("watching", policies=POLICIES, journal=journal) as g:
            assert g.ask("status")["state"] == 0
            m.zone(0, "cpu-thermal", 80000)
            assert m.uevent("change", "thermal", "virtual/thermal/thermal_zone0") > 0
            g.until(at(1), "hot")
            m.write(f"{home}/capacity", 18)
            m.uevent("change", "sound", "virtual/sound/card0")
            m.uevent("change", "power_supply", "platform/BAT0")
            g.until(at(2), "empty")
            assert g.stop() == {"stopped": True}
        assert events_of(journal) == ["thermal thermal_zone0: change", "power_supply BAT0: change"], events_of(journal)


def test_pressure_decides_without_a_poll():
    """The machine's own PSI: more busy loops than it has CPUs, long after the only look at it, so that nobody but the
    kernel knows how much of the last 2 s was lost."""
    if not os.access("/proc/pressure/cpu", os.W_OK):
        tap.skip("needs a kernel with pressure stall information")
    with mock() as m:
        journal = m.root / "journal"
        with m.loop("stalled", policies=POLICIES, journal=journal) as g:
            time.sleep(3)
            hogs = [m.start("/bin/sh", "-c", "while :; do :; done") for _ in range(2 * os.cpu_count())]
            status = g.until(at(1), "stalled", 60)
            assert "psi.cpu.some" in status["reason"], status
            for hog in hogs:
                hog.kill()
            assert g.stop() == {"stopped": True}
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        before = lines[:[line["type"] for line in lines].index("decision")]
        told = [line["what"] for line in before if line["type"] == "event"]
        assert told == ["pressure: some of cpu above 50% of 2s"], "its first word is enough"


def test_a_stopped_process_says_that_it_was_held_up_and_does_not_catch_up():
    with mock() as m:
        m.zone(0, "cpu-thermal", 50000)
        journal = m.root / "journal"
        with m.loop("quick", policies=POLICIES, journal=journal) as g:
            before = g.until(lambda s: s["decisions"] > 3, "deciding")["decisions"]
            g.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            g.process.send_signal(signal.SIGCONT)
            after = g.ask("status")["decisions"]
            assert after < before + 20, (before, after)
            g.until(lambda s: s["decisions"] > after + 3, "going on")
            assert g.stop() == {"stopped": True}
        assert any("held up" in e for e in events_of(journal)), events_of(journal)


if __name__ == "__main__":
    tap.main()
