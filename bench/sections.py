"""The bench: each of its sections measures one monitor once; rounds repeat them in turn."""
import json
import os
import shutil
import subprocess
import tempfile
import time

import control
import database
import plug
import snapshots
from material import cache_folder
from measure import Process, cpu_ns, exits, memory_beside_guest, system_calls
from monitors import Bulkhead, Guest, QemuMicrovm, QemuQ35
from rows import COUNTING, FLAVOURS, LOCAL, ROWS, SIZES, TOGETHER, contestants
from server import Bare


class Bench:
    def __init__(self, options, made):
        self.options, self.made = options, made
        self.monitors = [Bulkhead(options.bulkhead), QemuMicrovm(), QemuQ35(), Bare]
        if options.monitor:
            self.monitors = [m for m in self.monitors if m.name in options.monitor]
        self.figures = {m.name: {} for m in self.monitors}
        self.failed = self.counting = False
        self.database = None
        self.round = "1"
        base = "/scratch" if os.path.ismount("/scratch") else "/var/tmp"
        self.scratch = tempfile.mkdtemp(prefix="bulkhead-bench-", dir=base)

    def kernel(self, flavour):
        """A copy on this host's own disk, in its page cache, for every monitor alike."""
        path = os.path.join(self.scratch, f"vmlinux-{flavour}")
        if not os.path.exists(path):
            subprocess.run(["cp", "--sparse=always", os.path.join(cache_folder(), "kernels", flavour, "vmlinux"), path],
                           check=True)
        return path

    def copied(self, name):
        path = os.path.join(self.scratch, name)
        if not os.path.exists(path):
            shutil.copy(os.path.join(self.made, name), path)
        return path

    def add(self, monitor, key, value):
        if key.startswith("from_") or any(key == row[0] for row in ROWS + SIZES):
            self.figures[monitor.name].setdefault(key, {})[self.round] = value

    def work(self, bench, **more):
        words = f"console=ttyS0 panic=-1 reboot=t quiet bench={bench} seconds={self.options.seconds}"
        words += f" requests={more.pop('requests', 0)}"
        disks = ((self.copied("tools.img"), "tools", True), *more.pop("disks", ()))
        return Guest(self.kernel("6.1-cloud"), self.copied("initrd-work"), words, memory=512, disks=disks, **more)

    # ---- sections: each measures one monitor once ----

    def start(self, monitor):
        with Process(monitor.command(Guest(self.copied("first.elf")))) as p:
            self.add(monitor, "first_ms", p.wait_for(b"!", 120) * 1000)
        with Process(monitor.command(Guest(self.copied("first.elf"), paused=True))) as p:
            p.settle()
            self.add(monitor, "bare_cpu_ms", cpu_ns(p.pid) / 1e6)
        command = monitor.command(Guest(self.kernel("6.1-cloud"), paused=True))
        with Process(command) as p:
            p.settle()
            self.add(monitor, "start_cpu_ms", cpu_ns(p.pid) / 1e6)
            pss, dirty = memory_beside_guest(p.pid, 512)
            self.add(monitor, "start_pss_kib", pss)
            self.add(monitor, "start_dirty_kib", dirty)
        self.add(monitor, "start_calls", system_calls(command))

    def control(self, monitor):
        control.measure(self, monitor)

    def booted(self, flavour):
        return Guest(self.kernel(flavour), self.copied("initrd-idle"), "console=ttyS0 panic=-1 reboot=t quiet",
                     memory=256)

    def boot(self, monitor):
        for flavour in FLAVOURS:
            with Process(monitor.command(self.booted(flavour))) as p:
                self.add(monitor, f"boot_{flavour}_s", p.wait_for(b"BENCH init", 180))
                self.add(monitor, f"boot_{flavour}_cpu_s", cpu_ns(p.pid) / 1e9)
                self.add(monitor, f"boot_{flavour}_exits", exits(p.pid).get("exits", 0))
                pss, dirty = memory_beside_guest(p.pid, 256)
                self.add(monitor, f"boot_{flavour}_pss_kib", pss)
                self.add(monitor, f"boot_{flavour}_dirty_kib", dirty)

    def count(self, monitor):
        with Process(monitor.command(Guest(self.kernel("6.1-cloud"), paused=True))) as p:
            p.settle()
            self.add(monitor, "count_start_minsn", cpu_ns(p.pid) / 1e6)
        for flavour in FLAVOURS:
            with Process(monitor.command(self.booted(flavour))) as p:
                seconds = p.wait_for(b"BENCH init", 600)
                # One a virtual nanosecond. Not the time that went by: the clock runs on while a file is waited for.
                self.add(monitor, f"count_{flavour}_minsn", cpu_ns(p.pid) / 1e6)
                found = exits(p.pid)
                self.add(monitor, f"count_{flavour}_exits", found.get("exits", 0))
                self.add(monitor, f"count_{flavour}_port_exits", found.get("io_exits", 0))
                self.add(monitor, f"count_{flavour}_faults", found.get("pf_taken", 0))
                print(f"  {flavour}: {seconds:.3f} s, {found}", flush=True)

    def results(self, monitor, p, take):
        """Follow the guest's lines to the end; exits are counted from a begin to its end."""
        before, spent = {}, 0
        while True:
            # Seconds of this host's clock: one that counts instructions goes fast while nothing happens, slowly else.
            words = p.line(4 if self.counting else 60).split()
            if words[:2] == ["BENCH", "begin"]:
                before = exits(p.pid)
            elif words[:2] == ["BENCH", "end"]:
                after = exits(p.pid)
                spent = after.get("exits", 0) - before.get("exits", 0)
                kinds = {name: after[name] - before.get(name, 0) for name in after}
                print(f"  {words[2]}: exits {kinds}", flush=True)
            elif words[:1] == ["RESULT"] and len(words) == 3:
                take(monitor, words[1], float(words[2]), spent)
            elif words == ["BENCH", "done"]:
                return
            elif words:
                print("  guest: " + " ".join(words), flush=True)

    def timed(self, monitor, key, value, spent):
        self.add(monitor, key, value)
        if key.endswith(("iops", "mbit", "us")):
            print(f"  {key} {value}", flush=True)

    def counted(self, monitor, key, value, spent):
        """Rates by the guest's clock, which counts instructions, one a nanosecond: a rate is a path's length."""
        name, _, unit = key.rpartition("_")
        requests = self.REQUESTS
        if not value:
            return
        if unit == "us":
            self.add(monitor, f"path_{name}_kinsn", value)
        elif unit == "mbit":
            self.add(monitor, f"path_{name}_kinsn", 8.388608 / value * 1e6)
            self.add(monitor, f"path_{name}_exits", spent / (requests // 16))
        elif unit == "iops":
            each = requests // 8 if name.endswith("1m") else requests
            self.add(monitor, f"path_{name}_kinsn", 1e6 / value)
            self.add(monitor, f"path_{name}_exits", spent / each)
            print(f"  {name}: {1e6 / value:.1f} thousand instructions, {spent / each:.2f} exits", flush=True)

    def with_disk(self, monitor, disk, take, requests=0):
        guest = self.work("block", disks=((disk, "bench", False),), requests=requests)
        with Process(monitor.command(guest)) as p:
            self.results(monitor, p, take)

    def with_tap(self, monitor, take, requests=0):
        tap = "tapbench"
        subprocess.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr"], check=True)
        server = None
        try:
            subprocess.run(["ip", "addr", "add", "10.9.0.1/24", "dev", tap], check=True)
            subprocess.run(["ip", "link", "set", tap, "up"], check=True)
            server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
            with Process(monitor.command(self.work("network", tap=tap, requests=requests))) as p:
                self.results(monitor, p, take)
        finally:
            if server:
                server.kill()
                server.wait()
            subprocess.run(["ip", "link", "del", tap], check=False)

    def block(self, monitor):
        disk = os.path.join(self.scratch, "disk.img")
        if not os.path.exists(disk):
            subprocess.run(["dd", "if=/dev/urandom", f"of={disk}", "bs=1M", "count=128"], check=True,
                           stderr=subprocess.DEVNULL)
        self.with_disk(monitor, disk, self.timed)

    def network(self, monitor):
        self.with_tap(monitor, self.timed)

    REQUESTS = 1024

    def paths(self, monitor):
        """A disk that answers at once: the emulated machine never idles, so that its time is instructions only."""
        if not os.path.exists("/dev/ram0"):
            subprocess.run(["modprobe", "brd", "rd_nr=1", "rd_size=131072"], check=True)
            # Pages never written are read and written another way: the first monitor would have it harder.
            subprocess.run(["dd", "if=/dev/zero", "of=/dev/ram0", "bs=1M", "count=128"], check=True,
                           stderr=subprocess.DEVNULL)
        self.failed |= not self.attempt(self.with_disk, monitor, "/dev/ram0", self.counted, self.REQUESTS)
        self.failed |= not self.attempt(self.with_tap, monitor, self.counted, self.REQUESTS)

    def db(self, monitors):
        self.database = self.database or database.Section(self, os.path.join(self.made, "db"))
        for key, value in database.sizes(self.database.files).items():
            self.add(monitors[0], key, value)
        self.database.measure(monitors)

    def plug(self, monitors):
        plug.measure(self, monitors)

    def snapshots(self, monitors):
        snapshots.measure(self, monitors)

    def attempt(self, measure, *arguments):
        """Guests under --icount are lost often enough (see tests/rig) that each is tried up to four times."""
        for _ in range(4 if self.counting else 1):
            try:
                measure(*arguments)
                return True
            except (RuntimeError, OSError, subprocess.SubprocessError) as why:
                print(f"  failed: {str(why)[-300:]}", flush=True)
        return False

    def run(self, section):
        self.counting = section in COUNTING
        # Counting needs no second round; starting is quick, and some hosts are slow at giving memory now and then.
        # `snapshots` repeats what can be within its one round: machines of 16 GiB take long to fill.
        rounds = 1 if section in COUNTING + ["snapshots"] else max(5, self.options.rounds) if section in LOCAL else self.options.rounds
        for n in range(rounds):
            self.round = str(n + 1)
            monitors = [m for m in self.monitors if m.name in contestants(section, self.figures)]
            for chosen in [monitors] if section in TOGETHER else monitors:
                name = "" if section in TOGETHER else f": {chosen.name}"
                print(f"{time.strftime('%T')} {section}, round {n + 1} of {rounds}{name}", flush=True)
                self.failed |= not self.attempt(getattr(self, section), chosen)
                save(self.figures, self.options.out)


def save(figures, out):
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, "results.json")
    with open(path + ".new", "w") as f:
        json.dump(figures, f, indent=1)
    os.replace(path + ".new", path)
