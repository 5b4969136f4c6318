"""Hot-plug as the guest sees it: a disk is attached and detached, on one monitor and the next in turn, both guests up all the while.

Attached is a disk that the guest has (its kernel's uevent); QEMU answers device_add at once and has no event for that, ours answers
disk.attach when the guest's driver has it. Detached is one that the guest has let go of: QEMU's event DEVICE_DELETED and the answer of
blockdev-del, our answer of disk.detach.

QEMU's disks come to a pcie-root-port, since q35's own bus takes none; by ACPI, which is its default and much the quicker way: by PCI
Express's own, Linux waits 5 seconds after the "button" of each removal, and for the link of each disk that comes.
"""
import contextlib
import json
import os
import select
import socket
import time

from measure import Process, exits
from monitors import Guest

CYCLES = 10  # of each round's two guests
WARM_UP = 3  # of these that do not count: the emulator under the rig translates what it has not seen yet
PAUSE = 0.2  # what a guest does after the end of a round trip is not in the next one
ADDED, GONE, LISTENS = 1, 2, 3  # bytes of guest/uevents.c
CID = 78


class Machine:
    """A VM, its control socket, and when the guest said what."""

    def __init__(self, bench, monitor, stack):
        path = os.path.join(bench.scratch, f"plug-{monitor.name}")
        self.disk, self.control, vsock = f"{path}.img", f"{path}.control", f"{path}.vsock"
        with open(self.disk, "wb") as f:
            f.truncate(64 << 20)
        stack.callback(self.remove, self.disk, self.control, vsock)
        words = "console=ttyS0 panic=-1 reboot=t quiet"
        guest = Guest(bench.kernel("6.1"), bench.copied("initrd-plug"), words, memory=256, control=self.control, slot=True,
                      vsock=(CID, vsock) if monitor.name == "bulkhead" else None)
        self.monitor, self.process = monitor, stack.enter_context(Process(monitor.command(guest)))
        self.process.wait_for(bytes([LISTENS]), 180)
        self.buffer, self.messages = b"", []
        self.let_go = 0.0  # when the guest's kernel had no such disk any more; then come its PCI and ACPI, and the monitor
        self.socket = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.socket.connect(self.control)
        self.begin()

    @staticmethod
    def remove(*paths):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def read(self, deadline):
        """What came from the guest or from the monitor, each with its time."""
        left = deadline - time.monotonic()
        ready = select.select([self.process.process.stdout, self.socket], [], [], max(left, 0))[0]
        now = time.monotonic()
        if not ready:
            raise RuntimeError(f"{self.monitor.name} does not go on: {self.messages[-1:]}; console: {self.process.tail()}")
        if self.process.process.stdout in ready:
            before = self.heard(GONE)
            self.process.read_some(now + 1, "byte")
            if self.heard(GONE) > before:
                self.let_go = now
        if self.socket in ready:
            data = self.socket.recv(1 << 16)
            if not data:
                raise RuntimeError(f"the monitor ended: {self.process.tail()}")
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            self.messages += [json.loads(line) for line in lines if line.strip()]
        return now

    def wait(self, seen, seconds=60):
        """The time at which `seen` held."""
        deadline, now = time.monotonic() + seconds, time.monotonic()
        while not seen():
            now = self.read(deadline)
        return now

    def heard(self, byte):
        return self.process.output.count(bytes([byte]))

    def send(self, message):
        self.messages = []
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def result(self, ends):
        """The time of the answer, and the guest's time of a disk come or gone."""
        byte, count, found = ends
        answered = lambda: any("return" in m or "result" in m or "error" in m for m in self.messages)  # noqa: E731
        said = lambda: self.heard(byte) > count  # noqa: E731
        while len(found) < 2:
            now = self.wait(lambda: "answer" not in found and answered() or "guest" not in found and said())
            if answered():
                found.setdefault("answer", now)
            if said():
                found.setdefault("guest", now)
        errors = [m for m in self.messages if "error" in m]
        if errors:
            raise RuntimeError(f"{self.monitor.name}: {errors[0]}")
        return found

    def call(self, message):
        self.send(message)
        self.wait(lambda: any("return" in m or "result" in m or "error" in m for m in self.messages))
        errors = [m for m in self.messages if "error" in m]
        if errors:
            raise RuntimeError(f"{self.monitor.name}: {errors[0]}")
        return time.monotonic()


