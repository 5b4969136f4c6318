"""Clones: many guests of one snapshot, each another one."""
import json
import os
import subprocess

from contextlib import ExitStack

from guests import Guest, Restored, check, folder_in, refusal, restore_and_check, test

CLONES = 8


def generation_id(env, folder):
    done = subprocess.run([env.bulkhead, "inspect", folder, "--state", "--json"], capture_output=True, text=True, check=True)
    return next(s["fields"]["id"] for s in json.loads(done.stdout)["state"] if s["section"] == "vmgenid")


def private_kib(vm):
    with open(f"/proc/{vm.process.pid}/smaps_rollup", encoding="ascii") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith(("Private_Dirty:", "Private_Clean:")))


@test("a clone has another generation id than its siblings; a guest that is restored keeps its own")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/s")
    ids = [generation_id(env, f"{folder}/s")]
    for name, options in (("same", ()), ("one", ("--clone",)), ("two", ("--clone",))):
        with Restored(env, f"{folder}/s", *options) as vm, vm.tell() as console:
            check(console.remembers() == 1, "it is not right")
            vm.snapshot(f"{folder}/{name}")
        ids.append(generation_id(env, f"{folder}/{name}"))
    check(ids[0] == ids[1] and len(set(ids)) == 3, f"{ids}")


@test("addresses for a clone's guest that are none, of no network or for no clone are refused before anything starts")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/s")
    for address, why in (("address=10.0.0.7", "with a prefix"), ("address=10.0.0.7/33", "with a prefix"), ("address=fe80::1/129", "with a prefix"),
                         ("address=10.0.0.7/+4", "with a prefix"), ("address=10.0.0.7/24,gateway=there", "gateway: 'there' is no address"),
                         ("address=10.0.0.7/24", "no network 'net0'"), ("gateway=10.0.0.1", "address")):
        check(why in refusal(env, f"{folder}/s", "--clone", "--guest-address", address, status=2), f"{address}: another reason")
    check("only a clone" in refusal(env, f"{folder}/s", "--guest-address", "address=10.0.0.7/24", status=2), "it is no clone")


@test("clones that run at once share what none of them has written, and their disks' blocks")
def _(env):
    folder = folder_in(env)
    with Guest(env, does="remember every=2 disk=1") as vm, vm.tell() as console:
        console.generation(2)
        saved = vm.snapshot(f"{folder}/s", disks="copy")
    base = next(f"{folder}/s/{name}" for name in os.listdir(f"{folder}/s") if name.startswith("disk"))
    with ExitStack() as stack:
        vms = []
        for number in range(CLONES):
            vms.append(stack.enter_context(Restored(env, f"{folder}/s", "--clone", "--name", f"clone{number}",
                                                    disk=f"{folder}/disk{number},base={base}")))
        for number, vm in enumerate(vms):
            check(vm.call("vm.info")["name"] == f"clone{number}", "another name")
            if not env.sanitized:
                check(private_kib(vm) < saved["bytes"] // 1024 // 2, f"{private_kib(vm)} KiB of its own")
        for number, vm in enumerate(vms):
            with vm.tell() as console:
                check(console.remembers() == 2, "it is not right")
                check(console.generation(number + 1) == number + 3, "it does not go on")
        for number, vm in enumerate(vms):
            with vm.tell() as console:
                check(console.remembers() == number + 3, "it sees what a sibling wrote")
    restore_and_check(env, f"{folder}/s", 2, disk=True)
