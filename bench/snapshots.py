"""Snapshots, restores and clones beside QEMU's, of a guest without an operating system: see guest/payloads/bench_snapshot.c.

The guest has touched all its RAM, so that the host's page tables are those of a full machine; FILL MiB of it hold something, the
rest zeros, which both monitors leave out of the file: 16 GiB need no 16 GiB of disk. A pause is what the guest's own clock says it
was; what a monitor says itself is a row of its own. One machine of each is up at a time, as 16 GiB twice are more
than many hosts have; pairs are of the same try.
"""
import concurrent.futures
import ctypes
import fcntl
import json
import mmap
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

from material import payloads
from measure import Process
from monitors import Guest
from rows import RAM

FILL, DIRTY = 128, 64  # MiB
RESTORES = {256: 9, 1024: 7, 4096: 5, 16384: 3}
CLONES, CLONES_RAM = 25, 256
WRITTEN_RAM = 1024  # the machine whose memory is all written to the disk
OWN = 16  # MiB of the guest's own that it does not fill
TRACKED_PAGES, TRACKED_ROUNDS = 20000, 5


class Console(Process):
    """A monitor whose guest is told things by its serial port, and answers in lines."""

    drain = None

    def ask(self, command, word, timeout=120):
        """The number in the answer, 0 where it has none."""
        self.process.stdin.write(command)
        while True:
            words = self.line(timeout).split()
            if words[:1] == ["FAIL"]:
                raise RuntimeError(" ".join(words))
            if words and words[0].lstrip(".") == word:
                return int(words[1]) if len(words) > 1 else 0

    def gap_ms(self):
        return self.ask(b"g", "GAP") / 1e6

    def pulse(self):
        """From now on it does nothing but write, which a thread takes: a full pipe would be in the snapshot."""
        self.process.stdin.write(b"p")
        self.wait_for(b"..", 20)
        self.drain = threading.Thread(target=self.read_on, daemon=True)
        self.drain.start()

    def read_on(self):
        while os.read(self.process.stdout.fileno(), 65536):
            pass

    def __exit__(self, *exc):
        if self.drain:
            self.process.kill()
            self.drain.join()
        super().__exit__(*exc)


