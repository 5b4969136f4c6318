"""Snapshots of others: of another CPU, of another version of the format, and one that was taken long ago.

format-1.tar.xz must restore for ever: a full snapshot and an incremental one of `remember every=1024 disk=1` with --memory 16M,
generations 2 and 3; paths are made plain. It is never made anew: a new format gets one of its own beside it.
"""
import json
import os
import shutil
import struct
import subprocess
import tarfile

from guests import HERE, Guest, Restored, check, folder_in, manifest, refusal, restore_and_check, test
from statefile import OPTIONAL, StateFile, number

CNXT_ID = 10  # leaf 1, ECX: KVM gives it to no guest
OTHER_CPU = ("cannot give the guest the CPU", "began on a processor of", "guest's TSC runs at", "does not take what vCPU", "immune to attacks")


def take(env, generations=2):
    folder = folder_in(env)
    with Guest(env, does="remember every=8", memory="32M") as vm, vm.tell() as console:
        console.generation(generations)
        vm.snapshot(f"{folder}/s")
    return f"{folder}/s"


def reseal(env, folder):
    tool = f"{os.path.dirname(env.bulkhead)}/../../tests/unit/reseal_snapshot"
    subprocess.run([tool, folder], check=True, timeout=60)


def change_it(env, folder, change=None, **members):
    """`change` has the state, and the manifest gets these members; checksums say that all is right."""
    state = StateFile(f"{folder}/state")
    if change:
        change(state)
    state.write()
    with open(f"{folder}/manifest.json", "r+", encoding="utf-8") as file:
        text = {**json.load(file), **members}
        file.seek(0)
        file.truncate()
        json.dump(text, file)
    reseal(env, folder)


def changed(env, saved, change=None, **members):
    """A copy that is changed so."""
    folder = f"{folder_in(env)}/s"
    shutil.copytree(saved, folder)
    change_it(env, folder, change, **members)
    return folder


def refused_with(env, folder, *words):
    line = refusal(env, folder)
    for word in words:
        check(word in line, f"'{word}' is not in: {line}")


@test("a snapshot of a CPU with a feature that this host lacks is refused, and the feature named")
def _(env):
    saved = take(env)

    def give_feature(state):
        at = state.cpuid(1)["ecx"]
        body = state.find("cpu_model").body
        struct.pack_into("<I", body, at, struct.unpack_from("<I", body, at)[0] | 1 << CNXT_ID)

    def other_maker(state):
        body, entry = state.find("cpu_model").body, state.cpuid(0)
        for name, part in (("ebx", b"Cent"), ("edx", b"aurH"), ("ecx", b"auls")):
            body[entry[name]:entry[name] + 4] = part

    refused_with(env, changed(env, saved, give_feature), "it lacks cnxt_id", "--cpu-model")
    refused_with(env, changed(env, saved, other_maker), "CentaurHauls")
    restore_and_check(env, changed(env, saved), 2)


@test("what a later version wrote is restored where it may be passed over, and else refused in words")
def _(env):
    saved = take(env)

    def later(flags):
        def change(state):
            section = state.find("clock")
            section.version += 1
            section.body += number("moon_phase", 3, flags=flags)
        return change

    def later_format(state):
        state.format += 1

    def later_thing(flags):
        def change(state):
            state.sections.append(type(state.sections[0])(1, flags, "teleporter", "", bytearray()))
        return change

    refused_with(env, changed(env, saved, format=2), "has format 2, and this program knows 1", "version of bulkhead that wrote it")
    refused_with(env, changed(env, saved, later_format), "format 2")
    refused_with(env, changed(env, saved, later(0)), "moon_phase")
    refused_with(env, changed(env, saved, later_thing(0)), "teleporter")
    restore_and_check(env, changed(env, saved, later(OPTIONAL)), 2)
    restore_and_check(env, changed(env, saved, later_thing(OPTIONAL)), 2)


@test("a snapshot of format 1 from long ago is whole, and restores where there is such a CPU")
def _(env):
    folder = folder_in(env)
    with tarfile.open(f"{HERE}/format-1.tar.xz") as tar:
        tar.extractall(folder)
    old = f"{folder}/format-1/child"  # an incremental one, of memory and a disk
    check(manifest(old)["format"] == 1 and manifest(old)["kind"] == "incremental", f"{manifest(old)}")
    done = subprocess.run([env.bulkhead, "inspect", old, "--verify", "--state", "--json"], capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"{done.stderr}")
    check({"cpu_model", "clock", "vcpu", "blk"} <= {section["section"] for section in json.loads(done.stdout)["state"]}, "sections are missing")
    change_it(env, old, machine={**manifest(old)["machine"], "kernel": f"{env.payloads}/tests.elf"})
    with Restored(env, old, disk=f"{folder}/disk") as vm:
        if vm.process.poll() is not None:
            check(any(word in vm.errors() for word in OTHER_CPU), f"it is refused: {vm.errors()}")
            return  # there is no going on here: that it can be read is all that is to be known
    restore_and_check(env, old, 3, disk=True)
