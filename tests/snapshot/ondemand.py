"""Memory that comes while the guest runs: read when it is touched, and the rest in the background."""
import os
import signal
import subprocess

from guests import Failure, Guest, Restored, Skip, check, folder_in, manifest, restore_and_check, test, wait_for
from restoring import save

# Root without the privilege to be told of the kernel's own faults.
WITHOUT = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace", "--"]


def is_filled(vm):
    return "filling" not in vm.call("vm.info")


def is_protected(result):
    """Its memory was written behind the moment, by userfaultfd."""
    return result["background"] and result["passes"] == 0


def told(vm):
    """What the log says of it, of a VM with --log-level info."""
    return [line for line in vm.errors().splitlines() if "all memory is there" in line or "is read before the VM starts" in line]


def logged(env, folder, *options, wrapper=(), paused=False):
    vm = Restored(env, folder, "--log-level", "info", *options, paused=paused)
    vm.command = [*wrapper, *vm.command]
    return vm


@test("memory is filled while the guest uses it: it finds what it left and what it wrote since; then nothing is special any more")
def _(env):
    saved = save(env, 3, "remember every=4", compression="zstd")
    plain = save(env, 3, "remember every=4")
    for folder, options in ((saved, ()), (plain, ("--memory-from", "ondemand"))):
        with logged(env, folder, *options) as vm, vm.tell() as console:
            check(console.generation(2) == 5 and console.remembers() == 5, "it is another guest")
            wait_for("all memory", lambda: is_filled(vm))
            check(len(told(vm)) == 1 and "all memory is there" in told(vm)[0], vm.errors())
            check(console.generation() == 6 and console.remembers() == 6, "it is another guest once all is there")
            check(is_protected(vm.snapshot(f"{folder}-next")), "its memory is not as any other")
        restore_and_check(env, f"{folder}-next", 6)
    for options in (("--memory-from", "read"), ("--memory-from", "map"), ("--memory-from", "auto")):
        with logged(env, plain, *options) as vm, vm.tell() as console:
            check(console.remembers() == 3 and console.generation() == 4 and console.remembers() == 4, f"another guest by {options}")
            check(not told(vm) and is_filled(vm), f"{options}: {vm.errors()}")
    with logged(env, saved, "--memory-from", "map") as vm, vm.tell() as console:
        check(console.remembers() == 3 and not told(vm), f"compressed memory that is unpacked: {vm.errors()}")


@test("a chain of plain and compressed snapshots is filled as it was, whichever came first")
def _(env):
    for kinds in (("none", "zstd", "none"), ("zstd", "none", "zstd")):
        folder = folder_in(env)
        with Guest(env, does="remember every=8") as vm, vm.tell() as console:
            for number, kind in enumerate(kinds):
                console.generation(2)
                vm.snapshot(f"{folder}/{number}", compression=kind, incremental=number > 0)
        for number in range(3):
            restore_and_check(env, f"{folder}/{number}", 2 * number + 2)


@test("a snapshot of a VM whose memory is still being filled waits for it, and is right")
def _(env):
    saved = save(env, 3, "remember every=4", compression="zstd")
    with Restored(env, saved) as vm, vm.tell() as console:
        console.generation()
        result = vm.snapshot(f"{saved}-child", incremental=True)
        check(result["parent"] == manifest(saved)["id"], f"{result}")
    restore_and_check(env, f"{saved}-child", 4)
    with Restored(env, saved, paused=True) as vm:
        check(is_protected(vm.snapshot(f"{saved}-whole", compression="zstd")), "it was not waited for")
        vm.call("vm.resume")
        with vm.tell() as console:
            check(console.remembers() == 3, "it does not go on")
    restore_and_check(env, f"{saved}-whole", 3)


