"""Taking snapshots: of a guest at rest and at work, one upon the other, called back, and where they cannot be."""
import os
import signal
import subprocess
import time

from guests import Guest, check, content, folder_in, manifest, refused, restore_and_check, test, wait_for


@test("a snapshot holds memory and disk of one moment: restored in another process, the guest goes on from there")
def _(env):
    folder = folder_in(env)
    with Guest(env) as vm, vm.tell() as console:
        console.generation(5)
        result = vm.snapshot(f"{folder}/s", disks="copy")
        check(result["path"] == f"{folder}/s" and result["bytes"] > 0 and result["pause_ms"]["total"] > 0, f"{result}")
        check(console.generation() == 6 and console.remembers() == 6, "the guest that was saved does not go on")
        check(manifest(result["path"])["id"] == result["id"], "another id")
    check(sorted(os.listdir(folder)) == ["s"], f"{os.listdir(folder)}")
    restore_and_check(env, f"{folder}/s", 5, disk=True)


@test("incremental snapshots hold what was written since: each of a chain is restored as it was then")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation(3)
        full = vm.snapshot(f"{folder}/0")
        last = full
        for number in range(1, 7):
            console.generation()
            result = vm.snapshot(f"{folder}/{number}", incremental=True)
            check(result["parent"] == last["id"] and result["bytes"] < full["bytes"], f"{result}")
            last = result
    for number in range(7):
        restore_and_check(env, f"{folder}/{number}", 3 + number)


@test("a guest at work is saved while it writes: what it remembers afterwards is right, in the background and standing still")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=64") as vm, vm.tell() as console:
        console.ask("l", "LOAD")
        for number, background in enumerate((True, False, True, True)):
            vm.snapshot(f"{folder}/{number}", background=background, incremental=number > 1)
        check(console.remembers() > 0, "it does not go on")
    for number in range(4):
        restore_and_check(env, f"{folder}/{number}")


@test("what an incremental snapshot that was called back had collected is in the next one")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=2") as vm, vm.tell() as console:
        console.generation(3)
        vm.snapshot(f"{folder}/0")
        console.generation()
        for number in range(3):
            with vm.client() as client:
                job = client.call("snapshot.create", path=f"{folder}/x{number}", incremental=True)["job"]
                try:
                    client.call("job.cancel", job=job)
                except Exception:  # it was quicker
                    pass
                wait_for("its end", lambda: vm.job(job)["state"] != "running")
            done = vm.job(job)["state"] == "done"
            check(os.path.exists(f"{folder}/x{number}") == done, f"{vm.job(job)}, {os.listdir(folder)}")
        generation = console.generation()
        vm.snapshot(f"{folder}/1", incremental=True)
        check(not [name for name in os.listdir(folder) if ".tmp" in name], f"{os.listdir(folder)}")
    restore_and_check(env, f"{folder}/1", generation)


@test("what cannot be saved is refused in words, and the VM goes on")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        refused("wrong_state", "full", vm.snapshot, f"{folder}/s", incremental=True)
        vm.snapshot(f"{folder}/s")
        refused("already_exists", f"{folder}/s", vm.snapshot, f"{folder}/s")
        refused("not_found", "nowhere", vm.snapshot, f"{folder}/nowhere/s")
        vm.snapshot(f"{folder}/t", track=False)
        refused("wrong_state", "full", vm.snapshot, f"{folder}/u", incremental=True)
        check(console.remembers() == 1, "it does not go on")
        check(sorted(os.listdir(folder)) == ["s", "t"], f"{os.listdir(folder)}")


@test("with resume off the guest stands still from the moment of the snapshot on")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation(2)
        vm.snapshot(f"{folder}/s", resume=False)
        check(vm.state() == "paused", vm.state())
        vm.snapshot(f"{folder}/t")
        check(vm.state() == "paused", "a snapshot let it go")
        vm.call("vm.resume")
        check(console.remembers() == 2, "it does not go on")
    restore_and_check(env, f"{folder}/t", 2)


@test("two snapshots of a VM that stands still hold the same state and memory")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation(2)
        vm.call("vm.pause")
        vm.snapshot(f"{folder}/s")
        vm.snapshot(f"{folder}/t")
    check(content(f"{folder}/s/memory") == content(f"{folder}/t/memory"), "the memory differs")


