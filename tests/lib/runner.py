"""What the programs with tests of real guests share: options, scratch space, a line a test.

Nothing but the standard library. tests/run calls them in the rig where the host has no hardware KVM, and there again for the
tests that a lost rig did not get to.
"""
import argparse
import os
import shutil
import subprocess
import tempfile
import time

from client import Failure, RpcError


class Environment:
    """Where things are. What is made once, by prepare, is in `made`; `scratch` goes at the end."""

    def __init__(self, bulkhead):
        self.bulkhead = os.path.abspath(bulkhead)
        cache = os.environ.get("BULKHEAD_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bulkhead")
        self.kernels = os.path.join(cache, "kernels")
        self.build = os.path.dirname(os.path.dirname(os.path.dirname(self.bulkhead)))
        self.made = os.path.join(self.build, "vm")
        os.makedirs(self.made, exist_ok=True)
        base = "/scratch" if os.path.ismount("/scratch") else "/var/tmp"
        self.scratch = tempfile.mkdtemp(prefix="bulkhead-vm-", dir=base)

    def prepare(self):
        """Make what the guests boot from; done by tests/run outside the rig, where it is quicker."""

    def prepared(self):
        return True

    def empty(self, name, size):
        path = os.path.join(self.scratch, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def copy(self, source, name):
        path = os.path.join(self.scratch, name)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", "-L", source, path], check=True)
        return path


def run(env, chosen):
    failed = False
    for name, function, arguments in chosen:
        started = time.monotonic()
        try:
            function(env, *arguments)
            print(f"ok {name} ({time.monotonic() - started:.0f} s)", flush=True)
        except (Failure, RpcError, OSError, subprocess.SubprocessError) as why:
            failed = True
            print(f"not ok {name} # {why}", flush=True)
    return 1 if failed else 0


def main(about, environment, tests, numbers=None):
    """`tests`: (name, function, further arguments). `numbers`: how much of something they do, {name: (default, help)}, in env.numbers.
    Returns the exit status."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bulkhead")
    parser.add_argument("--only", help="run the tests whose name contains this")
    parser.add_argument("--prepare", action="store_true", help="make what the guests boot from, run nothing")
    parser.add_argument("--done", metavar="FILE", help="leave out the tests named in this file")
    parser.add_argument("--list", action="store_true")
    for name, (default, what) in (numbers or {}).items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default {default})")
    options = parser.parse_args()
    done = open(options.done).read().splitlines() if options.done and os.path.exists(options.done) else []
    chosen = [t for t in tests if t[0] not in done and (not options.only or options.only in t[0])]
    if options.list:
        for name, _, _ in chosen:
            print(name)
        return 0
    env = environment(options.bulkhead)
    env.numbers = {name: getattr(options, name) for name in numbers or {}}
    try:
        if options.prepare or not env.prepared():
            env.prepare()
        return 0 if options.prepare else run(env, chosen)
    finally:
        shutil.rmtree(env.scratch, ignore_errors=True)
