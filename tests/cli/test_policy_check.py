"""policy check: what it warns of, as lines for a person and as JSON, without a change of status."""
import json

from tests import tap
from tests.cli import stage
from tests.cli.stage import run

# Line 8 has no hysteresis, line 9 changes nothing that line 7 does not do already.
WARNED = """edgert: 1
ladders: {l: [w8a8, w4a16, w4a16-r80, pause]}
policies:
  p:
    ladder: l
    trips:
      - {name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1..2}
      - {name: low, sensor: battery.charge, below: 20%, states: 1}
      - {name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 1}
  q:
    ladder: l
    trips: [{name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1..2}]
"""


def warned():
    path = stage.folder / "warned.yaml"
    path.write_text(WARNED)
    return path


def test_warnings_have_a_place():
    path = warned()
    got = run("policy", "check", path)
    assert (got.returncode, got.stderr) == (0, ""), got
    lines = got.stdout.splitlines()
    assert lines[0] == "p: ok, 4 states, 2 sensors, 3 trips" and lines[3] == "q: ok, 4 states, 1 sensors, 1 trips", lines
    assert lines[1].startswith(f"{path}:9:9: warning: trip 'hot' changes nothing") and lines[1].endswith("[no-effect]"), lines
    assert lines[2].startswith(f"{path}:8:9: warning: trip 'low' has no") and lines[2].endswith("[no-hysteresis]"), lines


def test_the_json_has_them_too():
    path = warned()
    got = run("policy", "check", path, "--json")
    one = json.loads(got.stdout)
    assert got.returncode == 0 and one["ok"] is True and one["error"] is None and len(one["policies"]) == 2, got
    assert [(w["lint"], w["policy"], w["file"], w["line"], w["column"]) for w in one["warnings"]] == [
        ("no-effect", "p", str(path), 9, 9), ("no-hysteresis", "p", str(path), 8, 9)], one
    assert one["warnings"][0]["text"].startswith("trip 'hot' changes nothing")


def test_nothing_to_warn_of_in_what_is_shipped():
    one = json.loads(run("policy", "check", tap.root / "policies.yaml", "--json").stdout)
    assert one["ok"] is True and one["warnings"] == [] and len(one["policies"]) >= 4, one


def test_nothing_to_warn_of_in_the_examples():
    examples = sorted((tap.root / "docs" / "examples").glob("*.yaml"))
    for example in examples:
        one = json.loads(run("policy", "check", example, "--json").stdout)
        assert one["ok"] is True and one["warnings"] == [] and one["policies"], one
    assert examples


def test_each_lint_is_on_the_page():
    page = (tap.root / "docs" / "policy-language.md").read_text()
    rows = [line for line in (tap.root / "policies" / "lints.def").read_text().splitlines() if line.startswith("L(")]
    assert len(rows) >= 9
    for row in rows:
        assert f"| `{row.split(chr(34))[1]}` |" in page, row


if __name__ == "__main__":
    tap.main()
