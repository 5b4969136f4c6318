"""A guest without a VM: a small root file system on a tmpfs, the agent in it behind chroot, and a client for its socket.

Nothing but the standard library.
"""
import os
import re
import shutil
import signal
import subprocess
import time

from client import Client, check, wait_for


def copy_file(root, source):
    os.makedirs(os.path.dirname(root + source), exist_ok=True)
    shutil.copy(source, root + source)


def copy_libraries(root, path):
    for library in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout):
        copy_file(root, library)


def copy_program(root, program):
    """With the libraries it needs."""
    path = shutil.which(program)
    if not path:
        return False
    path = os.path.realpath(path)
    copy_file(root, path)
    copy_libraries(root, path)
    name = f"{root}/sbin/{program}"
    if not os.path.exists(name):
        os.symlink(path, name)
    return True


def make_cgroup(name):
    """A cgroup2 for a process 1 to take for its root, so that it leaves nothing among this host's; None where there is none."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        roots = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    path = f"{roots[0]}/{name}" if roots else None
    try:
        if path:
            os.makedirs(path, exist_ok=True)
    except OSError:
        return None
    return path


class Guest:
    """A root file system with the agent in it. `init`: as process 1 of a PID namespace, else as a service."""

    def __init__(self, agent, work, name, init=False, files=None):
        self.root = f"{work}/{name}"
        self.init = init
        os.makedirs(self.root)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.root], check=True)
        for folder in ["bin", "sbin", "etc/bulkhead/services.d", "proc", "sys", "dev", "run", "tmp", "root", "mnt", "log"]:
            os.makedirs(f"{self.root}/{folder}")
        busybox = "/bin/busybox" if os.path.exists("/bin/busybox") else shutil.which("busybox")
        shutil.copy(busybox, f"{self.root}/bin/busybox")
        for applet in ["sh", "cat", "sleep", "echo", "dd", "head", "id", "env", "pwd", "true", "false", "kill", "ls", "mkdir", "rm", "ps", "touch", "hostname", "setsid", "mount", "umount", "yes", "wc", "date"]:
            os.symlink("busybox", f"{self.root}/bin/{applet}")
        shutil.copy(agent, f"{self.root}/sbin/bulkhead-agent")
        copy_libraries(self.root, agent)  # none, but for a sanitizer's build
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndb:x:1234:1235:db:/home/db:/bin/sh\n")
        self.write("etc/group", "root:x:0:\ndb:x:1235:\nextra:x:1300:nobody,db\n")
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.write("etc/os-release", 'NAME=x\nPRETTY_NAME="Test Guest 1"\n')
        for path, text in (files or {}).items():
            self.write(path, text)
        if not init:
            subprocess.run(["mount", "-t", "proc", "proc", f"{self.root}/proc"], check=True)
            subprocess.run(["mount", "-t", "sysfs", "-o", "ro", "sysfs", f"{self.root}/sys"], check=True)
            subprocess.run(["mount", "-t", "devtmpfs", "devtmpfs", f"{self.root}/dev"], check=True)
        self.socket = f"{self.root}/agent.sock"
        self.process = self.cgroup = None

    def write(self, path, text):
        with open(f"{self.root}/{path}", "w", encoding="utf-8") as file:
            file.write(text)
        if text.startswith("#!"):
            os.chmod(f"{self.root}/{path}", 0o755)

    def read(self, path):
        try:
            with open(f"{self.root}/{path}", encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def start(self):
        command = ["chroot", self.root, "/sbin/bulkhead-agent", "--listen", "unix:/agent.sock"]
        if self.init:
            command = ["unshare", "--pid", "--mount", "--net", "--uts", "--cgroup", "--fork", "--kill-child", *command]
            self.cgroup = make_cgroup(f"bulkhead-agent-test-{os.getpid()}")
        if self.cgroup:
            command = ["sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"', self.cgroup, *command]
        # As a shell's background job is started: what the agent starts must not inherit it.
        command = ["env", "--ignore-signal=INT,QUIT,HUP", *command]
        with open(f"{self.root}/log/agent", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the agent's socket", lambda: self.answers() or self.process.poll() is not None)
        check(self.process.poll() is None, f"the agent ended: {self.log()}")
        return self

    def answers(self):
        try:
            with self.client(timeout=2):
                return True
        except OSError:
            return False

    def client(self, timeout=60.0):
        return Client(self.socket, timeout)

    def log(self):
        return self.read("log/agent")

    def pid(self):
        """Of the agent, or of the process 1 that it has, as we see it."""
        if not self.init:
            return self.process.pid
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as file:
            return int(file.read().split()[0])

    def status(self, field, pid=None):
        with open(f"/proc/{pid or self.pid()}/status", encoding="utf-8") as file:
            return re.search(rf"^{field}:\s*(\S+)", file.read(), re.M)[1]

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        time.sleep(0.05)
        for folder, _, _ in os.walk(self.cgroup, topdown=False) if self.cgroup else ():
            try:
                os.rmdir(folder)
            except OSError:
                pass  # a process is still on its way out: the next guest's end tries again
        subprocess.run(["umount", "-R", "-l", self.root], check=False, capture_output=True)
