"""The command as scripts see it: exit codes, help, JSON, pipes, errors."""
import json
import shutil
import signal
import subprocess

from tests import tap
from tests.cli import stage
from tests.cli.stage import run

COMMANDS = "run chat build inspect eval bench policy sim sensors tokenize".split()


def object_with(value, **types):
    """The members named are there, with these types."""
    for key, kind in types.items():
        assert key in value, f"{key} is missing in {value}"
        assert isinstance(value[key], kind) and not (kind is int and isinstance(value[key], bool)), (key, value[key])
    return value


# ---- exit codes and help ---------------------------------------------------------------------

def test_help_of_every_command_goes_to_stdout():
    listed = run("-h")
    assert listed.returncode == 0 and not listed.stderr
    for command in COMMANDS:
        assert f"  {command} " in listed.stdout
        got = run(command, "-h")
        assert got.returncode == 0 and not got.stderr, got
        assert got.stdout.startswith(f"usage: edgert {command}") and "--help" in got.stdout


def test_usage_errors_exit_2_and_say_what_was_meant():
    for args, words in (((), "which command"), (("rnu",), "did you mean run"),
                        (("run", "--polcy", "x", "hi"), "did you mean --policy"),
                        (("run",), "an argument is missing"), (("run", "a", "b"), "one argument too many"),
                        (("run", "-n", "many", "hi"), "many"), (("run", "-n"), "needs a value"),
                        (("run", "-Z", "hi"), "unknown option -Z"), (("build", "x.gguf"), "-o PACK"),
                        (("build", "x", "-o", "y", "--tiers", "90,80"), "100 first"),
                        (("eval",), "--text"), (("policy", "frobnicate"), "check, show or explain"), (("sim",), "which trace")):
        got = run(*args)
        assert got.returncode == 2, (args, got)
        assert words in got.stderr and not got.stdout, (args, got.stderr)
        assert got.stderr.startswith("edgert: ") and got.stderr.count("\n") == 1


def test_missing_files_exit_1_and_are_named():
    pack = stage.pack()
    for args in (("run", "-m", "/nowhere/x.edgert", "hi"), ("inspect", "/nowhere/x.edgert"),
                 ("bench", "/nowhere/x.edgert"), ("tokenize", "-m", "/nowhere/x.edgert", "hi"),
                 ("build", "/nowhere/x.gguf", "-o", stage.folder / "y.edgert"),
                 ("eval", pack, "--text", "/nowhere/x.txt"), ("sim", "/nowhere/x.csv"),
                 ("policy", "check", "/nowhere/x.yaml"), ("sim", "--journal", "/nowhere/x.jsonl"),
                 ("run", "-m", pack, "--sensors", "replay:/nowhere/x.csv", "hi"),
                 ("run", "-m", pack, "--policy-file", "/nowhere/x.yaml", "hi")):
        got = run(*args)
        assert got.returncode == 1, (args, got)
        assert "/nowhere/x" in got.stderr and not got.stdout, (args, got.stderr)
    assert not (stage.folder / "y.edgert").exists()


def test_a_build_never_replaces_its_source():
    source = stage.folder / "source.gguf"
    source.write_bytes(b"GGUF, or so it says")
    link = stage.folder / "link.gguf"
    link.symlink_to(source)
    for output in (source, link):
        got = run("build", source, "-o", output)
        assert got.returncode == 2 and "its own source" in got.stderr, got
    assert source.read_bytes() == b"GGUF, or so it says"
    assert run("build", source, "-o", "").returncode == 2  # before the work, not after it


def test_unknown_names_list_the_known_ones():
    pack = stage.pack()
    got = run("run", "-m", pack, "--point", "w8a8-r55", "hi")
    assert got.returncode == 1 and "w4a16-r80" in got.stderr
    got = run("run", "-m", pack, "-p", "balancd", "--policy-file", stage.policy(), "hi")
    assert got.returncode == 1 and "swing" in got.stderr
    got = run("run", "-m", "no-such-model", "hi")
    assert got.returncode == 1 and "edgert build" in got.stderr


