"""devices.d: every file is right and known by the names that firmware gives the machine; the files of two
devices read those devices' sensors."""
import json
import pathlib
import re
import subprocess

import yaml

from tests import tap
from tests.governor.test_sensors import NO_BUS, machine

EDGERT = tap.build / "edgert"
FILES = sorted((tap.root / "devices.d").glob("*.yaml"))


def edgert(folder, *arguments):
    """With nothing of the person who runs the tests."""
    environment = dict(NO_BUS, HOME=str(folder), XDG_CONFIG_HOME=str(pathlib.Path(folder) / "config"))
    return subprocess.run([EDGERT, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60)


def sensors(m):
    done = edgert(m.root, "sensors", "--json", "--root", m.root)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["device"], {(l["sensor"], l["source"]): l for l in answer["sensors"]}


def call_it(m, names):
    for key, value in names.items():
        value = value.replace("*", "X").replace("?", "1")
        if key == "compatible":
            m.write("proc/device-tree/compatible", f"vendor,board\0{value}\0")
        elif key == "model":
            m.write("proc/device-tree/model", value + "\0")
        else:
            m.write(f"sys/class/dmi/id/{key}", value)


def test_every_file_is_right_and_known_by_its_names():
    assert len(FILES) >= 7
    for path in FILES:
        content = yaml.safe_load(path.read_text())
        match = content["match"]
        for names in match if isinstance(match, list) else [match]:
            with machine() as m:
                checked = edgert(m.root, "policy", "check", path)
                assert checked.returncode == 0, checked.stderr
                assert sensors(m)[0] is None, "a machine without names is no device"
                call_it(m, names)
                device, lines = sensors(m)
                assert device == content["device"], (path, device)
                declared = {name for name, _ in lines}
                assert set(content["sensors"]) <= declared, (path, set(content["sensors"]) - declared)
                kinds = {source.split(":")[0] for _, source in lines if ":" in source}
                assert kinds <= {"hwmon", "thermal", "upower", "power_supply", "powercap", "cpufreq", "procfs", "psi",
                                 "cgroup", "logind", "profile", "work"}, kinds


def test_other_machines_are_not_taken_for_them():
    for names in ({"sys_vendor": "Valve", "product_name": "Index"}, {"sys_vendor": "Jupiter"},
                  {"compatible": "pine64,pinephone-keyboard"}, {"compatible": "qcom,sdm8450"}):
        with machine() as m:
            call_it(m, names)
            assert sensors(m)[0] is None, names


def test_the_hottest_wired_core_counts():
    with machine() as m:
        call_it(m, {"compatible": "qcom,sdm845"})
        for i, temp in enumerate((41000, 0, 52500, -273000, 60100, 59000, 0, 48000)):
            m.zone(i, f"cpu{i}-thermal", temp)
        _, lines = sensors(m)
        made = next(l for (name, source), l in lines.items() if name == "temp.cpu" and source.startswith("max of temp.cpu0,"))
        assert made["value"] == 60.1 and made["why"] is None, made
        assert lines["temp.cpu1", "thermal:cpu1-thermal"]["value"] is None


def test_flipper_one_from_the_data():
    """Its sensors under load, as sbc-bench wrote them down."""
    text = tap.data("sysfs/flipper_one/sensors_before_and_after.txt").read_text()
    loaded = text[text.rindex("Hardware sensors:"):]
    temps = {chip: float(temp) for chip, temp in re.findall(r"(\w+)_thermal-virtual-0\ntemp1: +\+([0-9.]+)", loaded)}
    assert temps["bigcore"] > 60 and len(temps) >= 3, temps
    with machine() as m:
        call_it(m, {"compatible": "rockchip,rk3576"})
        for i, (chip, temp) in enumerate(temps.items()):
            m.zone(i, f"{chip}-thermal", round(temp * 1000))
        device, lines = sensors(m)
        assert device == "RK3576"
        made = lines["temp.cpu", "max of temp.bigcore, temp.littlecore, temp.package"]
        assert made["value"] == max(temps[c] for c in ("bigcore", "littlecore", "package") if c in temps), made


def test_mistakes_in_a_file_are_told():
    with machine() as m:
        folder = m.root / "config/edgert/devices.d"
        folder.mkdir(parents=True)
        for text, words in (("edgert: 1\ndevice: x\n", "device: (its name) and match: (how to know it) go together"),
                            ("edgert: 1\ndevice: x\nmatch: {vendor: y}\n", "unknown key 'vendor'"),
                            ("edgert: 1\ndevice: x\nmatch: {}\n", "expected what it is to match"),
                            ("edgert: 1\nsensors: {}\n", "expected device: and match:"),
                            ("", "is empty")):
            (folder / "mine.yaml").write_text(text)
            done = edgert(m.root, "policy", "show", "balanced")
            assert done.returncode == 1 and words in done.stderr and "mine.yaml:" in done.stderr, (text, done.stderr)
        (folder / "mine.yaml").write_text("edgert: 1\ndevice: Mine\nmatch: {board_name: 'T*'}\n"
                                          "sensors: {temp.skin: {max: [temp.cpu], offset: -9C}}\n")
        call_it(m, {"board_name": "T1"})
        m.zone(0, "cpu-thermal", 50000)
        device, lines = sensors(m)
        assert device == "Mine" and lines["temp.skin", "max of temp.cpu"]["value"] == 41, lines


if __name__ == "__main__":
    tap.main()
