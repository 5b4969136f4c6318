"""The database's servers, as the load sees them: a container in a VM, and the same container on this host."""
import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import container
from client import Client, RpcError
from measure import Process, exits
from monitors import Guest
from rows import BARE

CPUS, MEMORY, DATA_MIB = 2, 1024, 1024
AGENT_PORT, FIRST_CID = 1024, 79
PASSWORD = "bench"
TABLES = ["--tables=2", "--table-size=1000"]
# The guest tells what lies at an address: NAME FIRST LAST, for each device of virtio.
DEVICES = """for d in /sys/bus/pci/devices/*; do
	for v in $d/virtio*; do
		[ -d $v ] || continue
		name=$(basename $(readlink $v/driver)) serial=$(cat $v/block/*/serial 2>/dev/null)
		while read first last flags; do [ $flags = 0x0000000000000000 ] || echo $name${serial:+-$serial} $first $last; done <$d/resource
	done
done"""


class Server:
    """A server that answers SQL, or will. `alive` raises an error when it is none any more."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def sql(self, statement):
        return subprocess.run(["mariadb", f"--host={self.host}", f"--port={self.port}", "--user=root", f"--password={PASSWORD}",
                               "--protocol=tcp", "--connect-timeout=5", "--execute", statement],
                              capture_output=True, text=True, check=False, timeout=60)

    def wait(self):
        last = ""

        def answers():
            nonlocal last
            done = self.sql("SELECT 1")
            last = done.stderr.strip()
            return done.returncode == 0
        try:
            ask(answers, "first SQL answer", 240, self.alive)
        except RuntimeError as why:
            raise RuntimeError(f"{why}: {last}") from why

    def sysbench(self, script, threads, command, seconds=0):
        done = subprocess.run(["sysbench", script, "--db-driver=mysql", f"--mysql-host={self.host}", f"--mysql-port={self.port}",
                               "--mysql-user=root", f"--mysql-password={PASSWORD}", *TABLES, f"--threads={threads}",
                               f"--time={seconds}", "--percentile=99", command],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=seconds + 60)
        if done.returncode:
            raise RuntimeError(f"sysbench {script} {command}: {done.stdout[-300:]}")
        return done.stdout

    def load(self, script, threads, seconds):
        """(transactions, transactions a second, 99th percentile in ms)"""
        text = self.sysbench(script, threads, "run", seconds)
        found = re.search(r"transactions: +(\d+) +\(([0-9.]+) per sec.*?99th percentile: +([0-9.]+)", text, re.DOTALL)
        if not found or not int(found[1]):
            raise RuntimeError(f"sysbench {script} made no transaction: {text[-300:]}")
        return int(found[1]), float(found[2]), float(found[3])

    def prepare(self, seconds):
        """Tables, and a first load that counts for nothing: caches fill, and the log has gone once around its file's start."""
        done = self.sql("CREATE DATABASE sbtest")
        if done.returncode:
            raise RuntimeError(f"CREATE DATABASE: {done.stderr}")
        self.sysbench("oltp_read_write", 1, "prepare")
        self.load("oltp_read_write", 8, seconds)


