"""policy explain: states with the catalog's costs and the trips that ask for them; and that the shipped policies
come to a tier last, since it is the tiers that cost quality."""
import json
import os

from tests import tap
from tests.cli import stage
from tests.cli.stage import run
from tools import packtool
from tools.packtool.random_pack import random_pack

# Without a user's layer, so that the shipped policies are what is met.
ALONE = dict(os.environ, XDG_CONFIG_HOME=str(stage.folder / "no-config"), XDG_DATA_HOME=str(stage.folder / "no-data"))
ROWS = [("w8a8", 200e6, 0.01), ("w4a16", 120e6, 0.03), ("w4a16-r80", 90e6, 0.8)]


def pack():
    path = stage.folder / "explained.edgert"
    if not path.exists():
        made = random_pack(7)
        made.meta["catalog"] = [{"point": p, "bytes_per_token": round(b), "tokens": 9, "ppl": 5.0, "kld": k,
                                 "ppl_ratio": 1 + k, "dominated": p == "w8a8"} for p, b, k in ROWS]
        packtool.layout.write_pack(made, path)
    return path


def explained(*options):
    got = run("policy", "explain", *options, env=ALONE)
    assert got.returncode == 0, got
    return got


def test_states_costs_and_trips():
    got = json.loads(explained("swing", "--policy-file", stage.policy(), "-m", pack(), "--json").stdout)
    assert (got["policy"], got["pack"], got["failsafe"]) == ("swing", str(pack()), 2)
    assert [(s["point"], s["threads"], s["tokens_per_second"]) for s in got["states"]] == [
        ("w8a8", 0, 400), ("w4a16", 0, 400), ("w4a16-r80", 1, 400), ("pause", 0, 0)]
    assert [s["trips"] for s in got["states"]] == [[], ["warm", "low"], ["hot"], []]
    for state, (point, size, kld) in zip(got["states"], ROWS):
        want = {"bytes_per_token": round(size), "kld": kld, "ppl_ratio": 1 + kld, "dominated": point == "w8a8"}
        assert state["cost"] == want, state
    assert got["states"][3]["cost"] is None


def test_words_say_the_same():
    out = explained("swing", "--policy-file", stage.policy(), "-m", pack()).stdout
    rows = {line.split()[1]: line.split() for line in out.splitlines() if line[:2].strip().isdigit()}
    assert rows["w4a16-r80@1t,400tok/s"][2:] == ["90.0", "0.8000", "x1.800", "hot"], out
    assert rows["pause"][2:] == ["-", "-", "-"]
    assert "warm: temp.cpu above 50C asks for state 1; it is over at 48C" in out
    assert "low: battery.charge below 20% while discharging asks for state 1; it is over at 20%" in out


def test_without_a_pack_there_are_no_costs():
    got = explained("swing", "--policy-file", stage.policy())
    assert "not known" in got.stderr and "w4a16-r80" in got.stdout
    states = json.loads(explained("swing", "--policy-file", stage.policy(), "--json").stdout)
    assert states["pack"] is None and all(s["cost"] is None for s in states["states"])
    missing = run("policy", "explain", "swing", "--policy-file", stage.policy(), "-m", "nowhere", env=ALONE)
    assert missing.returncode == 1 and "nowhere" in missing.stderr
    assert run("policy", "explain", "no-such-policy", env=ALONE).returncode == 1


def test_what_a_reading_comes_to():
    args = ["swing", "--policy-file", stage.policy(), "--reading", "temp.cpu=60C", "--reading", "battery.charge=15%"]
    one = json.loads(explained(*args, "--json").stdout)["what_if"]
    state = {"state": 1, "name": "w4a16@400tok/s", "reason": "temp.cpu 60C above 50C (warm)"}
    assert one["first"] == one["then"] == state and one["after_s"] == 0 and one["settled"] is True, one
    sensors = {s["sensor"]: s for s in one["sensors"]}
    assert set(sensors) == {"temp.cpu", "battery.charge", "battery.discharging", "battery.power"}, sensors
    cpu = sensors["temp.cpu"]
    assert (cpu["unit"], cpu["value"], cpu["why"]) == ("C", 60.0, None), cpu
    below, above = cpu["below"], cpu["above"]
    assert (below["value"], below["included"], below["state"], below["name"]) == (48.0, True, 0, "w8a8@400tok/s"), below
    assert (above["value"], above["included"], above["state"]) == (70.0, False, 2), above
    assert sensors["battery.charge"]["below"] is None and sensors["battery.power"]["value"] is None
    assert sensors["battery.power"]["why"], sensors

    out = explained(*args).stdout
    assert "the first decision takes state 1, w4a16@400tok/s: temp.cpu 60C above 50C (warm)\nand so it stays." in out, out
    assert "48C or below         state 0, w8a8@400tok/s: temp.cpu 48C back at 48C, warm cleared" in out, out
    assert "above 70C            state 2" in out and "at no value: battery.charge, battery.discharging" in out, out
    assert json.loads(explained("swing", "--policy-file", stage.policy(), "--json").stdout)["what_if"] is None


