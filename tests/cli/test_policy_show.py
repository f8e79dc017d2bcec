# not-sanitized: the preloaded library that stands in for /sys has to come before a sanitizer's
"""policy show: each line names the file and the line that it was written in, as PyYAML's marks have them; keys that
no file has are named as defaults; what is printed loads as the same policy."""
import json
import os
import shutil
import subprocess

import yaml

from tests import tap
from tests.cli import stage
from tests.governor.mock import mock

BASE = """edgert: 1
sensors:
  temp.cpu: {sources: [hwmon:a/b], median: 3}
  temp.skin: thermal:skin
ladders:
  l:
    - w8a8
    - {point: w4a16, threads: 1}
    - pause
policies:
  p:
    ladder: l
    trips:
      - {name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1}
      - name: low
        sensor: battery.charge
        below: 20%
        states: 1..2
      - {name: skin, sensor: temp.skin, above: 43C, governor: bang_bang, states: 2}
    dwell: {up: 3s}
    on-missing: {default: state 1, battery.charge: state 0}
    guarantees:
      - always (temp.cpu < 95C)
  q: {ladder: auto, poll: 1s}
"""
DROP_IN = """edgert: 1
# One sensor, nothing else.
sensors:
  temp.cpu: thermal:cpu
"""
DEVICE = """edgert: 1
device: Made up
match: {product_name: Madeup}
sensors:
  temp.skin:
    max: [temp.battery]
    offset: -2C
  temp.battery: power_supply:temp
"""


def show(policy, extra=None, **options):
    """(what was printed, the lines of --json)."""
    args = ["policy", "show", policy] + (["--policy-file", str(extra)] if extra else [])
    options.setdefault("env", dict(os.environ, XDG_CONFIG_HOME=str(stage.folder / "nothing")))
    text, made = stage.run(*args, **options), stage.run(*args, "--json", **options)
    assert text.returncode == 0 and made.returncode == 0, (text, made)
    lines = json.loads(made.stdout)["lines"]
    for line, printed in zip(lines, text.stdout.splitlines(), strict=True):
        comment = f"{line['file']}:{line['line']}" if line["file"] else "default" if line["defaults"] else ""
        if line["file"] and line["defaults"]:
            comment += ", default: " + ", ".join(line["defaults"])
        assert printed == line["text"] + (f"  # {comment}" if comment else ""), (line, printed)
    return text.stdout, lines


# ---- the same by PyYAML ----------------------------------------------------------------------------------------