def ask(question, what, seconds, alive):
    """The answer, once there is one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive(what)
        try:
            answer = question()
            if answer:
                return answer
        except (OSError, RpcError, subprocess.TimeoutExpired):
            pass
        time.sleep(0.05)
    alive(what)
    raise RuntimeError(f"no {what} in {seconds} s")


class Tap:
    """A network of its own for each VM: several run at once."""

    def __init__(self, number):
        self.name, self.host, self.guest = f"tapbench{number}", f"10.79.{number}.1", f"10.79.{number}.2"

    def __enter__(self):
        subprocess.run(["ip", "tuntap", "add", "dev", self.name, "mode", "tap", "vnet_hdr"], check=True)
        try:
            subprocess.run(["ip", "addr", "add", f"{self.host}/24", "dev", self.name], check=True)
            subprocess.run(["ip", "link", "set", self.name, "up"], check=True)
        except subprocess.SubprocessError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        subprocess.run(["ip", "link", "del", self.name], check=False)


class Machine(Server):
    """A VM; `folder` holds its disks, and goes with it."""

    numbers = itertools.count(1)

    def __init__(self, monitor, files, folder):
        self.monitor, self.files, self.folder = monitor, files, folder
        number = next(self.numbers)
        self.tap, self.cid = Tap(number), FIRST_CID + number
        super().__init__(self.tap.guest, 3306)

    def fresh(self, name):
        path = os.path.join(self.folder, name)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", "-L", os.path.join(self.files, name), path], check=True)
        return path

    def guest(self):
        """Copied to this host's own disk, and written out before the clock starts."""
        data, vsock = (os.path.join(self.folder, name) for name in ("data.img", "vsock"))
        with open(data, "wb") as f:
            f.truncate(DATA_MIB << 20)
        disks = ((self.fresh("root.img"), "root", False), (self.fresh("docker.img"), "docker", False), (data, "data", False))
        # No complaints about a clock that jumps: the VM stands still while another one is measured.
        words = (f"console=ttyS0 panic=-1 reboot=t root=/dev/vda rw quiet rcupdate.rcu_cpu_stall_suppress=1 nowatchdog "
                 f"bulkhead.ip={self.tap.guest}/24 bulkhead.gateway={self.tap.host}")
        guest = Guest(self.fresh("vmlinux"), None, words, cpus=CPUS, memory=MEMORY, disks=disks, tap=self.tap.name,
                      vsock=(self.cid, vsock))
        os.sync()
        return guest

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            os.makedirs(self.folder)
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            guest = self.guest()
            self.address = self.monitor.agent(guest)
            if isinstance(self.address, int) and not os.path.exists("/dev/vhost-vsock"):
                raise RuntimeError("this host has no /dev/vhost-vsock (modprobe vhost_vsock): QEMU's guest cannot be asked")
            stack.enter_context(self.tap)
            self.process = stack.enter_context(Process(self.monitor.command(guest)))
            self.pid = self.process.pid
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def hold(self):
        self.process.process.send_signal(signal.SIGSTOP)

    def release(self):
        self.process.process.send_signal(signal.SIGCONT)

    def tail(self):
        return self.process.tail()

    def alive(self, what):
        if self.process.process.poll() is not None:
            raise RuntimeError(f"ended before its {what}: {self.tail()}")

    def call(self, method, **params):
        with Client(self.address, 60, AGENT_PORT) as agent:
            return agent.call(method, **params)

    def run(self, *argv):
        with Client(self.address, 120, AGENT_PORT) as agent:
            result = agent.run(*argv)
            if result.get("status") != 0:
                raise RuntimeError(f"{argv[0]} in the guest: {result} {agent.output('stderr')[-300:]}")
            return agent.output().decode(errors="replace")

    def stages(self, take):
        """Seconds from the process's start. Init's is the kernel's own time of it on the clock of `ping`'s answer."""
        ping = ask(lambda: self.call("ping"), "first answer of the agent", 180, self.alive)
        answered = self.process.age()
        zero = answered - ping["uptime_ms"] / 1000
        take("db_agent_s", answered)
        ask(lambda: self.call("containers"), "answer of Docker", 240, self.alive)
        take("db_docker_s", self.process.age())
        self.run("docker", "run", "--detach", "--name", "db", "--publish", "3306:3306",
                 "--env", f"MARIADB_ROOT_PASSWORD={PASSWORD}", "--volume", "/data/mysql:/var/lib/mysql", "bulkhead/mariadb")
        self.wait()
        take("db_sql_s", self.process.age())
        seen = exits(self.pid)
        if "exits" in seen:
            take("db_sql_exits", seen["exits"])
        init = re.search(r"\[ *([0-9.]+)\] Run \S+ as init process", self.run("dmesg"))
        if init:
            take("db_init_s", zero + float(init[1]))

    def devices(self):
        found = [(0xfec00000, 0xfec00fff, "I/O APIC"), (0xfee00000, 0xfee00fff, "local APIC")]
        for line in self.run("sh", "-c", DEVICES).splitlines():
            name, first, last = line.split()
            found.append((int(first, 16), int(last, 16), name))
        return found


class Bare(Server):
    """The container on this host. `folder` holds the root of the image, unpacked once."""

    name, pid = BARE, None

    def __init__(self, files, folder):
        self.folder, self.root = folder, os.path.join(folder, "root")
        self.image = os.path.join(files, "image.tar")
        with socket.create_server(("127.0.0.1", 0)) as free:
            super().__init__("127.0.0.1", free.getsockname()[1])

    def __enter__(self):
        if not os.path.exists(self.root):
            container.unpack(self.image, self.root)
        options = ["--bind-address=127.0.0.1", f"--port={self.port}"]
        self.container = container.Container(self.folder, container.configuration(self.image), options, CPUS, MEMORY)
        os.sync()
        self.started = time.monotonic()
        self.container.__enter__()
        return self

    def __exit__(self, *exc):
        self.container.__exit__(*exc)

    def hold(self):
        """What is idle on the host costs next to nothing."""

    release = hold

    def alive(self, what):
        if self.container.process.poll() is not None:
            raise RuntimeError(f"ended before its {what}: {self.tail()}")

    def tail(self):
        return self.container.tail()

    def stages(self, take):
        self.wait()
        take("db_sql_s", time.monotonic() - self.started)
