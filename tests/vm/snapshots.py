"""Stock kernels that are saved at work and restored: in another process, in the past of their disks, and as clones.

The guest runs bulkhead-agent; what it does is said by guest.exec over the control socket.
"""
import calendar
import os
import shutil
import time

from client import Client, Failure, RpcError, check, wait_for

WORKS = "ps | grep -q '[f]io --name=load'"
NOT_THAWED = "the freeze's time-out came before a thaw"  # what the agent says when it had to thaw by itself
TICK_MS = 4  # a file's time is that of the last tick


class Guest:
    """A VM's control socket and what is behind it. `vm` runs."""

    def __init__(self, vm, control):
        self.vm = vm
        self.client = wait_for("the control socket", lambda: self.connected(control), 60)

    def connected(self, control):
        try:
            return Client(control, 300)
        except OSError:
            return None

    def call(self, method, **params):
        try:
            return self.client.call(method, **params)
        except RpcError:
            raise
        except OSError as why:
            raise Failure(f"{method}: {why}; {self.vm.tail()}") from why

    def pings(self):
        try:
            return self.client.call("guest.ping")
        except RpcError:
            return None

    def sh(self, script, status=0, timeout_ms=110000):
        answer = self.call("guest.exec", argv=["sh", "-c", script], timeout_ms=timeout_ms)
        check(answer.get("status") == status, f"{script}: {answer}")
        return answer["stdout"].strip()

    def awake(self):
        wait_for("the agent", self.pings, 240)
        return self

    def clock(self, looks=8):
        """Between which two values, in ms, the guest's clock is ahead of the host's: each answer comes between two looks at ours."""
        least, most = -1e9, 1e9
        for _ in range(looks):
            before = time.time()
            date, clock = self.sh("touch /tmp/now; stat -c %y /tmp/now").split()[:2]
            after = time.time()
            seconds, fraction = clock.split(".")
            there = calendar.timegm(time.strptime(f"{date} {seconds}", "%Y-%m-%d %H:%M:%S")) + float(f"0.{fraction}")
            least, most = max(least, (there - after) * 1000), min(most, (there - before) * 1000)
        return least, most


def thaws(guest):
    """A guest that is frozen cannot be frozen."""
    try:
        guest.call("guest.freeze")
        guest.call("guest.thaw")
        return True
    except RpcError:
        return False


def options(env, name):
    paths = {what: os.path.join(env.scratch, f"{name}-{what}") for what in ("control", "vsock")}
    return paths, ["--control", paths["control"]]


def restored(vm_class, env, folder, name, *more):
    """A VM of the snapshot; its console is the program's own."""
    paths, words = options(env, name)
    vm = vm_class.__new__(vm_class)
    super(vm_class, vm).__init__(env)
    vm.command = [env.bulkhead, "restore", folder, *words, "--vsock", f"socket={paths['vsock']}", *more]
    return vm, paths


def save_and_restore(env, vm_class, flavour, cpus, memory):
    """A guest whose disk is verified while it is saved goes on in another process with the disk of that moment, and its clock is right."""
    paths, words = options(env, "saved")
    disk = env.image("snapshot.img", 64 << 20)
    folder = os.path.join(env.scratch, f"snapshots-{flavour}")
    os.mkdir(folder)
    with vm_class(env, flavour, "agent", *words, "--vsock", f"cid=3,socket={paths['vsock']}", "--disk", f"path={disk},id=data", cpus=cpus,
                  memory=memory) as vm:
        guest = Guest(vm, paths["control"]).awake()
        clock = guest.clock()
        boot_id = guest.call("guest.ping")["boot_id"]
        guest.sh("dd if=/dev/urandom of=/tmp/noise bs=1M count=32 2>/dev/null; md5sum </tmp/noise >/tmp/sum; echo kept >/tmp/kept")
        guest.sh("setsid fio --name=load --filename=/dev/vda --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=4 --size=16M "
                 "--verify=crc32c --verify_backlog=64 --loops=1000 --rate_iops=300 </dev/null >/tmp/load 2>&1 & sleep 3")  # see plugging.py
        guest.sh(f"{WORKS} || {{ cat /tmp/load; false; }}")
        for number in range(3):
            result = guest.call("snapshot.create", path=f"{folder}/{number}", wait=True, disks="copy", incremental=number > 0)
            check(result["background"] and result["frozen"] in (True, False), f"{result}")
        guest.sh("rm /tmp/kept")  # of a time that the snapshots do not know
        vm.kill()
    time.sleep(3)  # which the guest's clock must make up for
    for number in (0, 2):
        image = os.path.join(env.scratch, f"restored{number}.img")
        vm, paths = restored(vm_class, env, f"{folder}/{number}", f"r{number}", "--disk", f"id=data,path={image}")
        with vm:
            guest = Guest(vm, paths["control"]).awake()
            said = f"dmesg | grep -c \"{NOT_THAWED}\" || true"  # after ten seconds; and what was said while it was saved is still there
            late = guest.sh(said)
            wait_for("the thaw", lambda: thaws(guest), 60)
            check(guest.call("guest.ping")["boot_id"] == boot_id, "it was booted anew")
            check(guest.sh("cat /tmp/kept; md5sum </tmp/noise | cmp - /tmp/sum && echo same") == "kept\nsame", "its memory is another")
            now = guest.clock()
            check(now[0] - clock[1] < 10 + TICK_MS and clock[0] - now[1] < 10 + TICK_MS, f"its clock was {clock} ms ahead, and is {now}")
            load = guest.sh("sleep 2; cat /tmp/load; dmesg | grep -iE 'I/O error|hung|BUG|stall' || true")
            check("verify" not in load and "error" not in load.lower(), load[-600:])
            guest.sh(WORKS)
            check(guest.sh(said) == late, "nobody thawed it")
            lines = guest.sh("cat /sys/block/vda/stat").split()
            check(int(lines[4]) > 0, "nothing was written")
            result = guest.call("snapshot.create", path=f"{folder}/again{number}", wait=True, incremental=True)
            check(result["parent"], f"{result}")
            vm.kill()
        os.unlink(image)
    shutil.rmtree(folder)


def tests(vm_class):
    yield ("6.1 is saved at work, thrice, and goes on from each moment with that moment's disk, its clock right", save_and_restore,
           (vm_class, "6.1", 2, "512M"))
    yield ("6.12 with memory on both sides of the hole is saved at work and goes on too", save_and_restore,
           (vm_class, "6.12", 1, "5G"))