@test("a VM can be ended, killed and reset while its memory is being filled")
def _(env):
    saved = save(env, 2, "remember every=2", compression="zstd")
    for number, how in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGHUP, "vm.kill", "vm.reset") * 2):
        with Restored(env, saved, paused=number % 2) as vm:
            if how == "vm.reset":
                vm.call(how)
                vm.call("vm.resume")
                with vm.tell() as console:
                    check(console.generation() == 1, "it is not a new guest")
                continue
            if how == "vm.kill":
                vm.ctl(how)
            else:
                vm.process.send_signal(how)
            vm.process.wait(120)
    restore_and_check(env, saved, 2)


@test("memory that was preallocated is not taken for what is still to come: it is read first, and is right")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=4", memory="64M,prealloc=on") as vm, vm.tell() as console:
        console.generation(3)
        vm.snapshot(f"{folder}/s", compression="zstd")
    for options in ((), ("--memory-from", "ondemand"), ("--memory-from", "read")):
        with logged(env, f"{folder}/s", *options) as vm, vm.tell() as console:
            check(console.remembers() == 3 and console.generation() == 4 and console.remembers() == 4, "it is another guest")
            check(is_filled(vm) and len(told(vm)) == ("read" not in options), vm.errors())
            check("read" in options or "preallocated" in told(vm)[0], vm.errors())


def damage(folder):
    """A frame in the middle is another, and the stamp says that it is as it was: what a disk does that gives back other bytes."""
    path = f"{folder}/memory.zst"
    at = os.path.getsize(path) // 2
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))
    now = os.stat(path)
    with open(f"{folder}/verified", encoding="ascii") as file:
        lines = [line.split() for line in file]
    for line in lines:
        if line[1] == "memory.zst":
            line[3:] = [str(now.st_ino), str(now.st_size), str(now.st_mtime_ns), str(now.st_ctime_ns)]
    with open(f"{folder}/verified", "w", encoding="ascii") as file:
        file.writelines(" ".join(line) + "\n" for line in lines)


def says(vm):
    """What the guest answers when it is asked to look at everything; nothing where it has ended."""
    try:
        with vm.tell() as console:
            console.send("?")
            return console.line()
    except (OSError, Failure):
        return ""


@test("memory that cannot be read when its turn comes ends the VM with the reason, and is never zeros")
def _(env):
    saved = save(env, 3, "remember every=2", compression="zstd")
    damage(saved)
    for paused in (False, True):
        with Restored(env, saved, paused=paused) as vm:
            answer = "" if paused else says(vm)
            check(not answer, f"the guest says: {answer}")
            check(vm.process.wait(120) != 0, "it ended as if all were well")
            check("damaged" in vm.errors() and "memory.zst" in vm.errors(), vm.errors())


@test("where the host refuses userfaultfd all is read first, and the log says the mend; who may open its device needs no privilege")
def _(env):
    saved = save(env, 3, "remember every=8", compression="zstd")
    hidden = ["unshare", "--mount", "--", "sh", "-c", 'mount --bind /dev/null /dev/userfaultfd && exec "$@"', "sh", *WITHOUT]
    if not os.path.exists("/dev/userfaultfd"):
        raise Skip("the host has no /dev/userfaultfd")
    with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="ascii") as file:
        if file.read().strip() != "0" or subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
            raise Skip("the host allows userfaultfd to everyone, or does not let us hide it")
    with logged(env, saved, wrapper=hidden) as vm, vm.tell() as console:
        check(console.remembers() == 3 and is_filled(vm), "it is another guest")
        check(len(told(vm)) == 1 and "is read before the VM starts" in told(vm)[0] and "/dev/userfaultfd" in told(vm)[0], vm.errors())
        check(not is_protected(vm.snapshot(f"{saved}-still")), "it says that it was protected")
    with logged(env, saved, wrapper=WITHOUT) as vm, vm.tell() as console:
        check(console.remembers() == 3, "it is another guest")
        check(is_protected(vm.snapshot(f"{saved}-next")), "the device was not used")
        check(len(told(vm)) == 1 and "all memory is there" in told(vm)[0], vm.errors())
    restore_and_check(env, f"{saved}-still", 3)
    restore_and_check(env, f"{saved}-next", 3)
