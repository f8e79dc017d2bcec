# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""What happens between two polls reaches the tokens: a real upowerd tells a run, whose policy polls once an hour, of
mains that go and come. How soon is measured by bench/reaction."""
import json
import subprocess

from tests import tap
from tests.cli import stage
from tests.governor.mock import mock

POLICY = """edgert: 1
sensors: {ac.online: upower:online}
ladders:
  two: [{name: full, point: w8a8, tokens-per-second: 25}, {name: less, point: w4a16, tokens-per-second: 25}]
policies:
  hourly:
    ladder: two
    poll: 1h
    trips: [{name: unplugged, sensor: ac.online, below: 1, states: 1}]
    dwell: {down: 0s, up: 0s}
"""


def test_mains_reach_the_next_tokens():
    with mock() as m:
        m.battery()
        mains = m.device("power_supply", "AC", type="Mains", online=1)
        m.start_bus()
        m.start_upowerd()
        policy = m.root / "policy.yaml"
        policy.write_text(POLICY)
        run = subprocess.Popen([*m.wrapper, stage.edgert, "run", "-m", stage.pack(), "--policy-file", policy, "-p", "hourly",
                                "--raw", "--json", "-n", "0", "abc"],
                               env=m.environment, stdout=subprocess.PIPE, text=True)
        m.running.append(run)

        def until(holds):
            seen = []
            for line in run.stdout:
                seen.append(json.loads(line))
                if holds(seen[-1]):
                    return seen
            raise AssertionError(f"the answer ended before: {seen[-3:]}")
        until(lambda l: l["type"] == "token" and l["point"] == "full")
        for online, point in ((0, "less"), (1, "full")):
            m.write(f"{mains}/online", online)
            m.udev_event("change", mains)
            seen = until(lambda l: l["type"] == "switch" and l["to"] == point)
            assert "ac.online" in seen[-1]["reason"] and seen[-1]["readings"]["ac.online"] == online, seen[-1]
            [token] = until(lambda l: l["type"] == "token")
            assert token["point"] == point, "the token after the switch"


if __name__ == "__main__":
    tap.main()
