"""How a VM ends: vm.shutdown and the guest's agent, answers that must not be lost, and clients that are killed in mid-call.

No payload has an agent, so these tests are one: they take over the path of the VM's vsock bridge, where the control socket asks for it.
"""
import json
import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time

from harness import VM, RpcError, check, lines, refused, served, test, type_and_read, wait_for


class Agent:
    """Answers what a VM asks of its guest's agent: a JSON value is the result; None: nothing is ever answered; False: it closes."""

    def __init__(self, path, answer):
        self.path, self.answer, self.asked, self.open = path, answer, [], []
        os.unlink(path)  # the bridge's own
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(50)
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for sock in self.open:
            sock.close()

    def serve(self):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            self.open.append(sock)
            reader = sock.makefile("rb")
            if reader.readline() != b"CONNECT 1024\n":
                continue
            try:
                sock.sendall(b"OK 1024\n")
                request = json.loads(reader.readline())
            except (OSError, ValueError):  # who asked has gone
                continue
            self.asked.append(request)
            if self.answer is False:
                sock.shutdown(socket.SHUT_RDWR)
            elif self.answer is not None:
                sock.sendall(json.dumps({"jsonrpc": "2.0", "id": request["id"], **self.answer}).encode() + b"\n")


def with_vsock(env, **more):
    path = f"{env.work}/vsock-{os.urandom(4).hex()}"
    return path, VM(env, "--vsock", f"cid=3,socket={path}", "--log-level", "info", **more)


BUTTON = "pressing the power button"


@test("vm.shutdown asks the guest's agent first, with the time that there is; the power button is left alone then")
def _(env):
    path, vm = with_vsock(env)
    with vm, vm.client() as client:
        vm.state()
        with Agent(path, {"result": {"mode": "poweroff", "by": "signal"}}) as agent:
            refused("guest_timeout", "runs on", client.call, "vm.shutdown", timeout_ms=2000)
            refused("guest_timeout", "runs on", client.call, "vm.shutdown", timeout_ms=2010)
            number = client.send("vm.shutdown", timeout_ms=120000)
            wait_for("the third request", lambda: len(agent.asked) == 3)
            check([a["method"] for a in agent.asked] == ["shutdown"] * 3, f"{agent.asked}")
            check([a["params"] for a in agent.asked] == [{"timeout_ms": 30000}] * 2 + [{"timeout_ms": 120000}], f"{agent.asked}")
            check(BUTTON not in vm.errors(), vm.errors())
            vm.call("vm.kill")
            check(client.answer(number) == {"state": "ended", "how": "killed"}, "the end")


@test("vm.shutdown presses the power button where the agent refuses, closes, or says nothing; and the VM runs on after its time")
def _(env):
    error = {"error": {"code": -32001, "message": "file systems are frozen", "data": {"kind": "wrong_state"}}}
    for what, answer in (("refuses", error), ("closes", False), ("says nothing", None)):
        path, vm = with_vsock(env)
        with vm, vm.client() as client:
            vm.state()
            with Agent(path, answer):
                refused("guest_timeout", "runs on", client.call, "vm.shutdown", timeout_ms=3000)
                check(vm.errors().count(BUTTON) == 1, f"an agent that {what}: {vm.errors()}")
                check(answer is not error or "file systems are frozen" in vm.errors(), vm.errors())
            type_and_read(vm, b"on\n")
    path, vm = with_vsock(env)
    with vm, vm.client() as client:  # the real bridge: no driver in the guest
        refused("guest_timeout", "runs on", client.call, "vm.shutdown", timeout_ms=300)
        check(vm.errors().count(BUTTON) == 1, f"no agent: {vm.errors()}")


@test("vm.shutdown of a VM that ends while its agent is still being asked leaves nothing behind")
def _(env):
    for _ in range(5):
        path, vm = with_vsock(env)
        with vm, vm.client() as client:
            vm.state()
            with Agent(path, None) as agent:
                number = client.send("vm.shutdown", timeout_ms=60000)
                wait_for("the request", lambda agent=agent: agent.asked)
                vm.call("vm.kill")
                check(client.answer(number)["how"] == "killed", "the end")
                check(vm.process.wait(60) == 1, "the end")


@test("every client is answered before the process ends, however many wait and however slowly they read")
def _(env):
    for slow in (False, True):
        with VM(env) as vm:
            waiting = [vm.client() for _ in range(20)]
            for client in waiting:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                ahead = [("rpc.discover", n, {}) for n in range(100, 103)] if slow else []
                client.socket.sendall(lines(*ahead, ("vm.shutdown", 1, {"timeout_ms": 600000})))
            if not slow:
                wait_for("all to wait", lambda: vm.state() == "running")
            answered = []

            def read(client, answered=answered):
                for _ in range(4 if slow else 1):
                    answered.append(slowly(client))
            threads = [threading.Thread(target=read, args=(client,), daemon=True) for client in waiting]
            for thread in threads if slow else ():
                thread.start()
            if slow:  # three answers of each are on their way
                wait_for("the first answers", lambda answered=answered: len(answered) >= 60)
            with vm.client() as killing:
                killing.socket.sendall(lines(("vm.kill", 1, {})))
                check(killing.line()["result"] == {"state": "ended"}, "vm.kill")
            for thread in threads if not slow else ():
                thread.start()
            for thread in threads:
                thread.join(120)
            ends = [a for a in answered if a.get("id") == 1]
            check(len(ends) == 20 and all(a["result"] == {"state": "ended", "how": "killed"} for a in ends),
                  f"{len(ends)} of 20 were answered: {[a for a in answered if 'error' in a][:2]}")
            check(vm.process.wait(60) == 1, "the end")


