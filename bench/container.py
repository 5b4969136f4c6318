"""The database's container without a VM: the image's root in a folder, run by runc beside whatever else the host does.

As Docker would run it: namespaces of its own, Docker's capabilities, limits by cgroup. What it is spared: the network is the
host's (no bridge, no NAT, no docker-proxy), the root is a folder (no overlay), and there is no seccomp filter.
"""
import json
import os
import shutil
import subprocess
import tarfile

CAPABILITIES = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE").split()]
MOUNTS = [("/proc", "proc", "proc", []), ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
          ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
          ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
          ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
          ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])]


def manifest(image):
    found = json.load(image.extractfile("manifest.json"))[0]
    if len(found["Layers"]) != 1:
        raise RuntimeError(f"{image.name}: one layer expected, not {len(found['Layers'])}")
    return found


def configuration(archive):
    with tarfile.open(archive) as image:
        return json.load(image.extractfile(manifest(image)["Config"]))["config"]


def unpack(archive, folder):
    """The root of an image of one layer, in the form of `docker save`."""
    os.makedirs(folder)
    with tarfile.open(archive) as image:
        tar = subprocess.Popen(["tar", "-x", "--numeric-owner", "-C", folder], stdin=subprocess.PIPE)
        with tar.stdin, image.extractfile(manifest(image)["Layers"][0]) as layer:
            shutil.copyfileobj(layer, tar.stdin, 1 << 20)
        if tar.wait():
            raise RuntimeError(f"{archive}: the layer cannot be unpacked")


def specification(root, config, volume, options, cpus, memory, name):
    """What runc reads. A set of CPUs, not a share of time: who is stopped for having used a share waits for the next period."""
    target = next(iter(config["Volumes"]))
    mounts = [{"destination": to, "type": kind, "source": source, "options": words} for to, kind, source, words in MOUNTS]
    mounts.append({"destination": target, "type": "bind", "source": volume, "options": ["rbind", "rw"]})
    chosen = sorted(os.sched_getaffinity(0))[:cpus]
    return {
        "ociVersion": "1.0.2", "root": {"path": root}, "hostname": "bare", "mounts": mounts,
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": config["Entrypoint"] + options,
                    "env": config["Env"] + ["MARIADB_ROOT_PASSWORD=bench"], "noNewPrivileges": False,
                    "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
                    "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1048576}]},
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")], "cgroupsPath": f"/{name}",
                  "resources": {"memory": {"limit": memory << 20},
                                "cpu": {"cpus": ",".join(map(str, chosen))}}}}


class Container:
    """Runs in `folder`, which holds `root` as `unpack` made it."""

    def __init__(self, folder, config, options, cpus, memory):
        self.folder, self.name = folder, f"bulkhead-bench-{os.getpid()}"
        self.volume = os.path.join(folder, "data")
        shutil.rmtree(self.volume, ignore_errors=True)
        os.mkdir(self.volume)
        spec = specification(os.path.join(folder, "root"), config, self.volume, options, cpus, memory, self.name)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(spec, f)

    def runc(self, *words):
        return ["runc", "--root", os.path.join(self.folder, "runc"), *words]

    def __enter__(self):
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.process = subprocess.Popen(self.runc("run", "--bundle", self.folder, self.name), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, *exc):
        # runc waits for the container, which would outlive it.
        subprocess.run(self.runc("delete", "--force", self.name), check=False, stderr=subprocess.DEVNULL)
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.volume, ignore_errors=True)

    def tail(self):
        self.log.seek(0)
        return self.log.read()[-500:].decode(errors="replace").replace("\n", " | ")
