"""Snapshots of guests that were restored: their memory is a snapshot's file, which is copied ahead of the moment."""
import os

from guests import Guest, Restored, RpcError, check, content, folder_in, restore_and_check, test, wait_for
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
    check(set(os.listdir(f"{saved}-packed")) - {"workingset"} == {"manifest.json", "memory.sums", "memory.zst", "state", "verified"},
          f"{os.listdir(f'{saved}-packed')}")
    check(content(f"{saved}-packed/memory.sums") == content(f"{saved}-plain/memory.sums"), "the checksums differ")


@test("a restored guest that writes all of its memory over and over is saved; paused and let go meanwhile it is as well")
def _(env):
    folder = folder_in(env)
    with Guest(env, memory="320M", does=LOAD) as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/0")
    with Restored(env, f"{folder}/0") as vm, vm.tell() as console:
        console.ask("l", "LOAD")
        vm.snapshot(f"{folder}/1")
        job = vm.call("snapshot.create", path=f"{folder}/2", incremental=True)["job"]
        while vm.job(job)["state"] == "running":
            vm.call("vm.pause")
            vm.call("vm.resume")
        check(vm.job(job)["state"] == "done", f"{vm.job(job)}")
        check(vm.state() == "running" and console.remembers() > 1, "it does not go on")
    restore_and_check(env, f"{folder}/1")
    restore_and_check(env, f"{folder}/2")


@test("what a restored guest's snapshot that was called back had copied ahead is in the next one; reset in the midst of one it goes on")
def _(env):
    saved = save(env, does="remember every=2")
    with Restored(env, saved) as vm, vm.tell() as console:
        for number in range(4):
            console.generation()
            job = vm.call("snapshot.create", path=f"{saved}-x{number}", incremental=number % 2 > 0)["job"]
            try:
                vm.call("job.cancel", job=job)
            except RpcError:  # it was quicker
                pass
            wait_for("its end", lambda number=job: vm.job(number)["state"] != "running")
            check(os.path.exists(f"{saved}-x{number}") == (vm.job(job)["state"] == "done"), f"{vm.job(job)}")
        generation = console.generation()
        vm.snapshot(f"{saved}-1", incremental=True)
        job = vm.call("snapshot.create", path=f"{saved}-2")["job"]
        vm.call("vm.reset")
        wait_for("its end", lambda: vm.job(job)["state"] != "running")
        check(console.generation() == 1, "it is not a new guest")
        vm.snapshot(f"{saved}-3", incremental=True)
    restore_and_check(env, f"{saved}-1", generation)
    with Restored(env, f"{saved}-3") as vm, vm.tell() as console:  # which may find anything where it has not written yet
        check(console.generation() == 2, "it is not the guest that was saved")
