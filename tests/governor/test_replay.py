"""The governor and the simulator agree: a live run's journal replayed gives the same decisions, and a
trace in place of the machine gives the simulator's states at any speed."""
import json
import random
import subprocess

from tests import tap
from tests.governor.test_sensors import POLICIES, loop, machine

SIMULATE = tap.build / "tests" / "sim" / "drive_replay"


def simulate(*arguments):
    if not SIMULATE.exists():
        tap.skip("needs tests/sim/drive_replay built (make tests)")
    done = subprocess.run([SIMULATE, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines_of(journal, kind):
    return [l for l in map(json.loads, journal.read_text().splitlines()) if l["type"] == kind]


def test_a_live_runs_inputs_give_the_same_decisions():
    """The machine's files change while the loop reads them, among them values that are no readings."""
    chance = random.Random(7)
    with machine() as m:
        m.zone(0, "cpu-thermal", 60000)
        journal = m.root / "journal.jsonl"
        with loop(m.root, "quick", root=m.root, journal=journal) as g:
            for _ in range(150):
                m.zone(0, "cpu-thermal", chance.choice([40000, 66000, 68123, 72345, 90000, 0, -273000, "N/A"]))
                m.write("proc/meminfo", f"MemAvailable: {chance.choice([50000, 105000, 4000000])} kB")
                before = g.ask("status")["decisions"]
                if chance.random() < 0.5:
                    g.ask("poke")
                g.until(lambda s: s["decisions"] > before, "deciding")
            assert g.stop() == {"stopped": True}
        inputs, changes = lines_of(journal, "input"), lines_of(journal, "decision")
        assert len(inputs) >= 150 and len(changes) >= 20
        said = simulate("journal", journal)
        assert said.strip() == f"{len(inputs)} decisions, {len(changes)} changes ok", said
        damaged = m.root / "damaged.jsonl"
        damaged.write_text(journal.read_text().replace('"temp.cpu":90', '"temp.cpu":41'))
        assert "journaled state" in simulate("journal", damaged), "the check above could not fail"


def test_a_full_journal_goes_on_in_a_new_file_that_can_be_replayed_alone():
    chance = random.Random(5)
    with machine() as m:
        m.zone(0, "cpu-thermal", 60000)
        m.write("proc/meminfo", "MemAvailable: 4000000 kB")
        journal, older, limit = m.root / "journal.jsonl", m.root / "journal.jsonl.1", 20000
        with loop(m.root, "quick", root=m.root, journal=journal, limit=limit) as g:
            while not (older.exists() and lines_of(older, "start")[0]["segment"] >= 2):
                m.zone(0, "cpu-thermal", chance.choice([40000, 66000, 68123, 72345, 90000]))
                before = g.ask("status")["decisions"]
                g.ask("poke")
                g.until(lambda s: s["decisions"] > before, "deciding")
            before = g.ask("status")["decisions"]
            g.until(lambda s: s["decisions"] > before + 2, "going on in the new file")
            assert g.stop() == {"stopped": True}
        assert older.stat().st_size < limit + 5000, "one decision's lines may come on top"
        for path in (older, journal):
            start, inputs = lines_of(path, "start")[0], lines_of(path, "input")
            assert start["memory"] and set(inputs[0]["readings"]) == {"temp.cpu", "memory.available"}, start
            assert simulate("journal", path).startswith(f"{len(inputs)} decisions, "), path
        ends = [lines_of(p, "input")[at]["t_ns"] for p, at in ((older, -1), (journal, 0))]
        assert ends[0] < ends[1], ends
        forgetful = m.root / "forgetful.jsonl"
        lines = older.read_text().splitlines()
        forgetful.write_text("\n".join([json.dumps({**json.loads(lines[0]), "memory": "0 1 2"}), *lines[1:]]) + "\n")
        assert "is damaged, or another version" in simulate("journal", forgetful)


def test_replay_gives_the_simulators_states():
    """Rows fall on polls, between them, and leave cells empty."""
    chance = random.Random(11)
    rows = ["time_s,temp.cpu_C,memory.available_MB"]
    for i in range(300):
        hot = chance.choice(["", f"{chance.uniform(55, 85):.2f}"])
        rows.append(f"{i * 0.07:.2f},{hot},{chance.choice(['', '50', '105', '4000'])}")
    with machine() as m:
        trace = m.root / "trace.csv"
        trace.write_text("\n".join(rows) + "\n")
        for speed in (10, 100):
            journal = m.root / f"journal{speed}.jsonl"
            with loop(m.root, "quick", root=m.root, replay=trace, speed=speed, journal=journal) as g:
                g.until(lambda s: s["replay_ended"], "ended", 60)
                policies = m.root / "policies.yaml"
                assert g.stop() == {"stopped": True}
            end_s = 299 * 0.07
            live = [l for l in lines_of(journal, "decision") if l["t_s"] <= end_s]
            expected = json.loads(simulate("replay", policies, "quick", trace))
            changes = [[(round(l["t_s"], 6), l["from"], l["to"], l["reason"]) for l in some]
                       for some in (live, expected["changes"])]
            assert changes[0] == changes[1] and len(live) > 20, changes


def test_a_broken_guarantee_is_journaled_with_its_readings():
    """At the decision and with the values at which the simulator finds it broken."""
    temperatures = [60, 61, 66, 68, 71, 72, 76, 74, 62, 58, 58, 58]
    guarantees = ["always (temp.cpu < 75C)", "always (temp.cpu > 70C -> always[0:100ms] (temp.cpu > 65C))",
                  "always (temp.cpu < 125C)", "always (memory.available > 1MB)"]
    with machine() as m:
        trace, policies, journal = m.root / "trace.csv", m.root / "policies.yaml", m.root / "journal.jsonl"
        rows = [f"{i * 0.04:.2f},{t}" for i, t in enumerate(temperatures)]
        trace.write_text("time_s,temp.cpu_C\n" + "\n".join(rows) + "\n")
        promises = "  quick:\n    guarantees:\n" + "".join(f"      - {g}\n" for g in guarantees)
        text = POLICIES.replace("  quick:\n", promises)
        with loop(m.root, "quick", policies=text, root=m.root, replay=trace, journal=journal, speed=5) as g:
            g.until(lambda s: s["replay_ended"], "ended", 60)
            g.stop()
        broken = lines_of(journal, "guarantee")
        said = json.loads(simulate("replay", policies, "quick", trace))["guarantees"]
        assert [g["verdict"] for g in said] == ["false", "false", "true", "undecided"], said
        assert [g["waits_for"] for g in said] == [None, None, None, "memory.available"], said
        assert [(b["text"], b["t_s"], b["readings"]["temp.cpu"]) for b in broken] == \
            [(guarantees[0], 0.24, 76.0), (guarantees[1], 0.32, 62.0)], broken
        assert [round(g["decided_s"], 6) for g in said[:2]] == [0.24, 0.32]
        assert broken[0]["robustness"] == -1.0 and broken[0]["verdict"] == "false", broken
        assert broken[0]["readings"]["memory.available"] is None
        assert "ok" in simulate("journal", journal)


if __name__ == "__main__":
    tap.main()
