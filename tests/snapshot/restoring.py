"""Restoring: what may be another, what stays, chains of restored guests, and clones."""
import json
import os
import subprocess

from guests import Guest, Restored, check, content, folder_in, manifest, refusal, restore_and_check, test


def save(env, generations=2, does="remember every=8 disk=1", options=(), **params):
    """A snapshot of a guest that has come so far."""
    folder = folder_in(env)
    with Guest(env, *options, does=does) as vm, vm.tell() as console:
        console.generation(generations)
        vm.snapshot(f"{folder}/s", **params)
    return f"{folder}/s"


def differences(env, one, other):
    """The fields in which the states of two snapshots differ, but for the clock: time goes on while a VM stands still."""
    sections = []
    for folder in (one, other):
        done = subprocess.run([env.bulkhead, "inspect", folder, "--state", "--json"], capture_output=True, text=True, check=True)
        sections.append({(s["section"], s["instance"]): s["fields"] for s in json.loads(done.stdout)["state"]})
    check(sections[0].keys() == sections[1].keys() and len(sections[0]) > 5, f"{sections[0].keys()} and {sections[1].keys()}")
    return [(name, field, value, sections[1][name].get(field)) for name, fields in sections[0].items() for field, value in fields.items()
            if name[0] != "clock" and sections[1][name].get(field) != value]


@test("what is restored paused and saved again has the same state and memory")
def _(env):
    saved = save(env, does="remember every=8")
    with Restored(env, saved, paused=True) as vm:
        check(vm.state() == "paused", vm.state())
        vm.snapshot(f"{saved}-again")
        check(content(f"{saved}/memory") == content(f"{saved}-again/memory"), "the memory differs")
        check(not differences(env, saved, f"{saved}-again"), f"{differences(env, saved, f'{saved}-again')}")
        vm.call("vm.resume")
        with vm.tell() as console:
            check(console.remembers() == 2, "it does not go on")


@test("every path of the host can be given anew; what makes no sense is refused before anything runs")
def _(env):
    saved = save(env, disks="copy")
    check("disk 'data'" in refusal(env, saved, status=2), "the disk that it had has gone on since")
    restore_and_check(env, saved, 2, disk=True)
    for options, words in ((("--disk", "id=other,path=/x"), "'other'"), (("--net", "id=n,tap=x"), "'n'"), (("--vsock", "socket=/x"), "none")):
        done = subprocess.run([env.bulkhead, "restore", saved, *options], capture_output=True, text=True, check=False)
        check(done.returncode == 2 and words in done.stderr, f"{options}: {done}")
    done = subprocess.run([env.bulkhead, "restore", saved, "--cpus", "2"], capture_output=True, text=True, check=False)
    check(done.returncode == 2, f"{done}")


@test("a restored VM says what it is, and its next incremental snapshot builds on the one it came from")
def _(env):
    saved = save(env, does="remember every=8")
    with Restored(env, saved, "--name", "second") as vm, vm.tell() as console:
        info = vm.call("vm.info")
        check(info["name"] == "second" and info["state"] == "running" and info["config"]["memory"]["size"] == 64 << 20, f"{info}")
        console.generation()
        result = vm.snapshot(f"{saved}-child", incremental=True)
        check(result["parent"] == manifest(saved)["id"], f"{result}")
        console.generation()
        vm.snapshot(f"{saved}-grandchild", incremental=True)
    restore_and_check(env, f"{saved}-child", 3)
    restore_and_check(env, f"{saved}-grandchild", 4)


@test("two guests run from one snapshot at once, and neither sees what the other writes")
def _(env):
    saved = save(env, does="remember every=8")
    with Restored(env, saved) as one, Restored(env, saved) as other, one.tell() as first, other.tell() as second:
        check(first.generation(3) == 5 and second.remembers() == 2 and second.generation() == 3, "they are not apart")
        check(first.remembers() == 5 and second.remembers() == 3, "they are not right")
    restore_and_check(env, saved, 2)


@test("a restored guest that resets begins with its kernel anew")
def _(env):
    saved = save(env, does="remember every=8")
    with Restored(env, saved) as vm:
        with vm.tell() as console:
            check(console.remembers() == 2, "it is not right")
            vm.call("vm.reset")
            check(console.generation() == 1, "it is not a new guest")


@test("compressed memory is restored as it was, and a chain of it")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation(3)
        vm.snapshot(f"{folder}/0", compression="zstd")
        console.generation()
        vm.snapshot(f"{folder}/1", compression="zstd", incremental=True)
    restore_and_check(env, f"{folder}/0", 3)
    restore_and_check(env, f"{folder}/1", 4)


@test("a snapshot of a snapshot's child is refused where its parent is gone")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/0")
        console.generation()
        vm.snapshot(f"{folder}/1", incremental=True)
        os.rename(f"{folder}/0", f"{folder}/moved")
        check("0" in refusal(env, f"{folder}/1"), "it says nothing of the parent")
        os.rename(f"{folder}/moved", f"{folder}/0")
    restore_and_check(env, f"{folder}/1", 2)
    refusal(env, f"{folder}/nowhere")
