"""Files that are not what was written: a clear refusal or a good restore, never a wrong guest."""
import os
import random
import shutil

from guests import Guest, Restored, check, folder_in, refusal, restore_and_check, test


def tries(env, folder, generation):
    """Restore what may be damaged."""
    with Restored(env, folder) as vm:
        if vm.process.poll() is not None:
            return False
        with vm.tell() as console:
            check(console.remembers() == generation, "a wrong guest runs")
    return True


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
            with open(f"{folder}/bad/{name}", "r+b") as file:
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 0x40]))
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
