"""The control socket beside QEMU's QMP, on a VM that is not started: how long a call takes, and what a connection costs.

The client is this program, one call at a time: its own time is in the figures of all monitors alike. QMP's query-status tells less
than vm.info does, which lists configuration and devices.
"""
import json
import os
import socket
import statistics
import time

from measure import Process, memory_beside_guest
from monitors import Guest

CALLS, WARM_UP = 10000, 500
CLIENTS = 100  # Bulkhead serves up to 128 at once; QEMU one for each -qmp socket


class Caller:
    """One client of either protocol: a request is a line, and so is its answer."""

    def __init__(self, path, qmp):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        deadline = time.monotonic() + 20
        while self.socket.connect_ex(path):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens on {path}")
            time.sleep(0.01)
        self.request = b'{"jsonrpc":"2.0","id":1,"method":"vm.info"}\n'
        if qmp:
            self.read_line()  # the greeting
            self.request = b'{"execute":"qmp_capabilities"}\n'
            self.call()
            self.request = b'{"execute":"query-status"}\n'

    def read_line(self):
        data = b""
        while not data.endswith(b"\n"):
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise RuntimeError("the connection was closed")
            data += piece
        return data

    def call(self):
        self.socket.sendall(self.request)
        return self.read_line()


def latencies(caller):
    """Microseconds of each call, sorted."""
    for _ in range(WARM_UP):
        answer = caller.call()
    if "error" in json.loads(answer):
        raise RuntimeError(f"the call is refused: {answer}")
    found = []
    for _ in range(CALLS):
        before = time.perf_counter_ns()
        caller.call()
        found.append((time.perf_counter_ns() - before) / 1000)
    return sorted(found)


def idle(pid, path, memory):
    """KiB of PSS and of private dirty memory for each further client that has made a call and waits."""
    before = memory_beside_guest(pid, memory)
    clients = [Caller(path, qmp=False) for _ in range(CLIENTS)]
    for client in clients:
        client.call()
    after = memory_beside_guest(pid, memory)
    for client in clients:
        client.socket.close()
    return [(b - a) / CLIENTS for a, b in zip(before, after)]


def measure(bench, monitor):
    """One VM of one monitor. Round trips of attach and detach need a guest that takes part: they are a section of their own."""
    path = os.path.join(bench.scratch, f"control-{monitor.name}")
    qmp = monitor.name != "bulkhead"
    guest = Guest(bench.copied("first.elf"), memory=512, paused=True, control=path)
    with Process(monitor.command(guest)) as p:
        caller = Caller(path, qmp)
        p.settle()
        found = latencies(caller)
        bench.add(monitor, "call_p50_us", statistics.median(found))
        bench.add(monitor, "call_p99_us", found[int(len(found) * 0.99)])
        if not qmp:
            pss, dirty = idle(p.pid, path, 512)
            bench.add(monitor, "client_pss_kib", pss)
            bench.add(monitor, "client_dirty_kib", dirty)
    if os.path.exists(path):
        os.unlink(path)