def test_default_model_is_found_in_the_data_folder():
    data = stage.folder / "data"
    (data / "edgert/models").mkdir(parents=True)
    shutil.copy(stage.pack(), data / "edgert/models/default.edgert")
    shutil.copy(stage.pack(), data / "edgert/models/other.edgert")
    for args in (["inspect", "--json"], ["inspect", "other", "--json"]):
        got = run(*args, env={"XDG_DATA_HOME": str(data), "PATH": "/usr/bin:/bin"})
        assert got.returncode == 0, got
        assert json.loads(got.stdout)["path"].startswith(str(data))


# ---- run -------------------------------------------------------------------------------------

def test_piped_run_has_the_answer_on_stdout_and_the_rest_on_stderr():
    got = run("run", "-m", stage.pack(), *stage.swinging(), "-n", 120, "--raw", "abc")
    assert got.returncode == 0, got
    assert "\033" not in got.stdout + got.stderr and "tok/s" not in got.stdout
    swaps = [line for line in got.stderr.splitlines() if line.startswith("[token ")]
    assert len(swaps) >= 3 and all(" -> " in s and ": " in s for s in swaps), got.stderr
    assert any("temp.cpu" in s and "above 50C (warm)" in s for s in swaps), swaps
    table = got.stderr[got.stderr.index("point "):]
    assert "total" in table and " J " in table and "as many tokens as asked for" in table


def test_run_json_lines_are_as_documented():
    got = run("run", "-m", stage.pack(), *stage.swinging(), "-n", 120, "--raw", "--json", "abc")
    assert got.returncode == 0 and not got.stderr, got
    events = stage.lines(got.stdout)
    tokens = [e for e in events if e["type"] == "token"]
    swaps = [e for e in events if e["type"] == "switch"]
    assert len(tokens) == 120 and len(swaps) >= 3
    for e in tokens:
        object_with(e, token=int, id=int, text=str, point=str)
    assert [e["token"] for e in tokens] == list(range(3, 123))
    for e in swaps:
        object_with(e, token=int, t_s=float, state=int, reason=str, readings=dict, cost_ns=int, **{"from": str, "to": str})
        assert e["trip"] is None or isinstance(e["trip"], str)
        assert e["from"] != e["to"] and e["readings"].keys() >= {"temp.cpu"}
    summary = object_with(events[-1], type=str, end=str, tokens=int, prompt_tokens=int, switches=int, points=list)
    assert summary["type"] == "summary" and summary["end"] == "length" and summary["tokens"] == 120
    assert summary["switches"] == len(swaps)
    for p in summary["points"]:
        object_with(p, point=str, tokens=int, tok_s=float, seconds=float, prompt_tokens=int, entered=int)
        # 5 W of the trace's battery over the time spent there
        assert abs(p["energy_j"] - 5 * (p["seconds"] + p["prefill_s"])) < 0.1 * p["energy_j"] + 0.5
    assert sum(p["tokens"] for p in summary["points"]) == 119


def test_speculation_changes_no_token_and_is_told():
    answers = {}
    for args in (("--temperature", 0, "--repeat-penalty", 1), ("--seed", 5)):
        for when in ("off", "auto", "on"):
            got = run("run", "-m", stage.pack(), "--point", "w4a16", *args, "--speculation", when, "-n", 150, "--raw",
                      "--json", "abcabcabc")
            assert got.returncode == 0 and not got.stderr, got
            events = stage.lines(got.stdout)
            summary = object_with(events[-1], drafted=int, accepted=int)
            assert 0 <= summary["accepted"] <= summary["drafted"]
            assert [(p["drafted"], p["accepted"]) for p in summary["points"]] == [(summary["drafted"], summary["accepted"])]
            answers[args, when] = [e["id"] for e in events[:-1]], summary
        assert answers[args, "off"][0] == answers[args, "on"][0] == answers[args, "auto"][0]
        assert answers[args, "off"][1]["drafted"] == 0 < answers[args, "on"][1]["drafted"]
    greedy = answers[("--temperature", 0, "--repeat-penalty", 1), "on"][1]
    assert greedy["accepted"] > 0
    got = run("run", "-m", stage.pack(), "--point", "w4a16", "--temperature", 0, "--repeat-penalty", 1, "--speculation",
              "on", "-n", 150, "--raw", "abcabcabc")
    assert f"speculation: {greedy['drafted']} tokens drafted, {greedy['accepted']} accepted" in got.stderr, got.stderr
    got = run("run", "-m", stage.pack(), "--speculation", "yes", "abc")
    assert got.returncode == 2 and "'yes', expected auto, on or off" in got.stderr, got