def slowly(client):
    """The next line, read in small pieces."""
    while b"\n" not in client.buffer:
        piece = client.socket.recv(2000)
        if not piece:
            raise ConnectionError("closed before the answer")
        client.buffer += piece
        time.sleep(0.001)
    line, client.buffer = client.buffer.split(b"\n", 1)
    return json.loads(line)


@test("a client that never reads does not keep the process from ending")
def _(env):
    with VM(env) as vm, vm.client() as deaf:
        deaf.socket.setblocking(False)
        try:
            while True:
                deaf.socket.send(lines(("rpc.discover", 1, {})) * 100)
        except BlockingIOError:
            pass
        vm.call("vm.kill")
        check(vm.process.wait(60) == 1, "the end")


@test("guest.identify asks the agent as it was asked, with the host's time and fresh random bytes where none are given")
def _(env):
    path, vm = with_vsock(env)
    with vm, vm.client() as client:
        vm.state()
        answer = {"hostname": "b", "machine_id": None, "interfaces": [], "complete": True, "steps": []}
        with Agent(path, {"result": answer}) as agent:
            before = time.time_ns()
            check(client.call("guest.identify") == answer, "the answer")
            interface = {"name": "eth0", "new_mac": "52:54:00:00:00:05", "addresses": ["10.0.0.5/24"]}
            client.call("guest.identify", hostname="b", machine_id="random", interfaces=[interface], entropy="A" * 64, time_ns=5 * 10**9)
            client.call("guest.identify")
            bare, full, again = [request["params"] for request in agent.asked]
            check({request["method"] for request in agent.asked} == {"identity.change"}, f"{agent.asked}")
            check(full == {"hostname": "b", "machine_id": "random", "interfaces": [{**interface, "up": True}], "entropy": "A" * 64, "time_ns": 5 * 10**9}, f"{full}")
            check(bare.pop("interfaces") == [] and set(bare) == {"entropy", "time_ns"}, f"{bare}")
            check(before <= bare["time_ns"] <= again["time_ns"] <= time.time_ns(), f"{bare}")
            check(len(bare["entropy"]) == 88 and bare["entropy"] != again["entropy"], f"{bare}")
        refused("bad_request", "entropy", client.call, "guest.identify", entropy="A")
        refused("bad_request", "new_mac", client.call, "guest.identify", interfaces=[{"name": "x", "new_mac": "z"}])
        type_and_read(vm, b"on\n")


@test("kill -9 of a client in mid-call: the VM runs on, and a new client sees what has happened since it last looked")
def _(env):
    path, vm = with_vsock(env)
    with vm, vm.client() as before:
        before.call("vm.pause"), before.call("vm.resume")
        seen = before.call("events.subscribe", since=0)["last"]
        before.socket.close()
        with Agent(path, None) as agent:
            fds = vm.fds()
            for method, params in (("guest.exec", ('argv=["sleep", "9"]', "timeout_ms=0")), ("vm.shutdown", ("timeout_ms=600000",)),
                                   ("guest.exec", ('argv=["x"]',))):
                count = len(agent.asked)
                with subprocess.Popen([env.bulkhead, "ctl", vm.control, method, *params], stderr=subprocess.PIPE) as client:
                    wait_for(f"{method} to be asked", lambda count=count: len(agent.asked) > count)
                    client.send_signal(signal.SIGKILL)
                check(client.returncode == -signal.SIGKILL, f"{method} was answered: {client.returncode}")
                vm.call("vm.pause"), vm.call("vm.resume")
            with vm.client() as after:
                check(after.call("events.subscribe", since=seen) == {"first": seen + 1, "last": seen + 6}, "since")
                while len(after.notes) < 6:
                    after.pump()
                check([n["params"]["state"] for n in after.notes] == ["paused", "running"] * 3, f"{after.notes}")
        wait_for("the descriptors of what was in flight", lambda: vm.fds() <= fds)
        type_and_read(vm, b"on\n")


@test("questions to the agent leave the descriptors that a reset needs, and are told so")
def _(env):
    path, vm = with_vsock(env, limits=[(resource.RLIMIT_NOFILE, 60)])
    with vm, vm.client() as first:
        first.call("vm.info")
        with Agent(path, None) as agent:
            clients = [first]
            while clients[-1]:
                clients.append(served(vm))
            clients.pop()
            check(len(clients) > 6, f"only {len(clients)} clients")
            full = vm.fds()
            for _ in range(2):  # room for two questions
                clients.pop().socket.close()
            wait_for("room", lambda: vm.fds() <= full - 2)
            for client in clients[1:]:
                asked = len(agent.asked)
                client.send("guest.exec", argv=["x"], timeout_ms=0)
                wait_for("the question or a refusal", lambda: len(agent.asked) > asked or readable(client))
                if readable(client):
                    break
            error = client.line()["error"]
            check("no descriptor is left" in error["message"] and error["data"]["kind"] == "no_resource", f"{error}")
            check(agent.asked, "not one question")
            for _ in range(3):
                check(first.call("vm.reset") == {"state": "running"}, "vm.reset")
            type_and_read(vm, b"on\n")
            for client in clients[1:]:
                client.socket.close()
        wait_for("room for a question again", lambda: kind_of(first, "guest.ping") == "agent_absent")


def kind_of(client, method):
    try:
        client.call(method)
        return None
    except RpcError as error:
        return error.kind


def readable(client):
    return select.select([client.socket], [], [], 0)[0]
