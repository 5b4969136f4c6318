"""Clones of one snapshot of a stock kernel that run at once: each another guest, all sharing what none has written.

The guest runs bulkhead-agent, which tells each clone who it is; what it became is asked of it over its control socket.
"""
import json
import os
import shutil
import subprocess
import time

from contextlib import ExitStack

from client import check
from snapshots import TICK_MS, Guest, options, restored

GENERATION_ID = 0xdf000  # where the firmware's tables say that it is (LAYOUT_VMGENID)
RESEEDED = "crng reseeded due to virtual machine fork"  # what the kernel says once its random numbers are another guest's
LINES = ("hostname", "machine_id", "mac", "generation_id", "random", "uuid", "reseeded", "disk", "kept")
# The address is the last thing that the agent changes.
LOOK = f"""until [ "$(cat /sys/class/net/eth0/address)" != %s ]; do sleep 0.1; done
hostname; cat /etc/machine-id /sys/class/net/eth0/address
dd if=/dev/mem bs=16 skip={GENERATION_ID // 16} count=1 2>/dev/null | od -An -v -tx1 | tr -d ' '
head -c 32 /dev/urandom | sha256sum
cat /proc/sys/kernel/random/uuid
dmesg | grep -c '{RESEEDED}'
dd if=/dev/vda bs=64k count=16 2>/dev/null | md5sum
cat /tmp/kept"""
MINE = "yes %s | head -c 65536 | dd of=/dev/vda bs=64k seek=1 conv=notrunc,fsync 2>/dev/null; cat /tmp/kept; hostname"
LOOK_AT_MINE = "dd if=/dev/vda bs=64k skip=1 count=1 2>/dev/null | head -n 1"


class Taps:
    """So many persistent taps, without an address: nobody talks."""

    def __init__(self, count):
        self.names = [f"tapclone{number}" for number in range(count)]

    def __enter__(self):
        try:
            for name in self.names:
                subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr"], check=True)
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for name in self.names:
            subprocess.run(["ip", "link", "del", name], check=False)


def generation_id(env, folder):
    done = subprocess.run([env.bulkhead, "inspect", folder, "--state", "--json"], capture_output=True, text=True, check=True)
    return next(s["fields"]["id"] for s in json.loads(done.stdout)["state"] if s["section"] == "vmgenid")


def memory_kib(vm):
    """(proportional, private) set sizes of its process."""
    sizes = {"Pss:": 0, "Private_Clean:": 0, "Private_Dirty:": 0}
    with open(f"/proc/{vm.process.pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.split()[0] in sizes:
                sizes[line.split()[0]] += int(line.split()[1])
    return sizes["Pss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def original(env, vm_class, flavour, folder, tap):
    """Saves a guest; what it was: its answers, and how far its clock was ahead."""
    paths, words = options(env, "original")
    disk = env.image("clones.img", 16 << 20)
    with vm_class(env, flavour, "agent", *words, "--vsock", f"cid=3,socket={paths['vsock']}", "--disk", f"path={disk},id=data",
                  "--net", f"tap={tap},id=net", memory="256M", initrd="hotplug") as vm:
        guest = Guest(vm, paths["control"]).awake()
        guest.sh("mkdir -p /etc; echo 0123456789abcdef0123456789abcdef >/etc/machine-id; hostname original; echo kept >/tmp/kept; "
                 "dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=fsync 2>/dev/null")
        was = dict(zip(LINES, guest.sh(LOOK % "none").splitlines()))
        clock = guest.clock()
        result = guest.call("snapshot.create", path=folder, wait=True, disks="copy")
        vm.kill()
    os.unlink(disk)
    print(f"# the snapshot has {result['bytes'] >> 20} MiB, the guest stood still for {result['pause_ms']['total']:.1f} ms", flush=True)
    return was, clock


def clone(env, vm_class, folder, number, tap):
    name = f"clone{number}"
    vm, paths = restored(vm_class, env, folder, name, "--clone", "--name", name, "--net", f"id=net,tap={tap}",
                         "--disk", f"id=data,path={env.scratch}/{name}.img,base={folder}/disk0-data")
    vm.paths = paths
    return vm


def different(was, answers):
    """No two are one, and none is the original."""
    for what in ("hostname", "machine_id", "mac", "generation_id", "random", "uuid"):
        all_of_them = [was[what]] + [answer[what] for answer in answers]
        check(len(set(all_of_them)) == len(all_of_them), f"{what}: {all_of_them}")
    for number, answer in enumerate(answers):
        check(answer["hostname"] == f"clone{number}", f"clone{number} is called {answer['hostname']}")
        check(int(answer["reseeded"]) == 1, f"clone{number}: its kernel reseeded {answer['reseeded']} times")
        check(answer["disk"] == was["disk"] and answer["kept"] == "kept", f"clone{number} is not of its snapshot: {answer}")


def many(env, vm_class, flavour):
    count = env.numbers["clones"]
    folder = os.path.join(env.scratch, "golden")
    with Taps(count) as taps, ExitStack() as stack:
        was, clock = original(env, vm_class, flavour, folder, taps.names[0])
        check(was["generation_id"] == generation_id(env, folder), f"the original's generation id is not at {GENERATION_ID:#x}")
        time.sleep(3)  # which their clocks must make up for
        started = time.monotonic()
        vms = [stack.enter_context(clone(env, vm_class, folder, number, taps.names[number])) for number in range(count)]
        guests = [Guest(vm, vm.paths["control"]).awake() for vm in vms]
        print(f"# {count} clones answer after {time.monotonic() - started:.1f} s", flush=True)
        different(was, [dict(zip(LINES, guest.sh(LOOK % was["mac"]).splitlines())) for guest in guests])
        for guest in guests:
            now = guest.clock(3)
            check(now[0] - clock[1] < 10 + TICK_MS and clock[0] - now[1] < 10 + TICK_MS, f"the clock was {clock} ms ahead, and is {now}")
        for number, guest in enumerate(guests):
            check(guest.sh(MINE % f"mine{number}") == f"kept\nclone{number}", "it does not go on")
        for number, guest in enumerate(guests):
            check(guest.sh(LOOK_AT_MINE) == f"mine{number}", "it sees what a sibling wrote")
        guests[0].sh("date -s @1500000000")
        guests[0].call("guest.identify", hostname="clone0")
        now = guests[0].clock(3)
        check(abs(now[0]) < 60000, f"a clock that was years off is {now} ms ahead")
        sizes = [memory_kib(vm) for vm in vms]
        whole = sum(os.stat(f"{folder}/{name}").st_blocks // 2 for name in ("memory",))
        print(f"# {count} clones of {whole >> 10} MiB: PSS {sum(s[0] for s in sizes) >> 10} MiB in all, {sum(s[0] for s in sizes) / count / 1024:.1f} "
              f"each; private {min(s[1] for s in sizes) / 1024:.1f} to {max(s[1] for s in sizes) / 1024:.1f} MiB", flush=True)
        check(all(private < whole / 2 for _, private in sizes), f"they do not share: {sizes}")
        for vm in vms:
            vm.kill()
    shutil.rmtree(folder)


def tests(vm_class):
    yield "clones of one snapshot that run at once are all other guests, their clocks right, and share their memory", many, (vm_class, "6.1")