def close(a, b):
    return abs(a - b) <= 1e-6 * abs(b)


def test_energy_is_the_batterys_power_over_time():
    got = run("run", "-m", stage.pack(), *stage.swinging(), "-n", 60, "--raw", "--json", "abc")
    summary = stage.lines(got.stdout)[-1]
    energy = object_with(summary["energy"], joules=float, mwh=float, prefill_joules=float, j_per_token=float,
                         mwh_per_token=float, sources=dict, unknown_share=float)
    battery = energy["sources"].pop("battery")
    assert not energy["sources"] and close(battery["joules"], 5 * battery["seconds"]), energy  # 5 W in the trace
    assert abs(battery["seconds"] - summary["prefill_s"] - summary["decode_s"]) < 0.05, summary
    assert close(energy["joules"], battery["joules"]) and close(energy["mwh"], energy["joules"] / 3.6)
    decode = energy["joules"] - energy["prefill_joules"]
    assert close(energy["j_per_token"], decode / 59) and close(energy["mwh_per_token"], energy["j_per_token"] / 3.6)
    assert energy["unknown_share"] == 0 and energy["unknown_why"] is None
    assert energy["battery_wh"] is None and energy["tokens_per_battery_percent"] is None
    assert close(sum(p["energy_j"] for p in summary["points"]), energy["joules"])


def test_energy_by_the_ladders_powers_names_what_it_does_not_know():
    """Nothing is measured; powers of two points are known while they generate, none while they read."""
    policy, trace = stage.folder / "powers.yaml", stage.folder / "powers.csv"
    policy.write_text("edgert: 1\nladders:\n  l: [{point: w8a8, power: 8W}, {point: w4a16, power: 4500mW}]\n"
                      "policies:\n  two:\n    ladder: l\n    poll: 50ms\n    dwell: {up: 0s}\n    trips:\n"
                      "      - {name: hot, sensor: temp.cpu, above: 60C, governor: bang_bang, states: 1}\n")
    rows = [f"{i * 0.5},{50 if i % 2 else 70}" for i in range(2000)]
    trace.write_text("time_s,temp.cpu_C\n" + "\n".join(rows) + "\n")
    args = ["run", "-m", stage.pack(), "--policy-file", policy, "-p", "two", "--sensors", f"replay:{trace}@20", "-n", 400,
            "--raw", "abc"]
    summary = stage.lines(run(*args, "--json").stdout)[-1]
    energy, watts = summary["energy"], {"w8a8": 8, "w4a16": 4.5}
    for p in summary["points"]:
        model = p["energy_sources"]["model"]
        assert close(model["joules"], watts[p["point"]] * model["seconds"]), p
        assert abs(model["seconds"] - p["seconds"]) < 0.02 + 0.01 * p["seconds"], p
    assert energy["sources"].keys() == {"model"} and energy["prefill_joules"] is None
    assert 0 < energy["unknown_share"] < 1 and "model: no power of the point is known" in energy["unknown_why"]
    told = run(*args).stderr
    assert " by model; a token " in told and "% of the time unknown: rapl: a trace is replayed; battery: " in told, told


def test_a_seed_gives_the_same_answer_and_another_one_another():
    args = ["run", "-m", stage.pack(), "--point", "w4a16", "-n", 30, "--raw", "--temperature", 2, "--top-k", 0]
    one, again, other = (run(*args, "--seed", s, "abc").stdout for s in (5, 5, 6))
    assert one == again and one != other and one.strip()


def test_prompt_from_stdin_equals_prompt_as_argument():
    args = ["run", "-m", stage.pack(), "--point", "w8a8", "-n", 20, "--raw", "--temperature", 0]
    assert run(*args, "abc").stdout == run(*args, "-", input="abc").stdout


