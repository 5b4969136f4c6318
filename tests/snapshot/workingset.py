"""What a restored guest touches first: noted beside the snapshot, and read ahead the next time."""
import json
import os
import shutil
import subprocess

from guests import Restored, Skip, check, content, restore_and_check, test, wait_for
from restoring import save


def noted(env, folder):
    """Bytes, as `inspect` tells them."""
    done = subprocess.run([env.bulkhead, "inspect", folder, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["working_set_bytes"]


def note(env, folder):
    """Let a guest run on it until it is there."""
    with Restored(env, folder) as vm, vm.tell() as console:
        console.remembers()
        wait_for("the working set", lambda: os.path.exists(f"{folder}/workingset"))
    return noted(env, folder)


def ahead(vm):
    return [line for line in vm.errors().splitlines() if "was read ahead" in line]


def mapped(vm):
    """Bytes of files that its process has in view."""
    with open(f"/proc/{vm.process.pid}/status", encoding="ascii") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith(("RssFile:", "RssShmem:"))) << 10


@test("what a restored guest touched is noted beside the snapshot, told by inspect, and in memory the next time before the guest runs")
def _(env):
    saved = save(env, 2, "remember every=4")
    check(noted(env, saved) == 0, "it is there before anybody touched anything")
    size = note(env, saved)
    check(size >= 1 << 20, f"{size} bytes of a guest that was looking at 48 MiB")  # how far it came until then is the host's affair
    was = os.stat(f"{saved}/workingset")
    with Restored(env, saved, "--log-level", "info", paused=True) as vm:
        wait_for("the reading", lambda: ahead(vm))
        ahead_of = mapped(vm)
        check(ahead_of >= size * 9 // 10, f"{ahead_of} bytes are mapped of {size}")
        vm.call("vm.resume")
        with vm.tell() as console:
            check(console.remembers() == 2 and console.generation() == 3 and console.remembers() == 3, "it is another guest")
    with Restored(env, saved, "--working-set", "off", paused=True) as vm:
        without = mapped(vm)  # the program itself
        check(without < ahead_of, f"{without} bytes are mapped without it, {ahead_of} with it")
    check(os.stat(f"{saved}/workingset") == was, "what was noted is noted again")
    restore_and_check(env, saved, 2)


@test("a working set goes along with a chain that is merged, and with what is removed; one that makes no sense is noted anew")
def _(env):
    saved = save(env, 2, "remember every=4")
    size = note(env, saved)
    subprocess.run([env.bulkhead, "chain", "merge", saved, f"{saved}-merged"], check=True)
    check(noted(env, f"{saved}-merged") == size, "the merged one has another")
    subprocess.run([env.bulkhead, "chain", "prune", os.path.dirname(saved), saved], check=True, stdout=subprocess.DEVNULL)
    check(not os.path.exists(saved), "it stays")
    for wrong in (b"", b"BHPAGES1", os.urandom(1000), content(f"{saved}-merged/workingset")[:-1]):
        with open(f"{saved}-merged/workingset", "wb") as file:
            file.write(wrong)
        check(noted(env, f"{saved}-merged") == 0, f"{wrong[:20]} is taken for one")
    with Restored(env, f"{saved}-merged") as vm, vm.tell() as console:
        check(console.remembers() == 2, "it is another guest")
        wait_for("another working set", lambda: noted(env, f"{saved}-merged") > 0)


@test("with memory on demand what is in the working set is filled first; and a folder that cannot be written is no complaint")
def _(env):
    saved = save(env, 2, "remember every=4")
    packed = save(env, 2, "remember every=4", compression="zstd")
    note(env, saved)
    shutil.copy(f"{saved}/workingset", f"{packed}/workingset")
    with Restored(env, packed, "--log-level", "info") as vm, vm.tell() as console:
        check(console.remembers() == 2 and console.generation() == 3 and console.remembers() == 3, "it is another guest")
        wait_for("the reading", lambda: ahead(vm))
        wait_for("all memory", lambda: "filling" not in vm.call("vm.info"))
    os.unlink(f"{saved}/workingset")
    fixed = ["unshare", "--mount", "--", "sh", "-c", f'mount --bind {saved} {saved} && mount -o remount,ro,bind {saved} && exec "$@"', "sh"]
    if subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode:
        raise Skip("no file system can be mounted read-only here")
    vm = Restored(env, saved, "--log-level", "debug")
    vm.command = [*fixed, *vm.command]
    with vm, vm.tell() as console:
        check(console.remembers() == 2, "it is another guest")
        check("the snapshot's folder cannot be written" in vm.errors(), vm.errors())
        check("warn:" not in vm.errors() and "error:" not in vm.errors(), vm.errors())
