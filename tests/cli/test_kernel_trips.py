# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""Trips that the policy takes from the kernel's thermal zone, as policy explain and a run have them on a machine whose
zone is made up."""
import json
import subprocess

from tests import tap
from tests.cli import stage
from tests.governor.mock import mock

POLICY = """edgert: 1
sensors: {temp.cpu: 'thermal:soc'}
ladders: {l: [{point: w8a8, tokens-per-second: 400}, {point: w4a16, tokens-per-second: 400}]}
policies:
  p:
    ladder: l
    poll: 50ms
    trips:
      - {name: early, sensor: temp.cpu, above: 88C, kernel: passive, margin: 5C, hysteresis: 2C, states: 1}
      - {name: own, sensor: temp.cpu, above: 50C, kernel: passive, states: 1}
"""


def furnish(m, temperature):
    for name, value in (("type", "soc"), ("temp", temperature), ("trip_point_0_type", "passive"),
                        ("trip_point_0_temp", 70000), ("trip_point_0_hyst", 3000)):
        m.write(f"sys/class/thermal/thermal_zone0/{name}", value)
    (m.root / "policy.yaml").write_text(POLICY)


def edgert(m, *arguments):
    done = subprocess.run([*m.wrapper, stage.edgert, *arguments, "--policy-file", m.root / "policy.yaml"],
                          env=m.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


def test_explain_tells_whose_trip_it_is():
    with mock() as m:
        furnish(m, 40000)
        out = edgert(m, "policy", "explain", "p")
        assert "early: temp.cpu above 65C (the kernel's trip: passive) asks for state 1; it is over at 63C" in out, out
        assert "own: temp.cpu above 50C asks for state 1; it is over at 50C" in out, out
        assert "above: 88C" in edgert(m, "policy", "show", "p"), "show has what the files say"


def test_a_run_acts_by_it():
    with mock() as m:
        furnish(m, 67000)
        (m.root / "policy.yaml").write_text(POLICY.replace("above: 50C, kernel", "above: 120C, kernel"))
        out = edgert(m, "run", "-m", stage.pack(), "-p", "p", "--raw", "--json", "-n", "30", "abc")
        switches = [s for s in map(json.loads, out.splitlines()) if s["type"] == "switch" and s["trip"]]
        assert [s["trip"] for s in switches] == ["early"], switches
        assert "temp.cpu 67C above 65C (early)" in switches[0]["reason"], switches


if __name__ == "__main__":
    tap.main()
