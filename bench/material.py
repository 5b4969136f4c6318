"""What is measured and what the sections read, made once: the monitor, kernels, ramdisks, disks."""
import os
import shutil
import subprocess

from rows import FLAVOURS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def cache_folder():
    return os.environ.get("BULKHEAD_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bulkhead")


def build(made):
    """A release build of its own: what users get, whatever the developer's build folder holds."""
    folder = os.path.join(made, "release")
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        subprocess.run(["meson", "setup", "-Dbuildtype=release", "-Dtests=false", folder, ROOT], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, "vmm/cli/bulkhead", "guest/agent/bulkhead-agent"], check=True,
                   stdout=subprocess.DEVNULL)
    return os.path.join(folder, "vmm", "cli", "bulkhead")


def payloads(made):
    """Guests without an operating system, and the program that times dirty tracking, by name. They come with the tests."""
    folder = os.path.join(made, "payloads")
    paths = [f"guest/payloads/{name}" for name in ("bench.elf", "tests.elf")] + ["tests/payload/payload_dirty_cost"]
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        subprocess.run(["meson", "setup", "-Dbuildtype=release", folder, ROOT], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, *paths], check=True, stdout=subprocess.DEVNULL)
    return {os.path.basename(path): os.path.join(folder, path) for path in paths}


def prepare(made):
    """What the sections but `db` read: kernels, ramdisks, the smallest kernel, the disk with fio and iperf3."""
    os.makedirs(made, exist_ok=True)
    for flavour in FLAVOURS:
        subprocess.run([f"{ROOT}/guest/debian/fetch", flavour], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["gcc", "-nostdlib", "-static", "-Wl,--build-id=none", "-o", f"{made}/init", f"{HERE}/guest/init.S"],
                   check=True)
    with open(f"{made}/initrd-idle", "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=made, input=b"init\n", stdout=f, check=True)
    subprocess.run([f"{ROOT}/guest/debian/initrd", "6.1-cloud", f"{made}/initrd-work",
                    "--run", f"{HERE}/guest/run.sh", "--module", "?virtio_mmio"], check=True)
    subprocess.run(["gcc", "-Os", "-static", "-Wall", "-o", f"{made}/uevents", f"{HERE}/guest/uevents.c"], check=True)
    subprocess.run([f"{ROOT}/guest/debian/initrd", "6.1", f"{made}/initrd-plug", "--run", f"{HERE}/guest/plug.sh",
                    "--add", f"{made}/uevents:/bin/uevents",
                    "--add", f"{made}/release/guest/agent/bulkhead-agent:/bin/bulkhead-agent"], check=True)
    tools = [word for program in ("fio", "iperf3", "ping")
             for word in ("--add", f"{shutil.which(program)}:/bin/{program}")]
    subprocess.run([f"{ROOT}/guest/debian/disk", f"{made}/tools.img", "192M", *tools], check=True)
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-o", f"{made}/first.elf", f"{HERE}/guest/first.S",
                    "-Wl,--build-id=none,-N,--no-warn-rwx-segments,-Ttext=0x100000,-e,first"
                    ",--section-start=.note.first=0x100100"], check=True)