def pairs(node):
    return {key.value: (key, value) for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def merged(paths):
    """{section: {name: (path, key, value)}}, later files over earlier ones."""
    sections = {"sensors": {}, "ladders": {}, "policies": {}}
    for path in paths:
        for section, (_, value) in pairs(yaml.compose(path.read_text())).items():
            if section in sections:
                sections[section].update({name: (path, *pair) for name, pair in pairs(value).items()})
    return sections


def row(node):
    return node.start_mark.line


class Expectation(dict):
    """{line of what is shown: (file, line, defaults)}."""

    def put(self, shown, path=None, node=None, defaults=()):
        self[row(shown)] = (str(path) if path else None, row(node) + 1 if path else None, list(defaults))

    def mapping(self, key, shown, path, where, written):
        """One on a line of its own."""
        self.put(key, path, where, [k for k in pairs(shown) if k not in written])

    def keys(self, shown, path, written):
        """Keys on lines of their own."""
        for name, (key, _) in pairs(shown).items():
            if name in written:
                self.put(key, path, written[name][0])
            else:
                self.put(key, defaults=[name])


def expected(texts, paths, name):
    shown, source, e = pairs(yaml.compose("\n".join(texts))), merged(paths), Expectation()
    for heading, _ in shown.values():
        e.put(heading)
    for sensor, (key, value) in pairs(shown["sensors"][1]).items() if "sensors" in shown else ():
        path, where, written = source["sensors"].get(sensor, (None, None, None))
        e.mapping(key, value, path, where, pairs(written) or ({"sources"} if written else {}))
    path, where, policy = source["policies"][name]
    [(heading, points)] = pairs(shown["ladders"][1]).values()
    written = pairs(policy)
    if written["ladder"][1].value == "auto":
        for node in [heading, *points.value]:
            e.put(node, path, written["ladder"][0])
    else:
        from_path, from_key, ladder = source["ladders"][written["ladder"][1].value]
        e.put(heading, from_path, from_key)
        for point, given in zip(points.value, ladder.value, strict=True):
            e.mapping(point, point, from_path, given, pairs(given) or {"point"})
    [(heading, body)] = pairs(shown["policies"][1]).values()
    e.put(heading, path, where)
    e.keys(body, path, written)
    inside = pairs(body)
    for trip, given in zip(*(m["trips"][1].value if "trips" in m else [] for m in (inside, written)), strict=True):
        e.mapping(trip, trip, path, given, pairs(given))
    if "dwell" in written:
        e.mapping(*inside["dwell"], path, written["dwell"][0], pairs(written["dwell"][1]))
    else:
        e.put(inside["dwell"][0], defaults=["down", "up"])
    if "power" in written:
        power, given = inside["power"][1], pairs(written["power"][1])
        e.keys(power, path, given)
        if "plant" in given:
            e.keys(pairs(power)["plant"][1], path, pairs(given["plant"][1]))
    if "on-missing" in written:
        given = pairs(written["on-missing"][1])
        for sensor, (key, _) in pairs(inside["on-missing"][1]).items():
            e.put(key, path, given.get(sensor, given.get("default"))[0])
    for formula, given in zip(*(m["guarantees"][1].value if "guarantees" in m else [] for m in (inside, written))):
        e.put(formula, path, given)
    return e


def assert_places(lines, paths, name):
    want = expected([line["text"] for line in lines], paths, name)
    for i, line in enumerate(lines):
        got = (os.path.normpath(line["file"]) if line["file"] else None, line["line"], line["defaults"])
        assert got == want[i], (line, want[i])


# ---- tests -----------------------------------------------------------------------------------------------------

def test_shipped_policies_and_examples():
    shipped = tap.root / "policies.yaml"
    for name in yaml.safe_load(shipped.read_text())["policies"]:
        assert_places(show(name)[1], [shipped], name)
    for example in sorted((tap.root / "docs" / "examples").glob("*.yaml")):
        for name in yaml.safe_load(example.read_text())["policies"]:
            assert_places(show(name, example)[1], [shipped, example], name)


def test_every_key_of_power():
    path = stage.folder / "power.yaml"
    path.write_text("""edgert: 1
ladders: {l: [w8a8, {point: w4a16, threads: 1, prefill: w8a8, name: 'a # b', power: 3W, prefill-power: 4W}, pause]}
policies:
  p:
    ladder: l
    power:
      governor: predictive
      sensor: temp.skin
      target: 42C
      burst: 9W for 30s
      draw: battery.power
      states: 0..max
      k_i: 1W
      share: {decode: 1, prefill: 2}
      plant:
        sensor-at: chip
        ambient: 25C
        ambient-sensor: temp.ambient
        chip: [3C/W, 8J/C]
        case: [5C/W,
               60J/C]
""")
    lines = show("p", path)[1]
    assert_places(lines, [tap.root / "policies.yaml", path], "p")
    found = {line["text"].split(":")[0].strip(): line for line in lines}
    assert found["ambient-sensor"]["line"] == 18 and found["k_i"]["line"] == 13, found
    assert found["switch-on"]["file"] is None and found["switch-on"]["defaults"] == ["switch-on"], found


def test_three_layers():
    """A person's file over a device's, and one value over both: said by hand here, and by PyYAML."""
    with mock() as m:
        config = m.root / "config" / "edgert"
        (config / "devices.d").mkdir(parents=True)
        device, base, extra = config / "devices.d" / "made-up.yaml", config / "policies.yaml", m.root / "extra.yaml"
        device.write_text(DEVICE)
        base.write_text(BASE)
        extra.write_text(DROP_IN)
        m.write("sys/class/dmi/id/product_name", "Madeup")
        m.environment["XDG_CONFIG_HOME"] = str(m.root / "config")

        def run(*args):
            done = subprocess.run([*m.wrapper, stage.edgert, "policy", "show", *args], env=m.environment,
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done
            return done.stdout
        for paths, options in (([device, base], ()), ([device, base, extra], ("--policy-file", extra))):
            for name in "pq":
                assert_places(json.loads(run(name, *options, "--json"))["lines"], paths, name)
        before, after = (run("p", *options).splitlines() for options in ((), ("--policy-file", extra)))
        changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert changed == [(
            f'  "temp.cpu": {{sources: ["hwmon:a/b"], stale: 180s, median: 3}}  # {base}:3, default: stale',
            f'  "temp.cpu": {{sources: ["thermal:cpu"], stale: 180s}}  # {extra}:4, default: stale')], changed
        # The base has the skin's source, so that of the device lies under it; without the base it is the device's.
        assert any(line.endswith(f'# {base}:4, default: stale') and "thermal:skin" in line for line in after), after
        base.write_text(BASE.replace("  temp.skin: thermal:skin\n", ""))
        after = run("p", "--policy-file", extra).splitlines()
        assert [line.split("  # ")[1] for line in after if '"temp.skin": {' in line] == [f"{device}:5, default: stale"], after
        assert [line.split("  # ")[1] for line in after if '"temp.battery": {' in line] == [f"{device}:8, default: stale"]
        assert [line.split("  # ")[1] for line in after if '"low"' in line] == [f"{base}:14, default: hysteresis, governor"]
        assert [line.split("  # ")[1] for line in after if "poll:" in line] == ["default"], after


def test_what_is_printed_loads_as_the_same():
    """And then comes from its own lines, with nothing left to defaults."""
    path, again = stage.folder / "base.yaml", stage.folder / "again.yaml"
    path.write_text(BASE)
    for name in ("p", "q"):
        text, lines = show(name, path)
        again.write_text(text)
        text, back = show(name, again)
        assert [line["text"] for line in back] == [line["text"] for line in lines], back
        headings = {i for i, line in enumerate(lines) if not line["file"] and not line["defaults"]}
        for i, line in enumerate(back):
            want = (None, None) if i in headings else (str(again), i + 1)
            assert (line["file"], line["line"]) == want and not line["defaults"], line


def test_a_file_whose_name_is_no_comment():
    folder = stage.folder / "odd\nname: #"
    folder.mkdir()
    shutil.copy(stage.policy(), folder / "odd\u2028.yaml")
    text = stage.run("policy", "show", "swing", "--policy-file", folder / "odd\u2028.yaml").stdout
    assert "/odd?name: #/odd?.yaml:" in text, text
    assert yaml.safe_load(text)["policies"]["swing"]["poll"] == "0.1s"


if __name__ == "__main__":
    tap.main()
