"""Files that are not what was written: a clear refusal or a good restore, never a wrong guest."""
import os
import random
import shutil
import subprocess

from guests import Guest, Restored, check, folder_in, refusal, restore_and_check, test


def tries(env, folder, generation, disk=None):
    """Restore what may be damaged; `disk`: where its own is to be made."""
    with Restored(env, folder, disk=disk) as vm:
        if vm.process.poll() is not None:
            return False
        with vm.tell() as console:
            check(console.remembers() == generation, "a wrong guest runs")
    return True


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x40]))


def chain_with_disk(env):
    """A full snapshot, "s0", and an incremental one of generation 3, "s1", both with the disk; its folder."""
    folder = folder_in(env)
    os.mkdir(f"{folder}/chain")
    with Guest(env, does="remember every=64 disk=1", memory="32M") as vm, vm.tell() as console:
        console.generation(2)
        vm.snapshot(f"{folder}/chain/s0", disks="copy")
        console.generation(1)
        vm.snapshot(f"{folder}/chain/s1", disks="copy", incremental=True)
    return folder


@test("a flipped byte anywhere in any file is refused, or changes nothing")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8", memory="32M") as vm, vm.tell() as console:
        console.generation(3)
        vm.snapshot(f"{folder}/s")
    refusals = 0
    for name in sorted(os.listdir(f"{folder}/s")):
        size = os.path.getsize(f"{folder}/s/{name}")
        for at in sorted({0, size // 2, max(size - 1, 0), *(random.randrange(size) for _ in range(3))} if size else ()):
            shutil.copytree(f"{folder}/s", f"{folder}/bad")
            flip(f"{folder}/bad/{name}", at)
            refusals += not tries(env, f"{folder}/bad", 3)
            shutil.rmtree(f"{folder}/bad")
    check(refusals > 6, f"only {refusals} refusals")


@test("a file that is cut off or missing is refused")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8", memory="32M") as vm, vm.tell() as console:
        console.generation(3)
        vm.snapshot(f"{folder}/s")
    needed = [name for name in os.listdir(f"{folder}/s") if name not in ("verified", "workingset")]
    for name in needed:
        shutil.copytree(f"{folder}/s", f"{folder}/bad")
        os.truncate(f"{folder}/bad/{name}", os.path.getsize(f"{folder}/s/{name}") // 2)
        refusal(env, f"{folder}/bad")
        os.unlink(f"{folder}/bad/{name}")
        refusal(env, f"{folder}/bad")
        shutil.rmtree(f"{folder}/bad")
    restore_and_check(env, f"{folder}/s", 3)


@test("a flipped byte in a chain with disks is refused, or changes nothing")
def _(env):
    folder = chain_with_disk(env)
    names = [f"s1/{name}" for name in sorted(os.listdir(f"{folder}/chain/s1"))] + ["s0/disk0-data", "s0/memory.sums"]
    check({"s1/disk0-data", "s1/disk0-data.map", "s1/pages", "s1/memory", "s1/state"} <= set(names), f"{names}")
    refusals = 0
    for name in names:
        size = os.path.getsize(f"{folder}/chain/{name}")
        for at in (random.randrange(min(size, 24)), random.randrange(size)):
            shutil.copytree(f"{folder}/chain", f"{folder}/bad")
            flip(f"{folder}/bad/{name}", at)
            runs = tries(env, f"{folder}/bad/s1", 3, disk=f"{folder}/bad/disk")
            check(not runs or name in ("s1/verified", "s1/workingset"), f"byte {at} of {name} is flipped, and it runs")
            refusals += not runs
            shutil.rmtree(f"{folder}/bad")
    check(refusals >= 2 * (len(names) - 2), f"only {refusals} refusals")


@test("a file of a chain with disks that is cut off or missing is refused")
def _(env):
    folder = chain_with_disk(env)
    for name in ("s1/disk0-data", "s1/disk0-data.map", "s1/pages", "s1/memory", "s0/disk0-data", "s0/memory"):
        shutil.copytree(f"{folder}/chain", f"{folder}/bad")
        os.truncate(f"{folder}/bad/{name}", os.path.getsize(f"{folder}/chain/{name}") // 2)
        check(not tries(env, f"{folder}/bad/s1", 3, disk=f"{folder}/bad/disk"), f"{name} is cut off, and it runs")
        os.unlink(f"{folder}/bad/{name}")
        check(not tries(env, f"{folder}/bad/s1", 3, disk=f"{folder}/bad/disk"), f"{name} is missing, and it runs")
        check(not os.path.exists(f"{folder}/bad/disk"), "half a disk is left")
        shutil.rmtree(f"{folder}/bad")
    restore_and_check(env, f"{folder}/chain/s1", 3, disk=True)


@test("a list of pages to read ahead that makes no sense does no harm")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8", memory="32M") as vm, vm.tell() as console:
        console.generation(2)
        vm.snapshot(f"{folder}/s")
    for content in (b"", b"BHPAGES1", b"BHPAGES1" + os.urandom(64), b"BHPAGES1" + b"\xff" * 48, os.urandom(5000)):
        with open(f"{folder}/s/workingset", "wb") as file:
            file.write(content)
        restore_and_check(env, f"{folder}/s", 2)


@test("a damaged overlay, or another base, is refused")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=64 disk=1", memory="32M") as vm, vm.tell() as console:
        console.generation(2)
        vm.snapshot(f"{folder}/s", disks="copy")
    base, overlay = f"{folder}/s/disk0-data", f"{folder}/overlay"
    subprocess.run([env.bulkhead, "disk", "create", overlay, "--base", base], check=True, timeout=60)
    size, bitmap = os.path.getsize(overlay), 65536
    for at in (0, 9, 25, 33, 41, 100, 4000, 4079, bitmap + 2 + random.randrange(4094)):  # the disk has 16 clusters: 2 bytes
        shutil.copyfile(overlay, f"{folder}/bad")
        flip(f"{folder}/bad", at)
        check(not tries(env, f"{folder}/s", 2, disk=f"{folder}/bad,base={base}"), f"byte {at} is flipped, and it runs")
    for length in (0, 100, 5000, bitmap + 100, size - 512):
        shutil.copyfile(overlay, f"{folder}/bad")
        os.truncate(f"{folder}/bad", length)
        check(not tries(env, f"{folder}/s", 2, disk=f"{folder}/bad,base={base}"), f"it has {length} bytes, and it runs")
    shutil.copyfile(base, f"{folder}/base")
    flip(f"{folder}/base", 5)
    check(not tries(env, f"{folder}/s", 2, disk=f"{overlay},base={folder}/base"), "it runs on another base")
    check(tries(env, f"{folder}/s", 2, disk=f"{overlay},base={base}"), "it does not run on its own")