def test_pieces_are_whole_characters():
    pack = stage.pack("bytes", high_bytes=True)
    got = run("run", "-m", pack, "--point", "w4a16", "-n", 200, "--raw", "--json", "--temperature", 1, "abc")
    pieces = [e["text"] for e in stage.lines(got.stdout) if e["type"] == "token"]
    held = [p for p in pieces if p == ""]
    wide = [p for p in pieces if any(ord(c) > 127 and c != "\ufffd" for c in p)]
    assert held and wide, "the pack makes no multi-byte characters: the test says nothing"


def test_a_reader_that_goes_away_ends_the_answer():
    # GDBus sets SIGPIPE to be ignored wherever there is a system bus, so the signal alone ends nothing.
    for options in ([], ["--json"]):
        command = [stage.edgert, "run", "-m", stage.pack(), *stage.swinging(), "-n", "500", "--raw", *options, "abc"]
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN)) as child:
            assert child.stdout.read(1)
            child.stdout.close()
            complaints = child.stderr.read()
            assert child.wait(60) == 1
        assert complaints.count("standard output") == 1, complaints
        assert options or "ended: cancelled" in complaints, complaints


def test_context_full_is_a_reason_and_too_long_a_prompt_a_failure():
    args = ["run", "-m", stage.pack(), "--point", "w4a16", "--raw", "--context", 32, "-n", 0]
    got = run(*args, "abc")
    assert got.returncode == 0 and "context full: 32 positions" in got.stderr
    got = run(*args, "a" * 90)
    assert got.returncode == 1 and "32 positions: shorten it" in got.stderr and not got.stdout


def test_a_fixed_point_excludes_a_policy():
    got = run("run", "-m", stage.pack(), "--point", "w4a16", "-p", "balanced", "hi")
    assert got.returncode == 2 and "excludes" in got.stderr


def test_chat_answers_each_line():
    got = run("chat", "-m", stage.pack(), "--point", "w4a16", "-n", 5, "--temperature", 0, input="abc\n\nabd\n")
    assert got.returncode == 0 and len(got.stdout.splitlines()) >= 2, got
    assert "prompt: " in got.stderr


# ---- the other commands ----------------------------------------------------------------------

def test_inspect_shows_and_verifies():
    pack = stage.pack()
    meta = json.loads(run("inspect", pack, "--json").stdout)
    object_with(meta, name=str, kind=str, model=dict, tiers=list, catalog=list, bytes=int, h_bytes=int, l_bytes=int)
    assert meta["bytes"] == pack.stat().st_size and meta["verified"] is None
    text = run("inspect", pack, "--verify")
    assert text.returncode == 0 and "w4a16" in text.stdout and "r80" in text.stdout
    broken = stage.folder / "broken.edgert"
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    assert run("inspect", broken).returncode == 0
    got = run("inspect", broken, "--verify")
    assert got.returncode in (1, 3) and "PLANES" in got.stderr and not got.stdout, got


def test_tokenize_gives_ids():
    got = json.loads(run("tokenize", "-m", stage.pack(), "--json", "abc").stdout)
    assert got == {"ids": [3 + ord(c) - 33 for c in "abc"]}
    assert run("tokenize", "-m", stage.pack(), "-", input="aab").stdout.split() == \
        [str(3 + 94), str(3 + ord("b") - 33)]  # "aa" is the vocabulary's first merge


def test_bench_json_is_as_documented():
    got = run("bench", stage.pack(), "-p", 16, "-n", 8, "-r", 2, "--switch", "--swaps", 60, "--json")
    assert got.returncode == 0, got
    all = object_with(json.loads(got.stdout), machine=str, isa=str, results=list, switch=list, bandwidth_gb_s=float)
    assert {r["test"] for r in all["results"]} == {"prefill", "decode"}
    for r in all["results"]:
        object_with(r, point=str, n=int, depth=int, threads=int, tok_s=float, sd=float)
        assert r["tok_s"] > 0 and r["n"] == (16 if r["test"] == "prefill" else 8)
        assert len({r[key] is None for key in ("power_w", "j_per_token", "energy_source")}) == 1, r
    assert len(all["results"]) == 2 * 9  # two variants at four tiers, w4a8 at the widest
    assert [m["point"] for m in all["memory"]] == [r["point"] for r in all["results"] if r["test"] == "decode"]
    for m in all["memory"]:
        object_with(m, resident_bytes=int, weights_bytes=int)
        assert 0 < m["weights_bytes"] < m["resident_bytes"], m
    for s in all["switch"]:
        object_with(s, p50_us=float, p99_us=float, **{"from": str, "to": str})
        assert s["from"] != s["to"] and s["p50_us"] <= s["p99_us"]
    swaps = all["switch_all"]
    assert sum(s["n"] for s in all["switch"]) == swaps["swaps"] == 60 and swaps["rounds"] == 2
    for token in "first_token", "second_token":
        assert 0 < swaps[f"{token}_p50"] <= swaps[f"{token}_p99"] <= swaps[f"{token}_max"]
        assert (swaps[f"{token}_late"] > 0) == (swaps[f"{token}_max"] > 1.5)
        assert 0 <= swaps[f"{token}_late_always"] <= swaps[f"{token}_late"] <= 60


