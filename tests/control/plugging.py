"""Hot-plug as the host sees it: what comes and goes before the start, and what a guest that never answers leaves as it was.

Guests that answer are in tests/vm/plugging.py.
"""
import contextlib
import fcntl
import os
import resource
import signal
import time

from harness import VM, RpcError, check, refused, test, type_and_read, wait_for


def image(vm, name, size=1 << 20):
    path = f"{vm.dir}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def is_free(path):
    """Nobody has it locked."""
    with open(path, "r+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False


def ids(client):
    return [d["id"] for d in client.call("disk.list")["disks"]]


@test("before the start devices come and go at once, in the first free slot, under the first free name")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        a, b = image(vm, "a"), image(vm, "b")
        check(client.call("disk.attach", path=a) == {"id": "disk0", "address": "0000:00:02.0"}, "the first")
        check(client.call("disk.attach", path=b, readonly=True)["id"] == "disk1", "the second")
        check(not is_free(a), "an attached disk is not locked")
        check(client.call("disk.detach", id="disk0") == {"id": "disk0"} and is_free(a), "the file is still held")
        check(client.call("disk.attach", path=a, id="late", iops=7) == {"id": "late", "address": "0000:00:02.0"}, "the slot is not used again")
        disk = [d for d in client.call("disk.list")["disks"] if d["id"] == "late"][0]
        check(disk["iops"] == 7 and disk["path"] == a and disk["size"] == 1 << 20, f"{disk}")
        check([d["id"] for d in client.call("vm.info")["config"]["disk"]] == ["data", "disk1", "late"], "the configuration does not follow")
        client.call("vm.start")
        type_and_read(vm, b"it starts with them\n")


@test("disks on one base come and go, each with a file of its own that is made when it is missing; another base is refused")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        base, other = image(vm, "base"), image(vm, "other", 2 << 20)
        for name in ("a", "b"):
            check(client.call("disk.attach", path=f"{vm.dir}/{name}.overlay", base=base, id=name)["id"] == name, name)
        disks = {d["id"]: d for d in client.call("disk.list")["disks"]}
        check(all(disks[n]["base"] == base and disks[n]["size"] == 1 << 20 for n in "ab"), f"{disks}")
        check(os.stat(f"{vm.dir}/a.overlay").st_blocks <= 64, "an overlay is larger than its header")
        check(client.call("disk.resize", id="a", size="3M")["size"] == 3 << 20, "it does not grow")
        client.call("disk.detach", id="b")
        refused("bad_request", "not the base", client.call, "disk.attach", path=f"{vm.dir}/b.overlay", base=other)
        refused("bad_request", "no overlay", client.call, "disk.attach", path=other, base=base)
        refused("bad_request", "one queue", client.call, "disk.attach", path=f"{vm.dir}/b.overlay", base=base, queues=2)
        refused("no_resource", "in use", client.call, "disk.attach", path=base)
        client.call("vm.start")
        type_and_read(vm, b"it starts with them\n")


@test("a disk that cannot be attached is refused in words, and leaves nothing")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        a = image(vm, "a")
        client.call("vm.info")  # it is let in, after all of the machine was made; who looked whether it listens may still be there
        fds = vm.fds()
        with open(f"{vm.dir}/odd", "wb") as f:
            f.truncate(1000)
        for kind, words, params in (("not_found", "none", {"path": f"{vm.dir}/none"}), ("bad_request", "512|size", {"path": f"{vm.dir}/odd"}),
                                    ("bad_request", "id of disk", {"path": a, "id": "data"}), ("bad_request", "file of disk", {"path": vm.disk}),
                                    ("bad_request", "required|missing|path", {}), ("bad_request", "queues", {"path": a, "queues": 0}),
                                    ("bad_request", "cache", {"path": a, "cachè": "none"})):
            refused(kind, words, client.call, "disk.attach", **params)
        refused("bad_request", "inherited", client.call, "net.attach", fd=5)
        refused("not_found", "no disk 'none'", client.call, "disk.detach", id="none")
        refused("not_found", "no network 'data'", client.call, "net.detach", id="data")
        with VM(env, "--disk", f"path={a},id=other", paused=True):
            started = time.monotonic()
            refused("no_resource", "in use", client.call, "disk.attach", path=a)
            check(time.monotonic() - started < 60, "the main thread waited for a lock")
        check(ids(client) == ["data"] and vm.fds() <= fds, f"left behind: {ids(client)}, {fds} to {vm.fds()} descriptors")


@test("a file that another process holds by a lease is refused: the main thread waits for nobody")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client, open(image(vm, "a"), "r+b") as file:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for it back; who waited would have it, later
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        for readonly in (False, True):
            refused("no_resource", "lease", client.call, "disk.attach", path=file.name, readonly=readonly)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        signal.signal(signal.SIGIO, before)
        check(client.call("disk.attach", path=file.name)["id"] == "disk0", "it is free again")
        os.mkfifo(f"{vm.dir}/pipe")
        for readonly in (False, True):
            refused("bad_request", "a pipe", client.call, "disk.attach", path=f"{vm.dir}/pipe", readonly=readonly)


@test("as many devices as there are slots, and one more is refused")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        for i in range(27):
            client.call("disk.attach", path=image(vm, f"disk-{i}"))
        refused("no_resource", "no more fit", client.call, "disk.attach", path=image(vm, "last"))
        for i in range(27):
            client.call("disk.detach", id=f"disk{i}")
        check(ids(client) == ["data"], f"{ids(client)}")


@test("what is attached leaves the descriptors that a reset needs")
def _(env):
    with VM(env, paused=True, limits=[(resource.RLIMIT_NOFILE, 60)]) as vm, vm.client() as client:
        attached = 0
        for i in range(27):
            try:
                client.call("disk.attach", path=image(vm, f"disk-{i}"))
                attached += 1
            except RpcError as error:
                check(error.kind == "no_resource" and "RLIMIT_NOFILE" in error.message, error.message)
        check(0 < attached < 27, f"{attached} disks")
        client.call("vm.start")
        for _ in range(2):
            check(client.call("vm.reset") == {"state": "running"}, "vm.reset")
        type_and_read(vm, b"on\n")


@test("a guest that takes no disk: guest_timeout, and the disk is gone again")
def _(env):
    with VM(env) as vm, vm.client() as client:
        type_and_read(vm, b"the guest has begun\n")
        fds, a = vm.fds(), image(vm, "a")
        for _ in range(3):
            refused("guest_timeout", "no driver", client.call, "disk.attach", path=a, timeout_ms=100)
            check(ids(client) == ["data"] and is_free(a), "it is still there")
        check(vm.fds() <= fds, f"{fds} to {vm.fds()} descriptors")
        type_and_read(vm, b"the guest goes on\n")
        client.call("vm.pause")
        refused("wrong_state", "paused", client.call, "disk.attach", path=a)


@test("a guest that does not let go: guest_timeout, and the disk stays as it was")
def _(env):
    with VM(env) as vm, vm.client() as client:
        for force in (False, True):
            refused("guest_timeout", "stays attached", client.call, "disk.detach", id="data", timeout_ms=100, force=force)
        client.call("disk.resize", id="data", size=2 << 20)
        check(ids(client) == ["data"] and not is_free(vm.disk), "the disk is gone")


@test("a reset ends what was asked of the guest: what should go is gone, what should come is waited for")
def _(env):
    with VM(env) as vm, vm.client() as first, vm.client() as second, vm.client() as client:
        a = image(vm, "a")
        going = first.send("disk.detach", id="data", timeout_ms=60000)
        coming = second.send("disk.attach", path=a, id="new", timeout_ms=60000)
        wait_for("two jobs", lambda: len([j for j in client.call("job.list")["jobs"] if j["state"] == "running"]) == 2)
        refused("wrong_state", "being attached or detached", client.call, "disk.detach", id="new")
        client.call("vm.reset")
        check(first.answer(going) == {"id": "data"} and is_free(vm.disk), "the disk is still there")
        check(ids(client) == ["new"], f"{ids(client)}")
        job = [j for j in client.call("job.list")["jobs"] if j["state"] == "running"][0]
        client.call("job.cancel", job=job["job"])
        refused("cancelled", "'new': cancelled", second.answer, coming)
        check(ids(client) == [] and is_free(a), f"{ids(client)}")
        type_and_read(vm, b"begun anew\n")


@test("who waits for the guest is answered when the VM ends")
def _(env):
    with VM(env) as vm, vm.client() as first, vm.client() as second, vm.client() as third, vm.client() as client:
        a, b = image(vm, "a"), image(vm, "b")
        waiting = [(first, first.send("disk.attach", path=a, timeout_ms=60000)), (second, second.send("disk.detach", id="data", timeout_ms=60000)),
                   (third, third.send("batch", calls=[{"method": "disk.attach", "params": {"path": b, "timeout_ms": 60000}}]))]
        wait_for("three jobs", lambda: len([j for j in client.call("job.list")["jobs"] if j["state"] == "running"]) == 3)
        client.call("vm.kill")
        for waiter, number in waiting:
            refused("cancelled", "the VM has ended", waiter.answer, number)
        vm.process.wait(60)


@test("a job goes on when its client is killed; its outcome can be asked for, and events tell it")
def _(env):
    with VM(env) as vm, vm.client() as client:
        gone = vm.client()
        gone.send("disk.attach", path=image(vm, "a"), id="new", timeout_ms=5000)
        job = wait_for("the job", lambda: client.call("job.list")["jobs"])[0]
        gone.socket.close()
        check(job["method"] == "disk.attach" and job["state"] == "running" and job["params"]["id"] == "new", f"{job}")
        job = wait_for("its end", lambda: [j for j in client.call("job.list", job=job["job"])["jobs"] if j["state"] != "running"])[0]
        check(job["state"] == "failed" and job["error"]["data"]["kind"] == "guest_timeout" and job["ended_ns"] > job["started_ns"], f"{job}")
        client.call("events.subscribe", types=["job.failed"], since=0)
        event = client.pump()["params"]
        check(event["job"] == job["job"] and event["error"] == job["error"], f"{event}")
        refused("wrong_state", "has ended", client.call, "job.cancel", job=job["job"])
        refused("not_found", "no job 99", client.call, "job.cancel", job=99)


@test("a batch is done whole or not at all, and its parameters are checked before it begins")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        a, b = image(vm, "a"), image(vm, "b")
        attach = [{"method": "disk.attach", "params": {"path": a, "id": "a"}}, {"method": "disk.attach", "params": {"path": b, "id": "b"}}]
        away = {"method": "disk.detach", "params": {"id": "data"}}
        check(client.call("batch", calls=attach)["results"] == [{"id": "a", "address": "0000:00:02.0"}, {"id": "b", "address": "0000:00:03.0"}], "results")
        slots = {d["id"]: d["address"] for d in client.call("disk.list")["disks"]}
        for calls, kind, words in (([away, attach[0]], "bad_request", r"calls\[1\]"), ([away, {"method": "disk.detach", "params": {"id": "none"}}], "not_found", r"calls\[1\]"),
                                   ([away, {"method": "net.attach", "params": {"tap": "none/none"}}], "bad_request", r"calls\[1\]"),
                                   ([away, {"method": "disk.attach", "params": {"path": 7}}], "bad_request", r"calls\[1\]\.params\.path"),
                                   ([away, {"method": "vm.kill", "params": {}}], "bad_request", r"calls\[1\]\.method"), ([away, 7], "bad_request", r"calls\[1\]"),
                                   ([away, {"method": "disk.attach"}], "bad_request", "params"), ([away] * 33, "bad_request", "32")):
            refused(kind, words, client.call, "batch", calls=calls)
            check({d["id"]: d["address"] for d in client.call("disk.list")["disks"]} == slots, f"{calls}: something is left")
        check(client.call("batch", calls=[]) == {"results": []}, "an empty batch")
        jobs = client.call("job.list")["jobs"]
        check(jobs[0]["progress"] == {"done": 2, "of": 2} and jobs[0]["state"] == "done", f"{jobs[0]}")


@test("the newest outcomes of jobs are kept, and the process does not grow with the others")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        for _ in range(200):
            client.call("disk.attach", path=vm.dir + "/b" if os.path.exists(vm.dir + "/b") else image(vm, "b"), id="b")
            client.call("disk.detach", id="b")
        jobs = client.call("job.list")["jobs"]
        check(len(jobs) == 64 and [j["job"] for j in jobs] == list(range(337, 401)), f"{len(jobs)} jobs, {jobs[0]['job']} first")
        before = vm.rss_kib()
        for _ in range(300):
            client.call("disk.attach", path=f"{vm.dir}/b", id="b")
            client.call("disk.detach", id="b")
        check(env.sanitized or vm.rss_kib() - before < 256, f"{before} to {vm.rss_kib()} KiB")


@test("a guest that storms the registers of hot-plug spoils its own devices only")
def _(env):
    with VM(env, guest="hostile.elf", does="hotplug") as vm, vm.client() as client:
        client.call("vm.info")
        fds, outcomes = vm.fds(), set()
        for i in range(60):
            for method, params in (("disk.attach", {"path": image(vm, "a"), "id": "a"}), ("disk.detach", {"id": "a"})):
                try:
                    client.call(method, timeout_ms=60, **params)
                    outcomes.add((method, "done"))
                except RpcError as error:
                    check(error.kind in ("guest_timeout", "guest_refused", "not_found", "bad_request"), error.message)
                    outcomes.add((method, error.kind))
        check(("disk.attach", "guest_refused") in outcomes or ("disk.attach", "guest_timeout") in outcomes, f"{outcomes}")
        check(client.call("vm.info")["state"] == "running" and vm.fds() <= fds + 4, f"{fds} to {vm.fds()} descriptors")
        check(len(vm.errors()) < 20000, f"{len(vm.errors())} bytes of log")
        client.call("vm.reset")

        def gone():  # which the guest may still refuse
            with contextlib.suppress(RpcError):
                client.call("disk.detach", id="a", timeout_ms=1000)
            return "a" not in ids(client)
        wait_for("the disk to go after a reset", gone)
