"""A machine that umockdev's preloaded library puts in the place of this one's /sys, and a system bus of
its own on which a real upowerd or stand-ins for other services run."""
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from tests import tap
from tests.governor.test_sensors import DRIVE, Machine, loop

DRIVE_BUS = tap.build / "tests" / "governor" / "drive_bus"

UPOWERD = ["/usr/libexec/upowerd", "/usr/lib/upower/upowerd", "/usr/lib/upowerd"]

BUS_CONFIG = """<busconfig>
<type>system</type>
<listen>unix:path={folder}/bus</listen>
<auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy>
</busconfig>
"""


def murmur2(data):
    """A. Appleby's MurmurHash2 with seed 0, by which a listener's socket filters subsystems."""
    m, h = 0x5BD1E995, len(data)
    whole = len(data) - len(data) % 4
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = k * m & 0xFFFFFFFF
        h = (h * m ^ (k ^ k >> 24) * m) & 0xFFFFFFFF
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


def tool(*names):
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    tap.skip(f"needs {names[0]} (Debian packages upower, dbus-daemon, umockdev)")


class Mock(Machine):
    """A machine whose files umockdev shows as /sys, with a bus of its own."""

    def __init__(self, folder):
        super().__init__(folder)
        self.running = []
        for name in ("sys/class", "sys/bus", "sys/devices", "dev", "run/udev/data"):
            (self.root / name).mkdir(parents=True)
        self.environment = dict(os.environ, UMOCKDEV_DIR=str(self.root),
                                DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={self.root}/bus")
        self.wrapper = [tool("umockdev-wrapper")]

    def device(self, subsystem, device, /, **files):
        """A device as libudev looks for them: in /sys/devices, with its subsystem, linked from /sys/class."""
        home = f"sys/devices/{device}-parent/{subsystem}/{device}"
        for key, value in files.items():
            self.write(f"{home}/{key}", value)
        self.write(f"{home}/uevent", "")
        folder = self.root / "sys/class" / subsystem
        folder.mkdir(exist_ok=True)
        (folder / device).symlink_to(f"../../../{home}")
        (self.root / home / "subsystem").symlink_to(f"../../../../class/{subsystem}")
        return home

    def battery(self, capacity=63):
        return self.device("power_supply", "BAT0", type="Battery", present=1, status="Discharging", capacity=capacity,
                           energy_now=capacity * 400000, energy_full=40000000, energy_full_design=40000000,
                           power_now=8200000, voltage_now=7700000, technology="Li-ion", scope="System")

    def start(self, *command):
        process = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.running.append(process)
        return process

    def start_bus(self):
        config = self.root / "bus.conf"
        config.write_text(BUS_CONFIG.format(folder=self.root))
        self.start(tool("dbus-daemon"), f"--config-file={config}", "--nofork", "--nopidfile")
        wait_for(lambda: (self.root / "bus").exists(), "the bus")

    def start_upowerd(self):
        process = self.start(*self.wrapper, tool(*UPOWERD))
        wait_for(lambda: "UPower" in self.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus.ListNames"), "upowerd")
        return process

    def start_service(self, *arguments):
        """A stand-in (drive_bus); ask(line) gives its answer."""
        process = subprocess.Popen([DRIVE_BUS, *arguments], env=self.environment, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running.append(process)
        assert process.stdout.readline(), arguments

        def ask(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()
        process.ask = ask
        return process

    def send_event(self, message):
        """To the sockets that umockdev gives listeners to the kernel's and udev's events; how many there are."""
        listeners = list(self.root.glob("event[0-9]*"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for listener in listeners:
                sender.sendto(message, str(listener))
        return len(listeners)

    def udev_event(self, action, home):
        """What udev makes of the kernel's event: a header (systemd's device-monitor.c), then the same lines."""
        subsystem = os.path.basename(os.readlink(self.root / home / "subsystem"))
        lines = [f"ACTION={action}", f"DEVPATH=/{home.removeprefix('sys/')}", f"SUBSYSTEM={subsystem}", "SEQNUM=7"]
        properties = b"".join(line.encode() + b"\0" for line in lines)
        header = b"libudev\0" + struct.pack(">I", 0xFEEDCAFE) + struct.pack("=3I", 40, 40, len(properties))
        header += struct.pack(">4I", murmur2(subsystem.encode()), 0, 0, 0)
        return self.send_event(header + properties)

    def uevent(self, action, subsystem, device):
        """What the kernel sends when a device changes."""
        lines = [f"{action}@/devices/{device}", f"ACTION={action}", f"DEVPATH=/devices/{device}",
                 f"SUBSYSTEM={subsystem}", "SEQNUM=1"]
        return self.send_event(b"".join(line.encode() + b"\0" for line in lines))

    def call(self, name, path, method):
        done = subprocess.run([tool("dbus-send"), "--system", "--print-reply", f"--dest={name}", path, method],
                              env=self.environment, capture_output=True, text=True)
        return done.stdout

    def loop(self, policy, **options):
        return loop(self.root, policy, environment=self.environment, wrapper=self.wrapper, **options)


def wait_for(holds, what):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, f"{what} did not come up"
        time.sleep(0.05)


@contextlib.contextmanager
def mock():
    with tempfile.TemporaryDirectory() as folder:
        m = Mock(folder)
        try:
            yield m
        finally:
            for process in reversed(m.running):
                process.kill()
                process.wait()


def report(m):
    done = subprocess.run([*m.wrapper, DRIVE, "report"], env=m.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(l["signal"], l["source"]): l for l in lines}