@test("bulkhead snapshot says where it is and how long it took; interrupted it leaves nothing")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation(2)
        done = subprocess.run([env.bulkhead, "snapshot", vm.control, "s"], cwd=folder, capture_output=True, text=True, timeout=60,
                              check=False)
        check(done.returncode == 0 and done.stdout.startswith(f"{folder}/s: snapshot "), f"{done}")
        done = subprocess.run([env.bulkhead, "snapshot", vm.control, f"{folder}/s"], capture_output=True, text=True, timeout=60,
                              check=False)
        check(done.returncode == 1 and "already" in done.stderr, f"{done}")
        with subprocess.Popen([env.bulkhead, "snapshot", vm.control, f"{folder}/t"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as taking:
            time.sleep(0.01)
            taking.send_signal(signal.SIGINT)
            taking.communicate(timeout=60)
            check((taking.returncode == 0) == os.path.exists(f"{folder}/t"), f"{taking.returncode}, {os.listdir(folder)}")
        check(console.remembers() == 2, "it does not go on")


@test("kill -9 in the midst of snapshots leaves each whole or not there, and the next VM's tidy up")
def _(env):
    folder = folder_in(env)
    for number in range(8):
        with Guest(env, does="remember every=2") as vm, vm.tell() as console:
            console.generation(3)
            vm.call("snapshot.create", path=f"{folder}/s{number}")
            time.sleep(0.004 * number)
            vm.process.kill()
    whole = [name for name in os.listdir(folder) if ".tmp" not in name]
    for name in whole:
        restore_and_check(env, f"{folder}/{name}", 3)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/last")
    check(sorted(os.listdir(folder)) == sorted([*whole, "last"]), f"{os.listdir(folder)}")


@test("a full disk fails the snapshot in words and leaves nothing; what was to be saved is in the next one")
def _(env):
    folder = folder_in(env)
    small = f"{folder}/small"
    os.mkdir(small)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", small], capture_output=True, check=False)
    if mounted.returncode:
        raise OSError("cannot mount a small file system: root is needed")
    try:
        with Guest(env, does="remember every=2") as vm, vm.tell() as console:
            console.generation(4)
            vm.snapshot(f"{folder}/0")
            console.generation()
            refused("no_resource", "space", vm.snapshot, f"{small}/s", incremental=True)
            refused("no_resource", "space", vm.snapshot, f"{small}/s")
            check(os.listdir(small) == [], f"{os.listdir(small)}")
            vm.snapshot(f"{folder}/1", incremental=True)
            check(console.remembers() == 5, "it does not go on")
    finally:
        subprocess.run(["umount", small], check=False)
    restore_and_check(env, f"{folder}/1", 5)


@test("a guest with 5 GiB on both sides of the hole is saved and restored, in full and by what changed")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=512", memory="5G") as vm, vm.tell() as console:
        console.generation(2)
        full = vm.snapshot(f"{folder}/0")
        console.generation()
        part = vm.snapshot(f"{folder}/1", incremental=True)
        check(part["bytes"] < full["bytes"], f"{part}")
    restore_and_check(env, f"{folder}/0", 2)
    restore_and_check(env, f"{folder}/1", 3)


@test("a guest of 64 vCPUs is saved and restored")
def _(env):
    folder = folder_in(env)
    with Guest(env, "--cpus", "64", does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/0")
    restore_and_check(env, f"{folder}/0", 1)


@test("a chain of 20 snapshots of a guest at work, merged, equals the one taken at once, byte for byte")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=256") as vm, vm.tell() as console:
        console.ask("l", "LOAD")
        for number in range(19):
            vm.snapshot(f"{folder}/{number}", incremental=number > 0, background=number % 3 > 0)
        generation = console.remembers()
        vm.call("vm.pause")
        vm.snapshot(f"{folder}/19", incremental=True)
        vm.snapshot(f"{folder}/direct")
    done = subprocess.run([env.bulkhead, "chain", "merge", f"{folder}/19", f"{folder}/merged"], capture_output=True, text=True, timeout=120,
                          check=False)
    check(done.returncode == 0, f"{done}")
    check(content(f"{folder}/merged/memory") == content(f"{folder}/direct/memory"), "the memory differs")
    restore_and_check(env, f"{folder}/merged", generation)
    restore_and_check(env, f"{folder}/19", generation)
