"""vCPUs and memory that come and go, with a guest that plays the ACPI methods' part: see guest/payloads/test_hotplug.c."""
import socket
import subprocess

from harness import VM, Failure, RpcError, check, refused, test, wait_for
import gdb as debugger


class Console:
    """What a guest prints, line by line."""

    def __init__(self, vm):
        self.socket, self.text = socket.socket(socket.AF_UNIX), b""
        self.socket.settimeout(60)
        self.socket.connect(vm.console)  # of a VM that is not started yet: nothing is missed
        vm.call("vm.start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def expect(self, line):
        """The line must come; what was before it is done with. A guest that says FAIL has failed."""
        wanted = line.encode() + b"\n"
        while wanted not in self.text.replace(b"\r", b""):
            piece = self.socket.recv(4096)
            check(piece and b"FAIL" not in self.text + piece, f"instead of '{line}': {(self.text + piece)[-300:]!r}")
            self.text += piece
        self.text = self.text.replace(b"\r", b"").split(wanted, 1)[1]


def symbol(path, name):
    lines = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return next(int(line.split()[0], 16) for line in lines if line.split()[-1] == name)


def cpus_of(vm):
    return vm.call("vm.info")["config"]["cpus"]["count"]


@test("vCPUs come when the guest has taken them, start, go when it lets go of them, and then stand still")
def _(env):
    with VM(env, "--cpus", "1,max=4", paused=True, does="hotplug_cpus") as vm, Console(vm) as console, vm.client(60) as client:
        console.expect("ready")
        for _ in range(3):
            check(client.call("cpu.resize", count=2) == {"count": 2}, "2 vCPUs")
            console.expect("processor 1 came")
            check(client.call("cpu.resize", count=3) == {"count": 3}, "3 vCPUs")
            console.expect("processor 2 came")
            check(cpus_of(vm) == 3 and "bulkhead_vcpus 3" in client.call("metrics.get"), "3 vCPUs as they are told of")
            check(client.call("cpu.resize", count=1) == {"count": 1} and cpus_of(vm) == 1, "1 vCPU")
            console.expect("processor 1 went")
            console.expect("processor 2 went")
        check(client.call("cpu.resize", count=4)["count"] == 4, "4 vCPUs")
        check(client.call("cpu.resize", count=4)["count"] == 4, "as many as there are")
        client.call("vm.reset")
        console.expect("ready")
        check(cpus_of(vm) == 4, "after a reset the guest begins with the vCPUs that it had")


@test("vCPUs that the guest refuses, or to let go of, leave all as it was, and it can be asked again")
def _(env):
    with VM(env, "--cpus", "1,max=3", paused=True, does="hotplug_cpus does=refuse") as vm, Console(vm) as console, vm.client() as client:
        console.expect("ready")
        for _ in range(3):
            refused("guest_refused", "it has 1 vCPU$", client.call, "cpu.resize", count=3)
            check(cpus_of(vm) == 1, "refused vCPUs")
    with VM(env, "--cpus", "1,max=3", paused=True, does="hotplug_cpus does=keep") as vm, Console(vm) as console, vm.client() as client:
        console.expect("ready")
        client.call("cpu.resize", count=3)
        for _ in range(3):
            refused("guest_refused", "it has 3 vCPUs$", client.call, "cpu.resize", count=2)
            check(cpus_of(vm) == 3, "kept vCPUs")


def tell(client, count, has):
    """Ask until the guest has read it, which it then does only after more time than there is: it `has` as many as before."""
    for _ in range(60):
        words = f"in time; it has {has} vCPU"
        if refused("guest_timeout", words, client.call, "cpu.resize", count=count, timeout_ms=500).message.endswith("may still do it)"):
            return
    raise Failure("the guest reads nothing")


@test("what the guest was told of when its time was up counts when it does it after all, and is awaited by who asks again")
def _(env):
    with VM(env, "--cpus", "1,max=3", paused=True, does="hotplug_cpus does=late") as vm, Console(vm) as console, vm.client(60) as client:
        console.expect("ready")
        for late, other in ((2, 1), (1, 2)):
            tell(client, late, has=other)
            wait_for("the guest to do it after all", lambda late=late: cpus_of(vm) == late)
            # The guest sees that its vCPU stands still before the next request lets it run again.
            console.expect("processor 1 came" if late == 2 else "processor 1 went")
        tell(client, 2, has=1)
        check(client.call("cpu.resize", count=2, timeout_ms=20000) == {"count": 2}, "asked again")
        tell(client, 3, has=2)
        client.call("vm.reset")
        console.expect("ready")
        check(cpus_of(vm) == 2, "a reset forgets what was not done")


@test("a guest that knows no hot-plug, or cannot act, gets no vCPUs, and the call says why")
def _(env):
    with VM(env, "--cpus", "1,max=2") as vm, vm.client() as client:
        refused("guest_timeout", "in time; it has 1 vCPU$", client.call, "cpu.resize", count=2, timeout_ms=200)
        number = client.send("cpu.resize", count=2, timeout_ms=60000)
        wait_for("the change to begin", lambda: refuses_second(vm))
        vm.call("vm.reset")
        refused("wrong_state", "reset", client.answer, number)
        number = client.send("cpu.resize", count=2, timeout_ms=60000)
        wait_for("the change to begin", lambda: refuses_second(vm))
        vm.call("vm.kill")
        refused("wrong_state", "ended", client.answer, number)
    with VM(env, "--cpus", "1,max=2", paused=True) as vm, vm.client() as client:
        refused("wrong_state", "created", client.call, "cpu.resize", count=2)
        refused("bad_request", "more than cpus.max, 2", client.call, "cpu.resize", count=3)
        refused("bad_request", "count", client.call, "cpu.resize", count=0)
    with VM(env, "--cpus", "2") as vm, vm.client() as client:
        refused("wrong_state", "they stay.*max=", client.call, "cpu.resize", count=1)
        refused("bad_request", "more than cpus.max", client.call, "cpu.resize", count=3)
        check(client.call("cpu.resize", count=2) == {"count": 2}, "as many as there are")


def job_of(client, number=None):
    jobs = client.call("job.list", **({"job": number} if number else {}))["jobs"]
    return jobs[-1] if jobs else None


@test("a change is a job: it can be called back, and goes on when its client is killed")
def _(env):
    with VM(env, "--cpus", "1,max=2", "--memory", "64M,max=320M") as vm, vm.client() as client, vm.client() as other:
        for method, params, has in (("cpu.resize", {"count": 2}, "it has 1 vCPU"), ("memory.resize", {"size": "192M"}, "it has 64")):
            before = (job_of(other) or {"job": 0})["job"]
            number = client.send(method, timeout_ms=60000, **params)
            job = wait_for("the job", lambda: (job_of(other) or {"job": 0})["job"] > before and job_of(other))
            check(job["method"] == method and job["state"] == "running", f"{job}")
            other.call("job.cancel", job=job["job"])
            refused("cancelled", f"cancelled; {has}", client.answer, number)
            refused("wrong_state", "has ended", other.call, "job.cancel", job=job["job"])
            gone = vm.client()
            gone.send(method, timeout_ms=300, **params)  # at once: what was called back is over
            job = wait_for("the job", lambda: job_of(other)["job"] > job["job"] and job_of(other))
            gone.socket.close()
            job = wait_for("its end", lambda: job_of(other, job["job"])["state"] != "running" and job_of(other, job["job"]))
            check(job["state"] == "failed" and job["error"]["data"]["kind"] == "guest_timeout", f"{job}")


def refuses_second(vm):
    try:
        vm.call("cpu.resize", count=1)  # as it is: what is under way is all that can stand against it
    except RpcError as error:
        return "under way" in error.message
    return False


@test("a vCPU that comes while a debugger is there knows its breakpoints")
def _(env):
    with VM(env, "--cpus", "1,max=2", "--gdb", f"unix:{env.work}/gdb", paused=True, does="hotplug_cpus") as vm, \
            Console(vm) as console, vm.client(60) as client:
        console.expect("ready")
        place = symbol(f"{env.payloads}/tests.elf", "ap_start")
        with debugger.connect(f"{env.work}/gdb") as gdb:
            check(gdb.threads() == [1], "a vCPU too many")
            gdb.must(f"Z1,{place:x},1")
            gdb.go()
            number = client.send("cpu.resize", count=2)
            check(gdb.wait_stop() == (5, 2, {"hwbreak": ""}) and gdb.pc(2) == place, "the new one did not come to the breakpoint")
            check(gdb.threads() == [1, 2], "it is no thread")
            gdb.must(f"z1,{place:x},1")
            gdb.go()
            check(client.answer(number) == {"count": 2}, "2 vCPUs")
            console.expect("processor 1 came")


@test("who asked for vCPUs may go; the change goes on, and the next can follow it")
def _(env):
    with VM(env, "--cpus", "1,max=2") as vm, vm.client() as client:
        with vm.client() as gone:
            gone.send("cpu.resize", count=2, timeout_ms=5000)
            wait_for("the change to begin", lambda: refuses_second(vm))
        wait_for("the change to end", lambda: not refuses_second(vm))
        refused("guest_timeout", "it has 1 vCPU$", client.call, "cpu.resize", count=2, timeout_ms=50)


def memory_of(vm):
    return vm.call("vm.info")["config"]["memory"]["size"]


@test("memory comes when the guest has taken it, goes when it lets go of it, and the host has its pages back")
def _(env):
    mib = 1 << 20
    with VM(env, "--memory", "64M,max=576M", paused=True, does="hotplug_memory") as vm, Console(vm) as console, vm.client(60) as client:
        console.expect("ready with 4000000")
        for _ in range(3):
            before = vm.rss_kib()
            check(client.call("memory.resize", size="320M") == {"size": 320 * mib}, "320 MiB")
            console.expect("slot 0 came")
            console.expect("slot 1 came")
            check(memory_of(vm) == 320 * mib and f"bulkhead_memory_bytes {320 * mib}" in client.call("metrics.get"), "320 MiB as told")
            check(vm.rss_kib() > before, "what was written is nowhere")
            check(client.call("memory.resize", size="64M") == {"size": 64 * mib} and memory_of(vm) == 64 * mib, "64 MiB")
            console.expect("slot 0 went")
            console.expect("slot 1 went")
            check(vm.rss_kib() < before + 1024, f"{before} KiB before, {vm.rss_kib()} after")
        check(client.call("memory.resize", size="576M")["size"] == 576 * mib, "all there can be")
        refused("bad_request", "more than memory.max", client.call, "memory.resize", size="577M")
        refused("bad_request", "less than what the VM was started with", client.call, "memory.resize", size="32M")
        refused("bad_request", "steps of 128 MiB, from 64 MiB to 576", client.call, "memory.resize", size="128M")
        client.call("vm.reset")
        console.expect("ready with 120000000")  # it is plain RAM then: the map names it
        check(memory_of(vm) == 576 * mib, "after a reset")
        check(client.call("memory.resize", size="448M")["size"] == 448 * mib, "448 MiB")
        console.expect("slot 3 went")
        client.call("vm.reset")
        console.expect("ready with 118000000")


@test("memory that the guest keeps stays its own, and memory that it does not take is no memory of its")
def _(env):
    with VM(env, "--memory", "64M,max=320M", paused=True, does="hotplug_memory does=keep") as vm, Console(vm) as console, vm.client(60) as client:
        console.expect("ready with 4000000")
        client.call("memory.resize", size="320M")
        for _ in range(3):
            refused("guest_refused", "it has 320 MiB$", client.call, "memory.resize", size="64M")
        check(memory_of(vm) == 320 << 20, "memory that is kept")
    with VM(env, "--memory", "64M,max=320M") as vm, vm.client() as client:
        refused("guest_timeout", "it has 64 MiB$", client.call, "memory.resize", size="192M", timeout_ms=200)
        check(memory_of(vm) == 64 << 20, "memory that was not taken")
    with VM(env) as vm, vm.client() as client:
        check(client.call("memory.resize", size="64M") == {"size": 64 << 20}, "as much as there is")
        refused("bad_request", "more than memory.max", client.call, "memory.resize", size="192M")
