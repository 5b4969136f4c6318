"""A monitor under test: starts it, reads its guest's console, and ends it whatever happens.

Nothing but the standard library. A VM is a context manager; its folder goes with it.
"""
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

from client import Failure


class VM:
    """`bulkhead run` with the given options and descriptors; the guest's console is the monitor's standard input and output."""

    def __init__(self, env, *options, fds=()):
        self.env = env
        self.dir = tempfile.mkdtemp(prefix="vm-", dir=env.scratch)
        self.command = [env.bulkhead, "run", *options]
        self.fds = fds
        self.output = b""
        self.process = None
        self.started = 0.0

    def path(self, name):
        return os.path.join(self.dir, name)

    def __enter__(self):
        self.stderr = open(self.path("stderr"), "w+b")
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, bufsize=0, pass_fds=self.fds)
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()
        self.stderr.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def errors(self):
        self.stderr.flush()
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace").strip()

    def tail(self):
        """What a person needs of the console for a reason: where the guest's kernel went wrong, and the last lines."""
        lines = self.output.decode(errors="replace").replace("\r", "").strip().splitlines()
        fault = next((i for i, line in enumerate(lines) if re.search(r"BUG:|Oops|fault|Kernel panic", line)), len(lines))
        shown = lines[fault:fault + 14]
        shown += lines[max(fault + 14, len(lines) - 6):] if shown else lines[-6:]
        return " | ".join(shown) + (" || " + self.errors() if self.errors() else "")

    def read_some(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Failure(f"time-out; the console ends with: {self.tail()}")
        ready, _, _ = select.select([self.process.stdout], [], [], left)
        if not ready:
            return True
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data
        return bool(data)

    def expect(self, pattern, timeout=120):
        """Wait for a line of the console that matches; returns the match."""
        deadline = time.monotonic() + timeout
        regex = re.compile(pattern.encode())
        while True:
            match = regex.search(self.output)
            if match:
                return match
            if not self.read_some(deadline):
                match = regex.search(self.output)
                if match:
                    return match
                raise Failure(f"the VM ended before '{pattern}'; the console ends with: {self.tail()}")

    def wait(self, timeout=180):
        """Wait for the end; returns the exit status."""
        deadline = time.monotonic() + timeout
        while self.read_some(deadline):
            pass
        try:
            return self.process.wait(max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure("the monitor closed its console and did not end") from None

    def type(self, text):
        self.process.stdin.write(text.encode())

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def checks(self):
        """The guest's own checks: [(ok, what, why)]."""
        found = re.findall(rb"CHECK (ok|fail) ([^:\r\n]*)(?:: ([^\r\n]*))?", self.output)
        return [(ok == b"ok", what.decode(), why.decode(errors="replace")) for ok, what, why in found]