def test_bench_fills_the_cache_to_a_depth():
    got = run("bench", stage.pack(), "-p", 16, "-n", 8, "-r", 1, "--point", "w4a16", "--depth", 40, "--json")
    assert got.returncode == 0, got
    results = json.loads(got.stdout)["results"]
    assert [(r["test"], r["n"], r["depth"]) for r in results] == [("prefill", 16, 40), ("decode", 8, 40)]
    got = run("bench", stage.pack(), "-p", 16, "-r", 1, "--depth", 999999)
    assert got.returncode == 1 and "context" in got.stderr, got


def test_bench_saves_what_it_prints_for_this_machine():
    data = stage.folder / "saved"
    got = run("bench", stage.pack(), "-p", 8, "-n", 4, "-r", 1, "--point", "w4a16", "--save", "--json",
              env={"XDG_DATA_HOME": str(data), "PATH": "/usr/bin:/bin"})
    assert got.returncode == 0, got
    files = list((data / "edgert/devices").glob("*.json"))
    assert len(files) == 1 and json.loads(files[0].read_text()) == json.loads(got.stdout)


def test_saved_powers_are_the_models_energy():
    """What bench saved for this machine, with a power that was measured elsewhere."""
    data, policy, trace = (stage.folder / n for n in ("powers", "point.yaml", "no-battery.csv"))
    environment = {"XDG_DATA_HOME": str(data), "PATH": "/usr/bin:/bin"}
    assert run("bench", stage.pack(), "-p", 8, "-n", 4, "-r", 1, "--point", "w4a16", "--save", env=environment).returncode == 0
    saved = next((data / "edgert/devices").glob("*.json"))
    figures = json.loads(saved.read_text())
    for r in figures["results"]:
        r["power_w"] = 6.5 if r["test"] == "decode" else 9
    saved.write_text(json.dumps(figures))
    policy.write_text("edgert: 1\nladders: {l: [w4a16]}\npolicies: {one: {ladder: l, trips: ["
                      "{name: hot, sensor: temp.cpu, above: 90C, states: 0}]}}\n")
    trace.write_text("time_s,temp.cpu_C\n0,50\n9,50\n")
    got = run("run", "-m", stage.pack(), "--policy-file", policy, "-p", "one", "--sensors", f"replay:{trace}", "-n", 50,
              "--raw", "--json", "abc", env=environment)
    assert got.returncode == 0, got
    energy = stage.lines(got.stdout)[-1]["energy"]
    model = energy["sources"]["model"]
    assert energy["unknown_share"] == 0 and energy["sources"].keys() == {"model"}, energy
    prefill_s = energy["prefill_joules"] / 9
    assert close(model["joules"] - energy["prefill_joules"], 6.5 * (model["seconds"] - prefill_s)), energy


def test_sensors_that_are_missing_are_told_and_the_run_goes_on():
    policy, trace = stage.folder / "two.yaml", stage.folder / "one-column.csv"
    policy.write_text("edgert: 1\nladders: {l: [w8a8, w4a16]}\npolicies:\n  two:\n    ladder: l\n    trips:\n"
                      "      - {name: hot, sensor: temp.cpu, above: 90C, states: 1}\n"
                      "      - {name: low, sensor: battery.charge, below: 20%, states: 1}\n"
                      "      - {name: skin, sensor: temp.skin, above: 43C, states: 1}\n")
    trace.write_text("time_s,temp.cpu_C\n0,50\n9,50\n")
    got = run("run", "-m", stage.pack(), "--policy-file", policy, "-p", "two", "--sensors", f"replay:{trace}", "-n", 20,
              "--raw", "abc")
    assert got.returncode == 0 and got.stdout.strip(), got
    told = [line for line in got.stderr.splitlines() if line.startswith("no reading of ")]
    assert told == ["no reading of battery.charge, temp.skin: no source on this machine has it"], got.stderr


