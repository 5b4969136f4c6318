"""What the tests of the control socket share: a VM of this host's /dev/kvm with a payload, and its clients.

The guest waits for its console for ever (serial_echo) unless a test wants another one.
"""
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
from client import Client, Failure, RpcError, check, listens, refused, wait_for  # noqa: E402, F401

TESTS = []


class Skip(Exception):
    """Why a test cannot run here."""


def test(name):
    def add(function):
        TESTS.append((name, function))
        return function
    return add


class VM:
    """One VM with a control socket and a disk; ends with the `with` block. `listener`: it is passed that socket instead of making
    one; `environment`: variables beside ours."""

    def __init__(self, env, *options, paused=False, guest="tests.elf", does="serial_echo", disk_options="", limits=(), listener=None,
                 environment=()):
        self.env, self.limits = env, limits
        self.variables, self.passed = {**os.environ, **dict(environment)}, (listener.fileno(),) if listener else ()
        self.dir = tempfile.mkdtemp(dir=env.work)
        self.control, self.disk, self.console = (f"{self.dir}/{name}" for name in ("control", "disk", "console"))
        with open(self.disk, "wb") as disk:
            disk.truncate(1 << 20)
        self.command = [env.bulkhead, "run", "--name", "orders", "--kernel", f"{env.payloads}/{guest}", "--memory", "64M",
                        "--cmdline", does, "--disk", f"path={self.disk},id=data{disk_options}", *self.control_options(listener),
                        "--console", f"socket:{self.console}", "--seccomp", env.seccomp, *options]
        self.command += ["--paused"] if paused else []

    def control_options(self, listener):
        if not listener:
            return ("--control", self.control)
        self.control = listener.getsockname()
        return ("--control-fd", str(listener.fileno()))

    def __enter__(self):
        self.stderr = open(f"{self.dir}/stderr", "w+b")
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.stderr,
                                        preexec_fn=self.limit, pass_fds=self.passed, env=self.variables)
        wait_for("the control socket", lambda: listens(self.control) or self.process.poll() is not None)
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stderr.close()
        report = [line for line in self.errors().splitlines() if "ERROR: AddressSanitizer" in line or "runtime error" in line
                  or "ERROR: LeakSanitizer" in line]
        if report:  # which comes first: what the test saw of it is its consequence
            raise Failure(report[0])

    def limit(self):
        for what, most in self.limits:
            resource.setrlimit(what, (most, most))

    def stopped(self):
        """The process stands still meanwhile: what is sent arrives at once."""
        return Stopped(self.process)

    def errors(self):
        with open(f"{self.dir}/stderr", errors="replace") as stderr:
            return stderr.read().strip()

    def client(self, timeout=60.0):
        return Client(self.control, timeout)

    def call(self, method, **params):
        with self.client() as client:
            return client.call(method, **params)

    def state(self):
        return self.call("vm.info")["state"]

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(next(line for line in status if line.startswith("RssAnon:")).split()[1])

    def targets(self):
        """What its descriptors are."""
        folder = f"/proc/{self.process.pid}/fd"
        return [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if os.path.lexists(f"{folder}/{fd}")]

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def ctl(self, *words, command="ctl", stdin=None):
        return subprocess.run([self.env.bulkhead, command, self.control, *words], input=stdin, capture_output=True, text=True,
                              timeout=120, check=False)


class Stopped:
    def __init__(self, process):
        self.process = process

    def __enter__(self):
        self.process.send_signal(signal.SIGSTOP)

    def __exit__(self, *exc):
        self.process.send_signal(signal.SIGCONT)


def lines(*calls):
    """Requests for one send: (method, id or None, parameters)."""
    return b"".join(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **({"id": number} if number else {})}).encode()
                    + b"\n" for method, number, params in calls)


class Environment:
    def __init__(self, options, work):
        self.bulkhead, self.payloads = os.path.abspath(options.bulkhead), os.path.abspath(options.payloads)
        self.work = work
        self.sanitized = options.sanitized  # which keeps what is freed for a while: its memory says nothing
        self.seccomp = "off" if self.sanitized else "on"  # sanitizers make calls of their own


def type_and_read(vm, text):
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(60)
        console.connect(vm.console)
        console.sendall(text)
        answer = b""
        while text not in answer:
            answer += console.recv(4096)


def served(vm):
    """A client that has a place, or None."""
    client = vm.client()
    try:
        client.call("net.list")
        return client
    except (RpcError, OSError, KeyError):  # what it is told without a place answers no request
        client.socket.close()
        return None


def answers(vm):
    try:
        return vm.call("net.list") is not None
    except (RpcError, OSError, KeyError):
        return False
