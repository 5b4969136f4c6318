"""A VM as a database gets it: the guest kernel, the root disk with Docker, a disk with images, one for data, a network.

Nothing but the standard library. What the disks are made from is in tests/docker/images.py.
"""
import os
import subprocess
import sys
import time

import vm as monitor
from client import Client, Failure, RpcError, check, wait_for

HOST, GUEST, TAP = "10.78.0.1", "10.78.0.2", "tapdocker"
AGENT_PORT = 1024


class Tap:
    """A persistent tap with the host's address on it."""

    def __enter__(self):
        subprocess.run(["ip", "tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run(["ip", "addr", "add", f"{HOST}/24", "dev", TAP], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        return self

    def __exit__(self, *exc):
        subprocess.run(["ip", "link", "del", TAP], check=False)


class Disks:
    """The disks of one database; they outlive its VMs."""

    def __init__(self, env, images="images.img", data_mib=512):
        self.root = env.copy(f"{env.made}/docker/root.img", "root.img")
        self.images = env.copy(f"{env.made}/docker/{images}", "images.img")
        self.data = env.empty("data.img", data_mib << 20)

    def options(self):
        return ["--disk", f"path={self.root},serial=root", "--disk", f"path={self.images},serial=docker",
                "--disk", f"path={self.data},serial=data"]


class VM(monitor.VM):
    def __init__(self, env, disks, cpus=2, memory="1G", append=""):
        super().__init__(env)
        self.vsock, self.console, self.control = self.path("vsock"), self.path("console"), self.path("control")
        self.command += ["--kernel", f"{env.made}/docker/vmlinux", "--cpus", str(cpus), "--memory", memory, *disks,
                         "--net", f"tap={TAP}", "--vsock", f"cid=3,socket={self.vsock}", "--console", f"file:{self.console}", "--control", self.control,
                         "--append", f"quiet bulkhead.ip={GUEST}/24 bulkhead.gateway={HOST} {append}"]

    def tail(self):
        if os.path.exists(self.console):
            with open(self.console, "rb") as console:
                self.output = console.read()
        return super().tail()

    def agent(self, timeout=60.0):
        return Client(self.vsock, timeout, AGENT_PORT)

    def ask(self, what, question, seconds):
        """The answer, once there is one: a guest that boots or restarts refuses for a while."""
        def attempt():
            if self.process.poll() is not None:
                raise Failure(f"the VM ended while waiting for {what}: {self.tail()}")
            try:
                return question()
            except (OSError, RpcError):
                time.sleep(0.2)
                return None
        try:
            return wait_for(what, attempt, seconds)
        except Failure as failure:
            raise Failure(f"{failure}; {self.tail()}") from failure

    def call(self, method, **params):
        with self.agent() as agent:
            return agent.call(method, **params)

    def wait_agent(self):
        return self.ask("the agent", lambda: self.call("ping"), 120)

    def wait_docker(self):
        return self.ask("Docker", lambda: self.call("containers"), 180)

    def run(self, *argv, status=0):
        """A command in the guest: its output, both streams, when it ended as it should."""
        # A lost rig leaves nothing else to see what it was at; and it is told from a slow one by its silence.
        print(time.strftime("%T"), *argv, file=sys.stderr, flush=True)
        with self.agent(300) as agent:
            result = agent.run(*argv)
            output = (agent.output() + agent.output("stderr")).decode(errors="replace").strip()
        check(result.get("status") == status, f"{' '.join(argv)}: {result}: {output[-300:]}")
        return output

    def docker(self, *argv, status=0):
        return self.run("docker", *argv, status=status)

    def inspect(self, container, field):
        return self.docker("inspect", "--format", "{{" + field + "}}", container)

    def containers(self):
        return {c["name"]: c for c in self.call("containers")["containers"]}

    def shut_down(self):
        """The power button, and an end in order."""
        self.process.terminate()
        status = self.wait(120)
        check(status == 0, f"the VM ended with status {status}: {self.tail()}")


class Restored(VM):
    """The VM that was saved, in another process, on the same tap."""

    def __init__(self, env, folder, *options):
        super().__init__(env, [])
        self.command = [env.bulkhead, "restore", folder, "--vsock", f"socket={self.vsock}", "--console", f"file:{self.console}",
                        "--control", self.control, *options]
