# not-sanitized: the checkers are programs of their own
"""The kernels of CPUs that this machine may not be: NEON's by a cross compiler and qemu-user, those of x86 by
SIMDe, which has their intrinsics in plain C. test_kernels runs as it is, with the kernels alone.

Each test names the ISAs to check; the last one must be what dispatch finds to be the best."""
import os
import shutil
import subprocess

import tests.tap as tap


def check(folder, build_with, run_with, isas):
    """Builds the checker with the kernels alone in a folder of its own, and runs it."""
    # Make's own variables would tie this build to the one that runs the tests.
    environment = {n: v for n, v in os.environ.items() if n not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD")}
    program = tap.build / folder / "check_kernels"
    build = ["make", "PKG_CFLAGS=", f"BUILD={tap.build / folder}", *build_with, str(program)]
    for command in (build, [*run_with, str(program)]):
        done = subprocess.run(command, cwd=tap.root, env=dict(environment, EDGERT_TEST_ISAS=isas),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout.decode(errors='replace')[-4000:]}"


def check_aarch64(cpu, isas):
    for program in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if not shutil.which(program):
            tap.skip(f"needs {program}")
    if not os.path.exists("/usr/lib/aarch64-linux-gnu/libcmocka.so"):
        tap.skip("needs libcmocka-dev:arm64")
    check("aarch64", ["CC=aarch64-linux-gnu-gcc"], ["qemu-aarch64", "-cpu", cpu], isas)


def test_aarch64_without_dotprod():
    check_aarch64("cortex-a72", "scalar")


def test_aarch64_with_dotprod():
    check_aarch64("neoverse-n1", "neondot")


def test_aarch64_with_i8mm():
    check_aarch64("max", "neoni8mm")


def test_x86_in_plain_c():
    if not os.path.exists("/usr/include/simde/x86/avx512.h"):
        tap.skip("needs libsimde-dev")
    if os.uname().machine != "x86_64":
        tap.skip("needs an x86-64 compiler")
    # No ISA flags: nothing but what SIMDe makes of an intrinsic can be run.
    check("simde", ["ISA_CFLAGS=", "CFLAGS=-O1 -isystem tests/runtime/simde -Wno-psabi"], [], "avx2 avxvnni avx512vnni")


if __name__ == "__main__":
    tap.main()