def test_a_hangup_reads_the_policy_again():
    """A mistake in the new file is told and keeps the policy; the journal with the change replays."""
    journal = stage.folder / "reloaded.jsonl"
    options, good = stage.swinging(), stage.POLICY.replace("second: 400", "second: 40")
    path, fresh = stage.folder / "policy.yaml", stage.folder / "policy.yaml.new"
    path.write_text(good)
    process = subprocess.Popen([stage.edgert, "run", "-m", stage.pack(), *map(str, options), "-n", "250", "--raw", "--json",
                                "--journal", journal, "abc"], text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    said = []

    def until(kind):
        for line in process.stdout:
            said.append(json.loads(line))
            if said[-1]["type"] == kind:
                return said[-1]
        raise AssertionError(f"no {kind} came")
    until("switch")
    fresh.write_text(good.replace("above: ", "abvoe: "))
    fresh.rename(path)
    assert "the policy that holds stays" in (notice := until("notice"))["text"] and "did you mean 'above'?" in notice["text"]
    path.write_text(good.replace("50C", "51C"))
    assert until("notice")["text"] == "policy 'swing' was read again"
    until("switch")
    path.unlink()
    process.send_signal(signal.SIGHUP)
    while "policy.yaml" not in until("notice")["text"]:
        pass
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(30) == 0
    replayed = run("sim", "--journal", journal)
    assert replayed.returncode == 0, replayed.stderr
    assert '"type":"policy"' in journal.read_text()


def test_a_journal_is_a_schedule():
    """The points of a run, read from its journal, give what a schedule written by hand from it gives."""
    journal, plain, text = (stage.folder / n for n in ("scheduled.jsonl", "scheduled.txt", "scheduled-text.txt"))
    assert run("run", "-m", stage.pack(), *stage.swinging(), "-n", 200, "--raw", "--journal", journal, "abc").returncode == 0
    switches = [l for l in stage.lines(journal.read_text()) if l["type"] == "switch"]
    assert switches and switches[0]["token"] > 0
    points = [(0, switches[0]["from"])] + [(s["token"], s["to"]) for s in switches]
    plain.write_text("".join(f"{token} {name.split('@')[0]}\n" for token, name in points))
    text.write_text("abcdefghijklmnopqrstuvwxyz" * 20)
    results = [json.loads(run("eval", stage.pack(), "--text", text, "--window", 200, "--windows", 2, "--schedule",
                              schedule, "--json").stdout)["results"] for schedule in (journal, plain)]
    assert results[0] == results[1] and results[0][0]["point"] == "schedule", results
    best = json.loads(run("eval", stage.pack(), "--text", text, "--window", 200, "--windows", 2, "--point",
                          points[0][1].split("@")[0],
                          "--json").stdout)["results"]
    assert best[0]["nll"] != results[0][0]["nll"], "the schedule changed nothing: the test says nothing"


def test_eval_json_is_as_documented():
    text = stage.folder / "text.txt"
    text.write_text("abcdefghijklmnopqrstuvwxyz" * 20)
    got = run("eval", stage.pack(), "--text", text, "--window", 64, "--windows", 2, "--point", "w8a8", "--point",
              "w4a16-r80", "--json")
    assert got.returncode == 0, got
    results = json.loads(got.stdout)["results"]
    assert [r["point"] for r in results] == ["w8a8", "w4a16-r80"]
    for r in results:
        object_with(r, tokens=int, ppl=float, nll=float, bytes_per_token=int)
        assert r["kld"] is None and r["tokens"] > 0
        assert abs(r["ppl"] - 2.718281828459045 ** r["nll"]) < 1e-6 * r["ppl"]


def test_policy_check_tells_line_and_column():
    good = run("policy", "check", stage.policy(), "--json")
    assert good.returncode == 0, good
    object_with(json.loads(good.stdout), ok=bool, policies=list)
    bad = stage.folder / "bad.yaml"
    bad.write_text(stage.POLICY.replace("above: 50C", "above: 50"))
    got = run("policy", "check", bad, "--json")
    assert got.returncode == 3 and f"{bad}:13:" in got.stderr, got
    assert json.loads(got.stdout)["ok"] is False and f"{bad}:13:" in json.loads(got.stdout)["error"]


def test_policy_show_can_be_read_again():
    got = run("policy", "show", "swing", "--policy-file", stage.policy())
    assert got.returncode == 0, got
    again = stage.folder / "again.yaml"
    again.write_text(got.stdout)
    assert run("policy", "check", again).returncode == 0


def test_sim_json_golden_and_journal():
    args = ["sim", stage.trace((40, 60, 80)), "-p", "swing", "--policy-file", stage.policy()]
    got = run(*args, "--json")
    assert got.returncode == 0, got
    one = object_with(json.loads(got.stdout), trace=str, policy=str, duration_s=float, total_trans=int,
                      time_in_state_ms=list, trans_table=list, peak=dict)
    assert one["total_trans"] > 100 and sum(map(sum, one["trans_table"])) == one["total_trans"]
    golden = stage.folder / "golden.txt"
    assert run(*args, "--write", golden).returncode == 0
    assert run(*args, "--check", golden).returncode == 0
    golden.write_text(golden.read_text().replace("swing", "swung"))
    got = run(*args, "--check", golden)
    assert got.returncode == 3 and "swung" in got.stderr, got


def test_sim_tells_guarantees_and_status_3():
    text = stage.POLICY + """    guarantees:
      - always (temp.cpu < 90C)
      - always (temp.cpu > 70C -> state >= 2)
      - always (temp.cpu < 75C)
      - always (temp.skin < 45C)
"""
    policy = stage.folder / "promises.yaml"
    policy.write_text(text)
    args = ["sim", stage.trace((40, 60, 80)), "-p", "swing", "--policy-file", policy]
    got = run(*args)
    assert got.returncode == 3 and "does not keep its guarantee 'always (temp.cpu < 75C)'" in got.stderr, got
    lines = got.stdout[got.stdout.index("guarantees\n"):].splitlines()[1:5]
    assert lines == ["  true\trobustness 0\talways (temp.cpu > 70C -> state >= 2)" if i == 1 else line for i, line in enumerate(
        ["  true\trobustness 10\talways (temp.cpu < 90C)", "", "  false at 0.600 s\trobustness -5\talways (temp.cpu < 75C)",
         "  undecided\tno reading of temp.skin\talways (temp.skin < 45C)"])], lines
    one = json.loads(run(*args, "--json").stdout)["guarantees"]
    assert [g["robustness"] for g in one] == [10.0, 0.0, -5.0, None] and one[2]["decided_s"] == 0.6, one
    assert one[3] == {"text": "always (temp.skin < 45C)", "robustness": None, "verdict": "undecided", "decided_s": None,
                      "waits_for": "temp.skin"}
    policy.write_text(text.replace("temp.cpu < 75C", "temp.cpu < 85C"))
    assert run(*args).returncode == 0


def test_a_live_run_replayed_decides_the_same():
    journal = stage.folder / "journal.jsonl"
    got = run("run", "-m", stage.pack(), *stage.swinging(), "-n", 100, "--raw", "--journal", journal, "abc")
    assert got.returncode == 0
    replayed = run("sim", "--journal", journal)
    assert replayed.returncode == 0, replayed
    text = journal.read_text().splitlines()
    at = [i for i, line in enumerate(text) if '"type":"input"' in line][3]
    event = json.loads(text[at])
    text[at] = json.dumps(dict(event, state=(event["state"] + 1) % 3), separators=(",", ":"))
    journal.write_text("\n".join(text) + "\n")
    assert run("sim", "--journal", journal).returncode == 3


def test_sensors_json_gives_values_or_reasons():
    got = run("sensors", "--json")
    assert got.returncode == 0, got
    sensors = json.loads(got.stdout)["sensors"]
    assert sensors
    for s in sensors:
        object_with(s, sensor=str, source=str, unit=str)
        assert (s["value"] is None) == isinstance(s["why"], str), s


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(stage.folder)
