"""Tests of hot-plug with stock kernels: disks and networks come and go while the guest works, and the host is told the truth.

The guest runs bulkhead-agent; what it does is said by guest.exec over the control socket.
"""
import fcntl
import os
import sys
import threading
import time

from client import Client, Failure, RpcError, check, refused, wait_for

CYCLES = 500


class Guest:
    """A VM with a control socket and the agent in it."""

    def __init__(self, make, env, flavour, *options, cpus=2):
        self.control, self.vsock = (os.path.join(env.scratch, f"hp-{name}") for name in ("control", "vsock"))
        for path in (self.control, self.vsock):
            if os.path.exists(path):
                os.unlink(path)
        self.vm = make(env, flavour, "agent", "--control", self.control, "--vsock", f"cid=3,socket={self.vsock}", *options, cpus=cpus)

    def __enter__(self):
        self.vm.__enter__()
        try:
            self.client = wait_for("the control socket", self.connect, 30)
            wait_for("the agent", self.pings, 120)
        except BaseException:
            self.vm.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.vm.__exit__(*exc)

    def connect(self):
        try:
            return Client(self.control, 120)
        except OSError:
            return None

    def pings(self):
        try:
            return self.client.call("guest.ping")
        except RpcError:
            return None

    def call(self, method, **params):
        try:
            return self.client.call(method, **params)
        except (OSError, RpcError) as why:
            if isinstance(why, RpcError):
                raise
            raise Failure(f"{method}: {why}; {self.vm.tail()}") from why

    def sh(self, script, status=0, timeout_ms=110000):
        answer = self.call("guest.exec", argv=["sh", "-c", script], timeout_ms=timeout_ms)
        check(answer.get("status") == status, f"{script}: {answer}")
        return answer["stdout"].strip()

    def disk_name(self, serial):
        """The guest's name for the disk, or "" where it has none."""
        return self.sh(f"for d in /sys/block/vd*; do [ -e $d ] && [ \"$(cat $d/serial)\" = {serial} ] && echo ${{d##*/}}; done; true")

    def requests(self, disk):
        counters = next(d for d in self.call("disk.list")["disks"] if d["id"] == disk)["counters"]
        check(counters["errors"] == 0, f"errors of {disk}: {counters}")
        return counters["reads"] + counters["writes"]

    def held(self):
        """What the monitor holds: descriptors, threads, and private memory beside the guest's, in KiB."""
        pid = self.vm.process.pid
        with open(f"/proc/{pid}/status") as f:
            threads = next(int(line.split()[1]) for line in f if line.startswith("Threads:"))
        private = size = 0
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                words = line.split()
                if words[0] == "Size:":
                    size = int(words[1])
                elif words[0] == "Private_Dirty:" and size < 128 << 10:  # not the guest's own
                    private += int(words[1])
        return len(os.listdir(f"/proc/{pid}/fd")), threads, private

    def shut_down(self):
        self.vm.process.terminate()
        status = self.vm.wait(60)
        check(status == 0, f"the VM ended with status {status}: {self.vm.tail()}")


