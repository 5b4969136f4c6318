"""The section `db`: MariaDB in a container, in a VM of ours, in one of QEMU's, and on the host itself.

Everybody gets the same image, two CPUs, 1 GiB, and a data folder on the same file system of this host; monitors get the
same kernel and fresh copies of the same disks. sysbench runs on the host: over a tap against the published port, or over lo
against the container that shares the host's network.

In a round all are started, one after another (the other way round in the next), and then every load goes from one to the
next, so that what is compared is seconds apart: other work on the host changes within minutes. A VM that is not measured
is stopped (SIGSTOP).
"""
import contextlib
import os
import shutil
import subprocess
import time

from client import RpcError
from material import ROOT
from measure import exits
from rows import BARE, LOADS
from server import Bare, Machine
from sources import Sources

PASSES = 3  # of all loads, in each round
FAILURES = (RuntimeError, OSError, RpcError, subprocess.SubprocessError)


class Section:
    """`bench` is the bench that keeps figures; `files` the folder with vmlinux, root.img, docker.img and image.tar."""

    def __init__(self, bench, files):
        self.bench, self.files = bench, files
        self.folder = os.path.join(bench.scratch, "db")
        self.ready = {}  # contestant: (server, what ends it)

    def say(self, what):
        print(f"{time.strftime('%T')} db, round {self.bench.round}: {what}", flush=True)

    def take(self, contestant, key, value):
        print(f"  {key} {value:.4g}", flush=True)
        self.bench.add(contestant, key, value)

    def measure(self, contestants):
        number = self.bench.round
        self.ready = {}
        try:
            for contestant in contestants[::-1] if int(number) % 2 == 0 else contestants:
                self.attempt(contestant, self.start) or self.attempt(contestant, self.start)
            for part in range(PASSES):
                self.bench.round = f"{number}.{part + 1}"
                for load in LOADS:
                    self.each(self.load, *load[:3], reverse=part % 2)
            if number == "1":
                for load in LOADS:
                    self.each(self.sources, *load[:3])
        finally:
            for contestant in contestants:
                self.end(contestant)
            self.bench.round = number

    def attempt(self, contestant, what, *arguments):
        try:
            what(contestant, *arguments)
            return True
        except FAILURES as why:
            print(f"  {contestant.name} failed: {str(why)[:600]}", flush=True)
            self.bench.failed = True
            self.end(contestant)
            return False

    def each(self, what, *arguments, reverse=False):
        """The emulator under the rig loses a guest now and then: one that is lost starts anew, and misses one load."""
        for contestant in sorted(self.ready, key=lambda c: c.name, reverse=reverse):
            self.say(contestant.name)
            self.only(contestant)
            if not self.attempt(contestant, what, *arguments):
                self.attempt(contestant, self.start)

    def only(self, contestant):
        """Lets one run, and the others stand still."""
        for other, (server, _) in self.ready.items():
            if other is not contestant:
                server.hold()
        if contestant in self.ready:
            self.ready[contestant][0].release()
            time.sleep(0.5)

    def start(self, contestant):
        self.say(f"{contestant.name} starts")
        self.only(contestant)
        folder = os.path.join(self.folder, contestant.name)
        server = Bare(self.files, folder) if contestant.name == BARE else Machine(contestant, self.files, folder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(server)
            try:
                server.stages(lambda key, value: self.take(contestant, key, value))
                server.prepare(self.bench.options.seconds)
            except FAILURES as why:
                raise RuntimeError(f"{why}; it said: {server.tail()[-300:]}") from why
            self.ready[contestant] = server, stack.pop_all()

    def end(self, contestant):
        if contestant in self.ready:
            self.ready.pop(contestant)[1].close()

    def load(self, contestant, name, script, threads):
        server = self.ready[contestant][0]
        before = exits(server.pid) if server.pid else {}
        count, rate, late = server.load(script, threads, self.bench.options.seconds)
        after = exits(server.pid) if server.pid else {}
        self.take(contestant, f"db_{name}_tps", rate)
        self.take(contestant, f"db_{name}_p99_ms", late)
        if "exits" in after:
            self.take(contestant, f"db_{name}_exits", (after["exits"] - before["exits"]) / count)

    def sources(self, contestant, name, script, threads):
        """Runs of their own: counting by source makes each exit a little dearer."""
        server = self.ready[contestant][0]
        if not server.pid:
            return
        try:
            with Sources(server.pid, server.devices()) as seen:
                count, _, _ = server.load(script, threads, self.bench.options.seconds)
        except OSError as why:
            print(f"  exits are not told by their source here: {why}", flush=True)
            return
        for source, n in seen.parts().items():
            self.bench.add(contestant, f"from_{name}: {source}", n / count)


def material(made):
    """What `Section` reads, by the project's own recipes, as links and one disk in a folder."""
    def recipe(*words):
        return subprocess.run([f"{ROOT}/guest/{words[0]}", *words[1:]], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.strip()
    files = os.path.join(made, "db")
    shutil.rmtree(files, ignore_errors=True)
    os.makedirs(files)
    image = recipe("images/mariadb")
    agent = os.path.join(made, "release", "guest", "agent", "bulkhead-agent")
    for name, target in (("vmlinux", recipe("kernel/build") + "/vmlinux"), ("root.img", recipe("rootfs/build", "--agent", agent)),
                         ("image.tar", image)):
        os.symlink(target, os.path.join(files, name))
    recipe("rootfs/images", os.path.join(files, "docker.img"), image)


def loaded(vmlinux):
    """Bytes of a kernel's segments, as far as the file has them."""
    with open(vmlinux, "rb") as f:
        header = f.read(64)
        at, size, count = int.from_bytes(header[32:40], "little"), *(int.from_bytes(header[i:i + 2], "little") for i in (54, 56))
        f.seek(at)
        segments = [f.read(size) for _ in range(count)]
    return sum(int.from_bytes(s[32:40], "little") for s in segments if s[:4] == b"\1\0\0\0")


def sizes(files):
    """{key of SIZES: MiB}"""
    kernel, root, image = (os.path.join(files, name) for name in ("vmlinux", "root.img", "image.tar"))
    return {"db_kernel_mib": loaded(kernel) / 2**20, "db_root_mib": os.stat(root).st_blocks / 2048,
            "db_image_mib": os.stat(image).st_size / 2**20}
