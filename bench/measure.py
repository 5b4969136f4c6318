"""What is measured of one monitor's process: time, CPU time, system calls, memory beside the guest, exits."""
import glob
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

EXIT_COUNTERS = ("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_injections", "pf_taken",
                 "pf_fixed", "fpu_reload", "hypercalls", "insn_emulation")


def cpu_ns(pid):
    """CPU time of a process, with threads that have ended, by the scheduler's own account in nanoseconds."""
    return time.clock_gettime_ns((~pid << 3) | 2)  # what clock_getcpuclockid() makes of a process id


def memory_beside_guest(pid, guest_mib):
    """(PSS, private dirty) in KiB of every mapping that is not guest RAM."""
    pss = dirty = 0
    skip = False
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line):
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                skip = end - start >= guest_mib << 19  # half of guest RAM or more: that is what it is
            elif not skip and line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif not skip and line.startswith("Private_Dirty:"):
                dirty += int(line.split()[1])
    return pss, dirty


def exits(pid):
    """Exit counters of the VM of a process, summed over its vCPUs, from KVM's debugfs."""
    found = {}
    for folder in glob.glob(f"/sys/kernel/debug/kvm/{pid}-*"):
        for name in EXIT_COUNTERS:
            try:
                with open(f"{folder}/{name}") as f:
                    found[name] = found.get(name, 0) + int(f.read())
            except OSError:
                pass
    return found


class Process:
    """A monitor with its console on a pipe."""

    def __init__(self, command, stdin=subprocess.DEVNULL):
        self.errors = tempfile.TemporaryFile()
        self.output = b""
        self.at = 0  # what is before was read already
        self.started = time.monotonic()
        # Every descriptor of ours is close-on-exec: closing them by hand would be CPU time of the child.
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=self.errors, bufsize=0, close_fds=False)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        if self.process.stdin:
            self.process.stdin.close()
        self.errors.close()

    def age(self):
        return time.monotonic() - self.started

    def read_some(self, deadline, wanted):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
            raise RuntimeError(f"no {wanted} in time; console: {self.tail()}")
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise RuntimeError(f"ended before {wanted}; console: {self.tail()}")
        self.output += data

    def wait_for(self, text, timeout):
        """Seconds from the start until `text` is on the console."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            self.read_some(deadline, repr(text))
        return self.age()

    def line(self, timeout):
        """The next whole line of the console."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.output[self.at:]:
            self.read_some(deadline, "further line")
        end = self.output.index(b"\n", self.at)
        text, self.at = self.output[self.at:end], end + 1
        return text.decode(errors="replace").strip()

    def tail(self):
        while select.select([self.process.stdout], [], [], 0)[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            self.output += data
        self.errors.seek(0)
        words = (self.output[-300:] + b" || " + self.errors.read()[-300:]).decode(errors="replace")
        return " | ".join(words.split("\n")).replace("\r", "")

    def settle(self, quiet=0.15, timeout=20):
        """Wait until it uses no more CPU: everything that is done before the guest may run is done."""
        last, since, deadline = -1, time.monotonic(), time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with status {self.process.returncode}: {self.tail()}")
            now = cpu_ns(self.pid)
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > quiet:
                return
            time.sleep(0.02)
        raise RuntimeError(f"does not come to rest: {self.tail()}")


def children(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(path) as f:
            found += [int(word) for word in f.read().split()]
    return found


def system_calls(command):
    """System calls of all threads up to the rest before the first guest instruction (paused)."""
    folder = tempfile.mkdtemp()
    try:
        trace = os.path.join(folder, "trace")
        with Process(["strace", "-f", "-o", trace, *command]) as p:
            last, since = -1, time.monotonic()
            while time.monotonic() - since < 0.5:
                size = os.path.getsize(trace) if os.path.exists(trace) else -1
                if size != last:
                    last, since = size, time.monotonic()
                time.sleep(0.05)
            with open(trace, errors="replace") as f:
                lines = [line for line in f if re.match(r"^\d+ +[a-z_0-9]+\(", line)]
            for child in children(p.pid):  # it would outlive its tracer
                os.kill(child, signal.SIGKILL)
        return len(lines)
    finally:
        shutil.rmtree(folder)