def in_order(env, make, flavour):
    """One of each, both ways, twice in the same slot; what the guest uses stays; resize and limits in between."""
    data = env.empty("hp-data.img", 64 << 20)
    with Guest(make, env, flavour) as guest:
        with Client(guest.control, 60) as watcher:
            watcher.call("events.subscribe", types=["device.attached", "device.detached", "job.done", "job.failed"])
            addresses = set()
            for _ in range(2):
                answer = guest.call("disk.attach", path=data, id="data")
                addresses.add(answer["address"])
                name = guest.disk_name("data")
                check(name, "the guest has no disk when the call says that it has")
                check(guest.sh(f"basename $(readlink -f /sys/block/{name}/device/..)") == answer["address"], "the address is another")
                check(guest.sh(f"cat /sys/block/{name}/size") == str((64 << 20) // 512), "the size is another")
                refused("bad_request", "id of disk", guest.call, "disk.attach", path=env.empty("hp-other.img", 1 << 20), id="data")
                refused("bad_request", "file of disk", guest.call, "disk.attach", path=data, id="again")
                guest.call("disk.detach", id="data")
                check(not guest.disk_name("data"), "the guest has the disk when the call says that it is gone")
                check(not [d for d in guest.call("disk.list")["disks"] if d["id"] == "data"], "the disk is still listed")
            check(len(addresses) == 1, f"the slot was not used again: {addresses}")
            with open(data, "r+b") as f:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else holds it any more
            # A disk in use: refused when the time is up, in words, and usable; free again: it goes.
            guest.call("disk.attach", path=data, id="data")
            name = guest.disk_name("data")
            guest.sh(f"mke2fs -q /dev/{name} && mkdir -p /mnt && mount -t ext4 /dev/{name} /mnt && echo before >/mnt/file")
            error = refused("guest_timeout", "mounted at /mnt", guest.call, "disk.detach", id="data", timeout_ms=1500)
            check("stays attached" in error.message, error.message)
            guest.sh(f"echo after >>/mnt/file && sync && umount /mnt && mount -t ext4 /dev/{name} /mnt && [ $(wc -l </mnt/file) = 2 ]")
            done = []
            waiting = threading.Thread(target=lambda: done.append(Client(guest.control, 60).call("disk.detach", id="data")))
            waiting.start()
            time.sleep(1)
            running = [j for j in guest.call("job.list")["jobs"] if j["state"] == "running"]
            check([j["params"]["id"] for j in running if j["method"] == "disk.detach"] == ["data"], f"jobs: {running}")
            guest.sh("umount /mnt")
            waiting.join(30)
            check(done == [{"id": "data"}], f"a detach that waited for the guest: {done}")
            # Called back: all as it was.
            guest.call("disk.attach", path=data, id="data")
            name = guest.disk_name("data")
            guest.sh(f"mount -t ext4 /dev/{name} /mnt")
            number = Client(guest.control, 60).send("disk.detach", id="data")
            job = wait_for("the job", lambda: [j for j in guest.call("job.list")["jobs"] if j["state"] == "running"])[0]
            guest.call("job.cancel", job=job["job"])
            job = guest.call("job.list", job=job["job"])["jobs"][0]
            check(job["state"] == "failed" and job["error"]["data"]["kind"] == "cancelled", f"a cancelled job, call {number}: {job}")
            guest.sh("cat /mnt/file && umount /mnt")
            guest.call("disk.resize", id="data", size=96 << 20)
            wait_for("the new size", lambda: guest.sh(f"cat /sys/block/{name}/size") == str((96 << 20) // 512))
            guest.call("disk.detach", id="data")
            while [n["method"] for n in watcher.notes].count("device.detached") < 4:
                watcher.pump()
            check([n["method"] for n in watcher.notes].count("device.attached") == 4, "events of attaches are missing")
        guest.shut_down()


# Behind its end dd would make a file of the disk's name.
WRITER = """d=$1; n=$2; while printf 'record %08d ' $n | dd of=/dev/$d bs=4096 seek=$((n % 4096)) count=1 conv=notrunc,sync oflag=direct 2>/dev/null; do
[ -b /dev/$d ] || exec rm -f /dev/$d
echo $n >>/tmp/taken; n=$((n + 1)); done"""


def under_load(env, make, flavour):
    """A disk is taken from under four writers that do not claim it: all that was taken from them is in the file, and the guest lives."""
    image = env.empty("hp-pulled.img", 4096 * 4096)
    with Guest(make, env, flavour) as guest:
        guest.sh("cat >/tmp/writer <<'END'\n" + WRITER + "\nEND\n")
        for turn in range(5):
            guest.call("disk.attach", path=image, id="pulled")
            name = guest.disk_name("pulled")
            guest.sh("rm -f /tmp/taken; for w in 0 1 2 3; do "
                     f"setsid sh /tmp/writer {name} $((w * 1024 + {turn} * 200)) </dev/null >/dev/null 2>&1 & done; "
                     "while [ $(cat /tmp/taken 2>/dev/null | wc -l) -lt 40 ]; do sleep 0.05; done")
            guest.call("disk.detach", id="pulled", force=True)
            taken = [int(n) for n in guest.sh("sleep 0.2; cat /tmp/taken").split()]
            with open(image, "rb") as f:
                for n in taken:
                    f.seek(n % 4096 * 4096)
                    check(f.read(16) == b"record %08d " % n, f"turn {turn}: record {n} was taken and is lost")
            check(len(taken) >= 40, f"only {len(taken)} records")
        guest.shut_down()


def network(env, make, flavour, tap):
    with tap("tapplug"):
        with Guest(make, env, flavour) as guest:
            for _ in range(3):
                answer = guest.call("net.attach", tap="tapplug", id="lan", mac="02:00:00:00:00:77")
                name = guest.sh(f"ls /sys/bus/pci/devices/{answer['address']}/virtio*/net")
                check(guest.sh(f"cat /sys/class/net/{name}/address") == "02:00:00:00:00:77", "another address")
                guest.sh(f"ip addr add 10.9.0.2/24 dev {name} && ip link set {name} up && ping -c 2 -W 5 10.9.0.1")
                guest.call("net.detach", id="lan")
                check(name not in guest.sh("ls /sys/class/net").split(), "the guest has the network when it should be gone")
            guest.shut_down()


def many(env, make, flavour):
    """24 disks at once, each with its own data; then none."""
    with Guest(make, env, flavour) as guest:
        images = {f"d{i}": env.empty(f"hp-{i}.img", 1 << 20) for i in range(24)}
        for i, path in enumerate(images.values()):
            with open(path, "r+b") as f:
                f.write(b"disk %d\n" % i)
        clients = [Client(guest.control, 120) for _ in images]
        numbers = [c.send("disk.attach", path=path, id=name) for c, (name, path) in zip(clients, images.items())]
        slots = {c.answer(n)["address"] for c, n in zip(clients, numbers)}
        check(len(slots) == 24, f"24 disks in {len(slots)} slots")
        found = guest.sh("for d in /sys/block/vd*; do echo $(cat $d/serial) $(head -n 1 /dev/${d##*/}); done").splitlines()
        check(sorted(found) == sorted(f"d{i} disk {i}" for i in range(24)), f"the guest has {found}")
        numbers = [c.send("disk.detach", id=name) for c, name in zip(clients, images)]
        for c, n in zip(clients, numbers):
            c.answer(n)
        check(guest.sh("ls /sys/block | grep -c vd || true") == "0", "disks are left in the guest")
        guest.shut_down()


def batch(env, make, flavour):
    a, b, c = (env.empty(f"hp-b{i}.img", 1 << 20) for i in range(3))
    attach = [{"method": "disk.attach", "params": {"path": path, "id": name}} for path, name in ((a, "a"), (b, "b"), (c, "c"))]
    with Guest(make, env, flavour) as guest:
        refused("not_found", r"calls\[3\]", guest_batch, guest, attach + [
            {"method": "disk.attach", "params": {"path": "/nonexistent", "id": "d"}}])
        check(guest.call("disk.list")["disks"] == [] and guest.sh("ls /sys/block | grep vd || true") == "", "something is left of a batch")
        guest_batch(guest, attach)
        slots = {d["id"]: d["address"] for d in guest.call("disk.list")["disks"]}
        # Detaches are undone too, into the same slots; the file is free for the attach behind its detach.
        refused("not_found", r"calls\[2\]", guest_batch, guest, [
            {"method": "disk.detach", "params": {"id": "b"}},
            {"method": "disk.attach", "params": {"path": b, "id": "other"}},
            {"method": "disk.detach", "params": {"id": "none"}}])
        check({d["id"]: d["address"] for d in guest.call("disk.list")["disks"]} == slots, "a detach was not undone")
        check(len(guest.sh("for d in /sys/block/vd*; do echo $(cat $d/serial); done").split()) == 3, "the guest has not three disks")
        refused("bad_request", r"calls\[1\]\.params", guest_batch, guest, attach[:1] + [{"method": "disk.attach", "params": {"id": "x"}}])
        guest_batch(guest, [{"method": "disk.detach", "params": {"id": name}} for name in "abc"])
        check(guest.call("disk.list")["disks"] == [], "disks are left")
        guest.shut_down()


def guest_batch(guest, calls):
    return guest.call("batch", calls=calls)


def cycles(env, make, flavour):
    """The same slot again and again, with writes to verify before each detach, beside a disk under load all the while."""
    steady, moving = env.empty("hp-steady.img", 32 << 20), env.empty("hp-moving.img", 8 << 20)
    with Guest(make, env, flavour, "--disk", f"path={steady},id=steady") as guest:
        name = guest.disk_name("steady")
        guest.sh(f"setsid fio --name=load --filename=/dev/{name} --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=4 --rate_iops=200 "
                 "--time_based --runtime=3600 </dev/null >/tmp/load 2>&1 & sleep 3")  # what has no session of its own yet ends with the shell
        wait_for("the load", lambda: guest.requests("steady") > 100, 60)
        before, started = None, guest.requests("steady")
        for cycle in range(CYCLES):
            address = guest.call("disk.attach", path=moving, id="moving")["address"]
            check(address == "0000:00:03.0", f"cycle {cycle}: the slot is {address}")
            word = f"cycle-{cycle:06d}"
            guest.sh(f"d=$(basename /sys/bus/pci/devices/{address}/virtio*/block/*) && "
                     f"yes {word} | dd of=/dev/$d bs=64k count=4 iflag=fullblock seek={cycle % 32} 2>/dev/null")  # no flush: the detach brings it
            guest.call("disk.detach", id="moving")
            if cycle % 10 == 0:  # a rig that is lost is told from a slow one by its silence
                print(time.strftime("%T"), "cycle", cycle, guest.held(), file=sys.stderr, flush=True)
            with open(moving, "rb") as f:
                f.seek((cycle % 32) << 16)
                check(f.read(256 << 10).startswith(f"{word}\n".encode()), f"cycle {cycle}: what was written is not in the file")
            if cycle == 300:  # as many events and jobs as are kept
                before = guest.held()
        after = guest.held()
        check(after[0] <= before[0] + 1 and after[1] <= before[1], f"descriptors, threads after 300 cycles {before}, after all {after}")
        check(after[2] < before[2] + 256, f"KiB of private memory after 300 cycles {before[2]}, after all {after[2]}")
        check(guest.requests("steady") > started + CYCLES, "there was no load beside it: " + guest.sh("cat /tmp/load; ps | grep fio"))
        guest.shut_down()


def tests(make, tap):
    for flavour in ("6.1", "6.12"):
        yield f"a disk comes and goes in {flavour}, and stays where it is in use", in_order, (make, flavour)
        yield f"500 disks come and go in one slot of {flavour}, under load, and nothing is lost or left", cycles, (make, flavour)
    yield "a disk is taken from under its writers, and what they were told is written is", under_load, (make, "6.12")
    yield "a network comes and goes", network, (make, "6.1-cloud", tap)
    yield "24 disks come at once, and go", many, (make, "6.1-cloud")
    yield "a batch is done whole or not at all", batch, (make, "6.1-cloud")
