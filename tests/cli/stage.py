"""What the command's tests act on: packs with random weights, policies and traces, and the command."""
import json
import pathlib
import subprocess
import tempfile

from tests import tap
from tools import packtool
from tools.packtool.random_pack import random_pack

edgert = tap.build / "edgert"
folder = pathlib.Path(tempfile.mkdtemp(prefix="edgert-cli-"))

POLICY = """edgert: 1
ladders:
  swing:
    - {point: w8a8, tokens-per-second: 400}
    - {point: w4a16, tokens-per-second: 400}
    - {point: w4a16-r80, threads: 1, tokens-per-second: 400}
    - pause
policies:
  swing:
    ladder: swing
    poll: 100ms
    trips:
      - {name: warm, sensor: temp.cpu, above: 50C, hysteresis: 2C, governor: bang_bang, states: 1}
      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 2C, governor: bang_bang, states: 2}
      - {name: low, sensor: battery.charge, below: 20%, when: discharging, states: 1}
    dwell: {down: 0s, up: 0s}
"""


def run(*args, input=None, **options):
    """The finished command: returncode, stdout and stderr as text."""
    return subprocess.run([edgert, *map(str, args)], input=input, capture_output=True, text=True,
                          stdin=None if input is not None else subprocess.DEVNULL, timeout=120, **options)


def pack(name="plain", high_bytes=False):
    """A small pack that never ends an answer by itself. high_bytes: most of its tokens are single bytes
    that are no ASCII, so that answers are full of broken and of complete UTF-8; some are controls."""
    path = folder / f"{name}.edgert"
    if path.exists():
        return path
    made = random_pack(7)
    made.meta["tokenizer"]["eos"] = []
    made.meta["catalog"] = [{"point": "w8a8", "bytes_per_token": 9, "ppl": 3.0, "kld": 0.0, "tokens": 1},
                            {"point": "w4a16", "bytes_per_token": 5, "ppl": 4.0, "kld": 0.1, "tokens": 1}]
    if high_bytes:
        alphabet = [b for b in range(0xC2, 0xF0)] + [b for b in range(0xA1, 0xC0) if b != 0xAD]
        alphabet += [0x100 + control for control in (7, 8, 12, 27)]  # the BPE alphabet shifts them there
        start = len(made.vocab.texts) - len(alphabet)
        made.vocab.texts[start:] = [chr(b).encode() for b in alphabet]
    packtool.layout.write_pack(made, path)
    return path


def prose_pack():
    """A pack that speaks in words with blanks between them, some with an accent, some after a newline."""
    path = folder / "prose.edgert"
    made = random_pack(7)
    made.meta["tokenizer"]["eos"] = []
    texts, space, newline = made.vocab.texts, "\u0120", "\u010a"  # as the BPE alphabet spells them
    for i, text in enumerate(texts[97:], 97):
        word = text.decode() + "xyz" * (i % 4) + "\u00c3\u00a9" * (i % 3)
        texts[i] = ((newline if i % 13 == 0 else space) + word).encode()
    packtool.layout.write_pack(made, path)
    return path


def policy():
    path = folder / "policy.yaml"
    path.write_text(POLICY)
    return path


def trace(temperatures, seconds=200):
    """A trace whose temperature cycles, a value every 0.3 s, and whose battery gives 5 W."""
    path = folder / "trace.csv"
    rows = [f"{i * 0.3:.1f},{temperatures[i % len(temperatures)]},55,5" for i in range(int(seconds / 0.3))]
    path.write_text("# device: none\n# source: this test\n# licence: CC0-1.0\n"
                    "time_s,temp.cpu_C,battery.charge_%,battery.power_W\n" + "\n".join(rows) + "\n")
    return path


def swinging(temperatures=(40, 60, 80), speed=20):
    """Options of a run whose point swings."""
    return ["-p", "swing", "--policy-file", policy(), "--sensors", f"replay:{trace(temperatures)}@{speed}"]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]
