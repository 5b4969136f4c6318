"""What the Docker tests boot from, made with the project's own recipes in the folder `made`/docker."""
import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIG = 2 << 30
PIECE = 1 << 20


def recipe(*words):
    """The path that a recipe prints."""
    return subprocess.run([f"{ROOT}/guest/{words[0]}", *words[1:]], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def big_piece(number):
    """The big file's megabyte `number`: random, and the same each time."""
    return random.Random(number).randbytes(PIECE)


def digest_of_piece(number):
    return hashlib.sha256(big_piece(number)).hexdigest()


class BigFile(io.RawIOBase):
    """The big file as a stream, without holding it."""

    def __init__(self):
        super().__init__()
        self.rest, self.number = b"", 0

    def read(self, size=-1):
        while len(self.rest) < size:
            self.rest += big_piece(self.number)
            self.number += 1
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece


def tools_root(path, big=False):
    """busybox with a name for each of its programs; with `big`, a file of 2 GiB beside it."""
    busybox = shutil.which("busybox")
    names = subprocess.run([busybox, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    with tarfile.open(path, "w", copybufsize=PIECE) as tar:
        for folder in ("bin", "tmp"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.size, info.mode = os.path.getsize(busybox), 0o755
        with open(busybox, "rb") as program:
            tar.addfile(info, program)
        for name in sorted(set(names) - {"busybox"}):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        if big:
            info = tarfile.TarInfo("big")
            info.size = BIG
            tar.addfile(info, BigFile())


def make_image(folder, name, **options):
    root, archive = f"{folder}/{name}.root.tar", f"{folder}/{name}.tar"
    tools_root(root, **options)
    subprocess.run([f"{ROOT}/guest/images/pack", "--name", f"{name}:1", root, archive], check=True)
    os.unlink(root)
    return archive


def make_disk(disk, *archives):
    subprocess.run([f"{ROOT}/guest/rootfs/images", disk, *archives], check=True)


def point(link, target):
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(target, link)


def prepare(folder, build):
    os.makedirs(folder, exist_ok=True)
    point(f"{folder}/vmlinux", recipe("kernel/build") + "/vmlinux")
    point(f"{folder}/root.img", recipe("rootfs/build", "--agent", f"{build}/guest/agent/bulkhead-agent"))
    tools = make_image(folder, "tools")
    make_disk(f"{folder}/images.img", tools, recipe("images/mariadb"))
    if not os.path.exists(f"{folder}/big.img"):  # takes a while, and never changes
        big = make_image(folder, "big", big=True)
        make_disk(f"{folder}/big.img", big)
        os.unlink(big)
    os.unlink(tools)