class Ours:
    """What is asked of Bulkhead."""

    def __init__(self, monitor, guest):
        self.monitor, self.guest, self.tracked = monitor, guest, False

    def connect(self):
        pass

    def snapshot(self, kind, path):
        """Takes one. (milliseconds that the guest stood still as the monitor says, seconds, bytes)"""
        shutil.rmtree(path, ignore_errors=True)
        done = subprocess.run([self.monitor.binary, "ctl", self.guest.control, "snapshot.create", f"path={path}", "wait=true",
                               f"background={'true' if kind == 'background' else 'false'}",
                               f"incremental={'true' if kind == 'incremental' else 'false'}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"no snapshot: {done.stderr}")
        result = json.loads(done.stdout)
        if kind == "background" and not result["background"]:
            raise RuntimeError("the snapshot was not written in the background")
        return result["pause_ms"]["total"], result["elapsed_ms"] / 1000, result["bytes"]

    def track(self):
        """They are, since the last snapshot: nothing to do."""

    def restore(self, path, number=None):
        clone = [] if number is None else ["--clone", "--name", f"clone{number}"]
        return Console([self.monitor.binary, "restore", path, *clone], stdin=subprocess.PIPE)


class Theirs:
    """What is asked of QEMU: migration to and from a file."""

    def __init__(self, monitor, guest):
        self.monitor, self.guest = monitor, guest

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        self.socket.connect(self.guest.control)
        self.answers = self.socket.makefile("r")
        self.answers.readline()
        self.call("qmp_capabilities")
        self.call("migrate-set-parameters", **{"max-bandwidth": 1 << 40})

    def call(self, command, fd=None, **arguments):
        message = json.dumps({"execute": command, "arguments": arguments}).encode()
        if fd is None:
            self.socket.sendall(message)
        else:
            socket.send_fds(self.socket, [message], [fd])
        while True:
            answer = json.loads(self.answers.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def migrate(self, path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.call("getfd", fd=fd, fdname="file")
        finally:
            os.close(fd)
        self.call("migrate", uri="fd:file")
        while True:
            state = self.call("query-migrate")
            if state["status"] == "completed":
                return state
            if state["status"] in ("failed", "cancelled"):
                raise RuntimeError(f"no snapshot: {state}")
            time.sleep(0.005)

    def snapshot(self, kind, path):
        background = kind == "background"
        self.call("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": background}])
        began = time.monotonic()
        if not background:
            self.call("stop")
        state = self.migrate(path)
        if not background:
            self.call("cont")
        spent = time.monotonic() - began
        # Its downtime says nothing of a guest that was stopped before.
        return state.get("downtime", 0) if background else spent * 1000, state["total-time"] / 1000, os.path.getsize(path)

    def track(self):
        """By KVM's bitmap, for as long as it measures a rate: the first look at it clears it, and writes are tracked from then on."""
        self.call("calc-dirty-rate", **{"calc-time": 2, "mode": "dirty-bitmap"})
        time.sleep(0.3)

    def restore(self, path, number=None):
        fd = os.open(path, os.O_RDONLY)
        os.set_inheritable(fd, True)
        try:
            return Console(self.monitor.command(self.guest, f"fd:{fd}"), stdin=subprocess.PIPE)
        finally:
            os.close(fd)


KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, KVM_MEM_LOG_DIRTY_PAGES = 0xae01, 0x4020ae46, 1
HOLE = 3072  # MiB below the hole for devices


def slots_ms(ram):
    """What KVM itself takes to be told of this much memory, and to track it, of a VM that has nothing else."""
    memory = mmap.mmap(-1, ram << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with open("/dev/kvm", "rb+", buffering=0) as kvm:
        vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    try:
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        low = min(ram, HOLE)
        places = [(0, 0, low << 20, address)]
        if ram > low:
            places.append((1, 1 << 32, ram - low << 20, address + (low << 20)))
        began = time.monotonic()
        for flags in (0, KVM_MEM_LOG_DIRTY_PAGES):
            for slot, gpa, size, host in places:
                fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", slot, flags, gpa, size, host))
        return (time.monotonic() - began) * 1000
    finally:
        os.close(vm)


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith(("Private_Dirty:", "Private_Clean:")))


class Section:
    def __init__(self, bench, monitors):
        self.bench, self.monitors = bench, monitors
        self.made = payloads(bench.made)
        self.folder = os.path.join(bench.scratch, "snapshots")
        os.makedirs(self.folder, exist_ok=True)

    def add(self, monitor, key, value, n=0):
        self.bench.round = str(n + 1)
        self.bench.add(monitor, key, value)
        print(f"  {monitor.name}: {key} {value:.4g}", flush=True)

    def path(self, monitor, name):
        return os.path.join(self.folder, f"{monitor.name}-{name}")

    def machine(self, monitor, ram, fill=FILL):
        guest = Guest(self.made["bench.elf"], cmdline=f"snapshot fill={fill} dirty={DIRTY}", memory=ram,
                      control=self.path(monitor, "socket"))
        return (Ours if monitor.name == "bulkhead" else Theirs)(monitor, guest)

    def start(self, machine):
        console = Console(machine.monitor.command(machine.guest), stdin=subprocess.PIPE)
        console.wait_for(b"READY", 300)
        machine.connect()
        return console

    # ---- pauses ----

    def pauses(self, monitor, ram, tries):
        """Of a machine that is up, snapshots of each kind; the last is the one to restore from."""
        machine = self.machine(monitor, ram)
        with self.start(machine) as guest:
            guest.gap_ms()
            for n in range(tries):
                said, _, _ = machine.snapshot("background", self.path(monitor, "background"))
                self.add(monitor, f"snap_background_said_{ram}_ms", said, n)
                self.add(monitor, f"snap_background_{ram}_ms", guest.gap_ms(), n)
                if monitor.name == "bulkhead":
                    guest.ask(b"w", "WRITTEN")
                    guest.gap_ms()
                    machine.snapshot("incremental", self.path(monitor, "incremental"))
                    self.add(monitor, f"snap_incremental_{ram}_ms", guest.gap_ms(), n)
                said, _, _ = machine.snapshot("full", self.path(monitor, "full"))
                # QEMU sets the guest's clock back by its pause now and then: the guest does not see it then.
                self.add(monitor, f"snap_full_{ram}_ms", max(said, guest.gap_ms()), n)
            if ram == RAM[0]:
                self.tracking(machine, guest)
            guest.pulse()
            machine.snapshot("background", self.path(monitor, f"pulse-{ram}"))  # one of a QEMU that stands still would be restored so
        for name in ("background", "incremental", "full"):
            self.forget(self.path(monitor, name))

    def forget(self, path):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)

    def tracking(self, machine, guest):
        """The first write to each page and the second, in the guest, by its clock: tracking is armed by a snapshot's end or by QEMU's rate."""
        pages = DIRTY * 256
        for n in range(3):
            machine.snapshot("background", self.path(machine.monitor, "background")) if isinstance(machine, Ours) else machine.track()
            self.add(machine.monitor, "track_first_ns", guest.ask(b"w", "WRITTEN") / pages, n)
            self.add(machine.monitor, "track_again_ns", guest.ask(b"w", "WRITTEN") / pages, n)
            if not isinstance(machine, Ours):
                time.sleep(2)

    def tracked_by(self, monitor, how):
        """By KVM's bitmap or its rings, without a monitor around it: tests/payload/dirty_cost.c."""
        out = subprocess.run([self.made["payload_dirty_cost"], how, str(TRACKED_PAGES), str(TRACKED_ROUNDS), "--kernel",
                              self.made["tests.elf"], "--memory", "4G", "--cmdline", "dirty disk=0 mailbox=31457280"],
                             capture_output=True, text=True, timeout=120, check=True).stdout
        for line in out.splitlines():
            _, name, count, ns = line.split()
            key = name.removeprefix("dirty_")
            if key in ("first_write", "rewrite", "untracked_write", "protect_again"):
                self.add(monitor, f"track_{how}_{key}_ns", int(ns) / int(count))
            elif key in ("start", "fetch", "fetch_nothing"):
                self.add(monitor, f"track_{how}_{key}_us", int(ns) / 1e3)

    # ---- restoring ----

    def restored(self, machine, ram, n):
        with machine.restore(self.path(machine.monitor, f"pulse-{ram}")) as guest:
            self.add(machine.monitor, f"restore_first_{ram}_ms", guest.wait_for(b".", 120) * 1000, n)
            guest.process.stdin.write(b"q?")
            self.add(machine.monitor, f"restore_answer_{ram}_ms", guest.wait_for(b"ANSWER", 120) * 1000, n)

    def slots(self, monitor, ram, n):
        """KVM's own share, and what of our restore is not that."""
        own = slots_ms(ram)
        self.add(monitor, f"restore_slots_{ram}_ms", own, n)
        first = self.bench.figures[monitor.name].get(f"restore_first_{ram}_ms", {}).get(str(n + 1))
        if first:
            self.add(monitor, f"restore_less_{ram}_ms", max(first - own, 0), n)

    def clone(self, machine, number):
        """One, until its guest runs. It is stopped then: a host has fewer CPUs than clones."""
        guest = machine.restore(self.path(machine.monitor, f"pulse-{CLONES_RAM}"), number)
        guest.wait_for(b".", 120)
        guest.process.send_signal(signal.SIGSTOP)
        return guest

    def clones(self, monitor, n):
        machine = self.machine(monitor, CLONES_RAM)
        machine.guest.control = None
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            guests = list(pool.map(lambda i: self.clone(machine, i), range(CLONES)))
        try:
            self.add(monitor, "clones_per_s", CLONES / (time.monotonic() - began), n)
            self.add(monitor, "clone_private_kib", statistics.median(private_kib(g.pid) for g in guests), n)
        finally:
            for guest in guests:
                guest.__exit__()

    # ---- writing ----

    def flush(self, path):
        """QEMU leaves that to others. Seconds."""
        if os.path.isdir(path):
            return 0
        began = time.monotonic()
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        return time.monotonic() - began

    def writing(self, monitor, tries):
        """All memory of a machine, nothing of it zeros, beside dd of the same bytes with the same flags on the same disk."""
        machine = self.machine(monitor, WRITTEN_RAM, WRITTEN_RAM - OWN)
        copy, target = "/dev/shm/bulkhead-bench", self.path(monitor, "written")
        try:
            with self.start(machine):
                for n in range(tries):
                    _, seconds, size = machine.snapshot("full", target)
                    seconds += self.flush(target)
                    if n == 0:
                        shutil.copy(f"{target}/memory" if os.path.isdir(target) else target, copy)
                    self.forget(target)
                    began = time.monotonic()
                    subprocess.run(["dd", f"if={copy}", f"of={target}", "bs=1M", "oflag=direct", "conv=fsync"], check=True,
                                   stderr=subprocess.DEVNULL)
                    dd = os.path.getsize(copy) / (time.monotonic() - began)
                    self.forget(target)
                    self.add(monitor, "snap_write_mib", size / seconds / 2**20, n)
                    self.add(monitor, "snap_dd_mib", dd / 2**20, n)
                    self.add(monitor, "snap_write_of_dd", size / seconds / dd, n)
        finally:
            self.forget(copy)

    def sizes(self):
        """Those for which this host has the memory."""
        with open("/proc/meminfo", encoding="ascii") as info:
            free = next(int(line.split()[1]) >> 10 for line in info if line.startswith("MemAvailable:"))
        for ram in RAM:
            if ram + ram // 8 <= free:
                yield ram
            else:
                print(f"  no {ram} MiB: the host has {free} free", flush=True)

    def measure(self, tries):
        ours = self.monitors[0]
        if ours.name == "bulkhead":
            self.tracked_by(ours, "bitmap")
            self.tracked_by(ours, "ring")
        for ram in self.sizes():
            for monitor in self.monitors:
                self.bench.attempt(self.pauses, monitor, ram, 3 if ram < 16384 else 2)
            for n in range(RESTORES[ram]):
                for monitor in self.monitors:
                    machine = self.machine(monitor, ram)
                    machine.guest.control = None
                    self.bench.attempt(self.restored, machine, ram, n)
                self.bench.attempt(self.slots, ours, ram, n)
            if ram == CLONES_RAM:
                for n in range(tries):
                    for monitor in self.monitors:
                        self.bench.attempt(self.clones, monitor, n)
            for monitor in self.monitors:
                self.forget(self.path(monitor, f"pulse-{ram}"))
        for monitor in self.monitors:
            self.bench.attempt(self.writing, monitor, tries)
        self.growth(ours)

    def growth(self, monitor):
        """How much longer the largest takes than the smallest."""
        for what in ("snap_background_said", "restore_first", "restore_less"):
            small, large = ([*self.bench.figures[monitor.name].get(f"{what}_{ram}_ms", {}).values()] for ram in (RAM[0], RAM[-1]))
            if small and large:
                self.add(monitor, f"{what}_growth_ms", max(statistics.median(large) - statistics.median(small), 0))


def measure(bench, monitors):
    section = Section(bench, monitors)
    try:
        section.measure(3)
    finally:
        shutil.rmtree(section.folder, ignore_errors=True)
