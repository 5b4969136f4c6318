"""Snapshots of guests that were restored: their memory is a snapshot's file, which is copied ahead of the moment."""
import os

from guests import Restored, check, content, restore_and_check, test
from restoring import save

LOAD = "remember every=64"


@test("a restored guest at work is saved in the background, again and again: what it remembers afterwards is right each time")
def _(env):
    last = save(env, does=LOAD)
    for number in range(5):
        with Restored(env, last) as vm, vm.tell() as console:
            console.ask("l", "LOAD")
            for part in range(2):
                last = f"{last}-{number}{part}"
                result = vm.snapshot(last, incremental=part == 1)
                check(result["background"] and result["passes"] > 0, f"{result}")
            check(console.remembers() > 2, "it does not go on")
        restore_and_check(env, last)


@test("a restored guest's memory is compressed in the background as well")
def _(env):
    saved = save(env, does=LOAD)
    with Restored(env, saved) as vm, vm.tell() as console:
        console.ask("l", "LOAD")
        for number in range(3):
            result = vm.snapshot(f"{saved}-{number}", compression="zstd", incremental=number > 0)
            check(result["background"], f"{result}")
        generation = console.remembers()
        vm.call("vm.pause")
        vm.snapshot(f"{saved}-packed", compression="zstd")
        vm.snapshot(f"{saved}-plain", background=False)
    for number in range(3):
        restore_and_check(env, f"{saved}-{number}")
    restore_and_check(env, f"{saved}-packed", generation)
    check(sorted(os.listdir(f"{saved}-packed")) == ["manifest.json", "memory.sums", "memory.zst", "state", "verified"],
          f"{os.listdir(f'{saved}-packed')}")
    check(content(f"{saved}-packed/memory.sums") == content(f"{saved}-plain/memory.sums"), "the checksums differ")
