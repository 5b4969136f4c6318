"""What the tests of snapshots share: a guest that knows what its memory and disk must hold, saved and restored.

The guest is `remember` of tests.elf: '+' writes a generation more, '?' looks at everything, 'l' writes until told otherwise.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "control"), os.path.join(os.path.dirname(HERE), "lib")]
from client import Failure, RpcError, check, refused, wait_for  # noqa: E402, F401
from harness import VM, Environment, Skip, listens  # noqa: E402, F401

TESTS = []


def test(name):
    def add(function):
        TESTS.append((name, function))
        return function
    return add


class Console:
    """The guest's serial port: a byte out, a line back."""

    def __init__(self, path, timeout=120.0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def line(self):
        while b"\n" not in self.bytes:
            piece = self.socket.recv(4096)
            if not piece:
                raise Failure(f"the guest has ended: {self.bytes.decode(errors='replace')}")
            self.bytes += piece
        line, self.bytes = self.bytes.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def send(self, command):
        self.socket.sendall(command.encode())

    def ask(self, command, word):
        """The number of the answer, which must begin with this word."""
        self.send(command)
        while True:
            line = self.line()
            if line.startswith(word):
                return int(line.split()[1]) if " " in line else 0
            check(not line.startswith("FAIL"), f"the guest says: {line}")

    def generation(self, count=1):
        return [self.ask("+", "GENERATION") for _ in range(count)][-1]

    def remembers(self):
        return self.ask("?", "REMEMBERS")


class Guest(VM):
    """A VM that remembers."""

    def __init__(self, env, *options, memory="64M", does="remember every=8 disk=1", paused=False, disk_options=""):
        super().__init__(env, *options, does=does, paused=paused, disk_options=disk_options)
        self.command[self.command.index("--memory") + 1] = memory

    def tell(self):
        return Console(self.console)

    def snapshot(self, path, timeout=120.0, **params):
        """Take one, and wait for it. Its result."""
        with self.client(timeout) as client:
            return client.call("snapshot.create", path=path, wait=True, **params)

    def job(self, number):
        return self.call("job.list", job=number)["jobs"][0]


class Restored(Guest):
    """A VM from a snapshot. `disk`: where its disk is or is to be; None: an empty one, for a guest that does not look at it."""

    def __init__(self, env, folder, *options, disk=None, paused=False):
        super().__init__(env)
        self.command = [env.bulkhead, "restore", folder, "--control", self.control, "--console", f"socket:{self.console}",
                        "--seccomp", env.seccomp, "--disk", f"id=data,path={disk or self.disk}", *options]
        self.command += ["--paused"] if paused else []


def restore_and_check(env, folder, generation=None, disk=False):
    """A fresh process of it is right, and goes on; `disk`: with the snapshot's own, in a new place. What it remembered."""
    with Restored(env, folder, disk=f"{folder_in(env)}/disk" if disk else None) as vm:
        if vm.process.poll() is not None:
            raise Failure(f"it does not run: {vm.errors()}")
        with vm.tell() as console:
            if generation is None:
                generation = console.remembers()
            check(console.remembers() == generation, f"{folder} is not of generation {generation}")
            check(console.generation() == generation + 1, "it does not go on")
            check(console.remembers() == generation + 1, "it does not go on rightly")
    return generation


def refusal(env, folder, *options, status=1):
    """The one line with which restoring ends. It must not run."""
    done = subprocess.run([env.bulkhead, "restore", folder, "--console", "off", "--seccomp", env.seccomp, *options],
                          capture_output=True, text=True, timeout=120, check=False)
    check(done.returncode == status, f"exit status {done.returncode}: {done.stderr}")
    lines = [line for line in done.stderr.splitlines() if line.startswith("bulkhead: ")]
    check(len(lines) == 1, f"{done.stderr}")
    return lines[0]


def manifest(folder):
    with open(f"{folder}/manifest.json", encoding="utf-8") as file:
        return json.load(file)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def folder_in(env):
    return tempfile.mkdtemp(dir=env.work)