class Ours(Machine):
    def rpc(self, method, **params):
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    def begin(self):
        for _ in range(100):
            try:
                self.call(self.rpc("guest.ping"))
                return
            except RuntimeError:
                time.sleep(0.3)
        raise RuntimeError(f"no agent: {self.process.tail()}")

    def attach(self):
        """(until the guest has it, until the answer)"""
        ends, before = (ADDED, self.heard(ADDED), {}), time.monotonic()
        self.send(self.rpc("disk.attach", path=self.disk, id="plug", cache="none"))
        found = self.result(ends)
        return found["guest"] - before, found["answer"] - before

    def detach(self, force):
        before = time.monotonic()
        return self.call(self.rpc("disk.detach", id="plug", force=force)) - before


class Qemu(Machine):
    def begin(self):
        self.wait(lambda: self.messages)  # the greeting
        self.call({"execute": "qmp_capabilities"})

    def attach(self):
        count, before = self.heard(ADDED), time.monotonic()
        self.call({"execute": "blockdev-add", "arguments": {
            "driver": "raw", "node-name": "plug", "cache": {"direct": True},
            "file": {"driver": "file", "filename": self.disk, "aio": "io_uring", "cache": {"direct": True}}}})
        self.send({"execute": "device_add", "arguments": {
            "driver": "virtio-blk-pci", "id": "plug", "drive": "plug", "bus": "port0", "iothread": "plugio", "disable-legacy": "on"}})
        taken = self.result((ADDED, count, {}))
        # The host knows when both have come: who waits for one only may be early.
        return taken["guest"] - before, max(taken.values()) - before

    def detach(self, force):
        """It has no way to ask the guest first: the same whatever `force` says."""
        before = time.monotonic()
        self.send({"execute": "device_del", "arguments": {"id": "plug"}})
        deleted = lambda: any(m.get("event") == "DEVICE_DELETED" and m["data"].get("device") == "plug" or "error" in m  # noqa: E731
                              for m in self.messages)
        self.wait(deleted)
        return self.call({"execute": "blockdev-del", "arguments": {"node-name": "plug"}}) - before


def count(machine, work, *arguments):
    """What `work` takes, and the exits that it took."""
    time.sleep(PAUSE)
    before = exits(machine.process.pid).get("exits", 0)
    found = work(*arguments)
    return found, exits(machine.process.pid).get("exits", 0) - before


def cycle(bench, machine):
    add = lambda key, value: bench.add(machine.monitor, f"plug_{key}", value)  # noqa: E731
    (seen, known), spent = count(machine, machine.attach)
    add("seen_ms", seen * 1000)
    add("attach_ms", known * 1000)
    add("attach_exits", spent)
    started = time.monotonic() + PAUSE
    gone, spent = count(machine, machine.detach, False)
    let_go = machine.let_go - started
    add("detach_ms", gone * 1000)
    add("detach_exits", spent)
    count(machine, machine.attach)
    forced, spent = count(machine, machine.detach, True)
    add("force_ms", forced * 1000)
    add("force_exits", spent)
    print(f"  {machine.monitor.name}: seen {seen * 1000:.1f} ms, attached {known * 1000:.1f}, detached {gone * 1000:.1f} "
          f"(no disk in the guest after {let_go * 1000:.1f}), "
          f"by force {forced * 1000:.1f}", flush=True)


def measure(bench, monitors):
    """All of them at once; every second cycle the other way round."""
    number = bench.round
    with contextlib.ExitStack() as stack:
        machines = [(Ours if m.name == "bulkhead" else Qemu)(bench, m, stack) for m in monitors]
        for machine in machines * WARM_UP:
            machine.attach()
            time.sleep(PAUSE)
            machine.detach(False)
            time.sleep(PAUSE)
        for n in range(CYCLES):
            bench.round = f"{number}.{n + 1}"
            for machine in machines if n % 2 else machines[::-1]:
                cycle(bench, machine)
