"""The power allocator against the kernel's own trace of a Juno board, and against an independent model of it."""
import pathlib
import random
import re
import subprocess
import sys
from fractions import Fraction

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import power_allocator as kernel
from tests import tap

driver = tap.build / "tests" / "policies" / "drive_pid"


def drive(lines):
    done = subprocess.run([driver], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [[int(n) for n in line.split()] for line in done.stdout.splitlines()]


def gains_line(c):
    gains = [int(k * kernel.ONE) for k in (c.k_po, c.k_pu, c.k_i, c.k_d)]
    return f"G {' '.join(map(str, gains))} {c.cutoff} {c.sustainable} {c.delay_ms}"


def juno():
    """What the kernel logged: the controller's lines and the allocator's."""
    text = tap.data("traces/juno_thermal_ftrace/trace.txt").read_text()
    pids = re.findall(r"allocator_pid: .*err=(-?\d+) err_integral=(-?\d+) p=(-?\d+) i=(-?\d+) d=(-?\d+) output=(\d+)", text)
    splits = re.findall(r"power_allocator: .*req_power=\{([\d ]+)\}.*granted_power=\{([\d ]+)\} total_granted_power=(\d+) "
                        r"power_range=(\d+) max_allocatable_power=(\d+) current_temperature=(\d+) delta_temperature=(\d+)", text)
    assert len(pids) == len(splits) == 67
    return [[int(n) for n in p] for p in pids], splits


def test_the_kernels_log_of_a_juno_board_outputs():
    """2500 mW sustainable and 10 C between its trips give the gains that the log shows."""
    pids, splits = juno()
    controller = kernel.Controller.estimated(sustainable=2500, span=10000, delay_ms=100)
    assert controller.k_pu == Fraction(1, 2)
    lines = [gains_line(controller)]
    for (err, *_), (*_, most, temperature, delta) in zip(pids, splits):
        assert 72000 - int(temperature) == err == int(delta)
        lines.append(f"E {err} {most}")
    for got, (_, integral, p, i, d, output) in zip(drive(lines), pids, strict=True):
        assert [got[0] // kernel.ONE, got[1] // kernel.ONE, got[2] // kernel.ONE] == [p, i, d]
        assert (got[3], got[4]) == (integral, output)


def test_the_kernels_log_of_a_juno_board_grants():
    """Each actor's most is what it was granted when all power was."""
    _, splits = juno()
    most = {}
    for _, granted, total, power, limit, *_ in splits:
        if power == limit == total:
            most[limit] = [int(g) for g in granted.split()]
    assert len(most) == 2
    lines = [f"A {power} " + " ".join(f"{w} {m}" for w, m in zip(wants.split(), most[limit]))
             for wants, _, _, power, limit, *_ in splits]
    for got, (_, granted, total, *_) in zip(drive(lines), splits, strict=True):
        assert got == [int(g) for g in granted.split()] and sum(got) == int(total)


def random_controller(r):
    if r.random() < 0.3:
        return kernel.Controller.estimated(r.randint(500, 9000), r.choice([3000, 10000, 17500]), r.choice([100, 250, 500]))
    gain = lambda most: Fraction(r.randint(0, most), kernel.ONE)
    return kernel.Controller(gain(3000), gain(3000), gain(300), gain(4000), r.choice([0, 0, 500, 5000, -1000]),
                             r.randint(0, 9000), r.choice([100, 250, 500, 333]))


def test_random_sequences_equal_the_model():
    """P, I, D, the integral and its anti-windup."""
    r = random.Random(11)
    stopped = integrated = derived = clamped = 0
    for _ in range(200):
        controller, most = random_controller(r), r.randint(1000, 12000)
        lines, expected = [gains_line(controller)], []
        err = r.randint(-6000, 12000)
        for _ in range(120):
            err += r.randint(-900, 900) + (r.choice([-6000, 6000]) if r.random() < 0.03 else 0)
            err = min(max(err, -40000), 60000)
            before = controller.err_integral
            p, i, d, output = controller.step(err, most)
            lines.append(f"E {err} {most}")
            expected.append([int(x * kernel.ONE) for x in (p, i, d, controller.err_integral)] + [output])
            stopped += err < controller.cutoff and controller.err_integral == before and err != 0
            integrated += i != 0
            derived += d != 0
            clamped += output in (0, most)
        assert drive(lines) == expected, gains_line(controller)
    assert min(stopped, integrated, derived, clamped) > 1000, (stopped, integrated, derived, clamped)


def test_random_splits_equal_the_model_and_keep_within_bounds():
    r = random.Random(12)
    lines, cases = [], []
    for _ in range(3000):
        n = r.randint(1, 6)
        most = [r.randint(0, 4000) for _ in range(n)]
        wants = [r.choice([0, r.randint(0, 2 * m + 1)]) for m in most]
        power = r.randint(0, sum(most) + 500)
        cases.append((wants, most, power))
        lines.append(f"A {power} " + " ".join(f"{w} {m}" for w, m in zip(wants, most)))
    for got, (wants, most, power) in zip(drive(lines), cases, strict=True):
        assert got == kernel.grants(wants, most, power), (wants, most, power)
        assert all(0 <= g <= m for g, m in zip(got, most))
        assert sum(got) < power + len(got)


tap.main()