def test_readings_that_cannot_be_meant():
    for reading, say in (("temp.cpu", "expected SENSOR=VALUE"), ("temp.cpu=60", "has no unit"),
                         ("temp.cp=60C", "did you mean temp.cpu"), ("temp.gpu=60C", "does not read temp.gpu")):
        got = run("policy", "explain", "swing", "--policy-file", stage.policy(), "--reading", reading, env=ALONE)
        assert got.returncode == 2 and say in got.stderr and not got.stdout, got
    got = run("policy", "show", "swing", "--reading", "temp.cpu=60C", env=ALONE)
    assert got.returncode == 2 and "goes with policy explain" in got.stderr, got


def test_auto_is_the_ladder_of_the_pack():
    path = stage.folder / "auto.yaml"
    path.write_text("edgert: 1\npolicies: {p: {ladder: auto}}\n")
    got = json.loads(explained("p", "--policy-file", path, "-m", pack(), "--json").stdout)
    assert [s["name"] for s in got["states"]] == ["w8a8", "w4a16", "w4a16@1t", "w4a16@1t,8tok/s", "w4a16@1t,5tok/s",
                                                  "w4a16-r80@1t,3tok/s", "pause"]


def test_a_run_takes_the_auto_ladder():
    """Hot when it starts, so that it waits at the last state; then cool for as long as it takes."""
    path = stage.folder / "auto.yaml"
    path.write_text("edgert: 1\npolicies: {p: {ladder: auto, trips: [{name: hot, sensor: temp.cpu, above: 50C, "
                    "governor: bang_bang, states: 1..max}], poll: 100ms, dwell: {down: 0s, up: 0s}}}\n")
    got = run("run", "-m", stage.pack(), "-p", "p", "--policy-file", path, "--sensors", f"replay:{stage.trace((60,) * 10 + (40,) * 640)}@20",
              "-n", 60, "--raw", "--json", "abc")
    assert got.returncode == 0, got
    points = {p["point"] for p in stage.lines(got.stdout)[-1]["points"]}
    assert points <= {"w8a8", "w4a16", "w4a16@1t", "w4a16@1t,8tok/s", "w4a16@1t,5tok/s", "pause"}, points
    assert {"w8a8", "pause"} <= points, points


def test_shipped_policies_come_to_a_tier_after_threads_and_pace():
    names = [p["name"] for p in json.loads(run("policy", "check", "--json", env=ALONE).stdout)["policies"]]
    assert {"performance", "balanced", "power-saver", "cool"} <= set(names), names
    tiers = 0
    for name in names:
        policy = json.loads(explained(name, "--json").stdout)
        states = policy["states"]
        assert "-r" not in states[policy["failsafe"]]["point"], f"{name}: the failsafe is a tier"
        for i, s in enumerate(states):
            if "-r" not in s["point"]:
                assert s["point"] == "pause" or not any("-r" in t["point"] for t in states[:i]), (name, s)
                continue
            tiers += 1
            whole = [t for t in states[:i] if "-r" not in t["point"]]
            assert s["threads"] == 1 and s["tokens_per_second"] > 0, (name, s)
            assert any(t["threads"] == 1 and t["tokens_per_second"] == 0 for t in whole), (name, "no thread less before", s)
            assert any(t["threads"] == 1 and t["tokens_per_second"] > 0 for t in whole), (name, "no pace before", s)
    assert tiers or "-r" not in (tap.root / "policies.yaml").read_text().split("policies:")[0], "no tier was seen"


if __name__ == "__main__":
    tap.main()
