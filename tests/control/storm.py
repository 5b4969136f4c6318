"""The control socket under everything at once: many clients, slow readers, half lines, long lines, random bytes, wrong types."""
import json
import random
import socket
import threading
import time

from harness import VM, Failure, RpcError, check, test, type_and_read, wait_for

CLIENTS, PIPELINED = 64, 50
METHODS = ("vm.info", "disk.list", "net.list", "events.subscribe", "disk.limit", "nonsense", "rpc.discover")
WEIGHTS = (30, 30, 30, 5, 5, 5, 1)


def request(method, number, params=None):
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode() + b"\n"


class Storm:
    """Good clients whose every call must be answered, in order; and bad ones beside them until they are done."""

    def __init__(self, vm, calls):
        self.vm, self.calls, self.over, self.failures, self.answered = vm, calls, threading.Event(), [], 0
        self.lock = threading.Lock()

    def run(self):
        good = [threading.Thread(target=self.guarded, args=(self.good, n), daemon=True) for n in range(CLIENTS)]
        bad = [threading.Thread(target=self.guarded, args=(role, n), daemon=True) for n in range(4)
               for role in (self.slow, self.halves, self.long, self.noise)]
        for thread in bad + good:
            thread.start()
        for thread in good:
            thread.join(300)
        alive = [thread for thread in good if thread.is_alive()]
        self.over.set()
        for thread in bad:
            thread.join(60)
        check(not self.failures, "; ".join(self.failures[:3]))
        check(not alive and self.answered == CLIENTS * self.calls, f"{self.answered} of {CLIENTS * self.calls} calls were answered")
        check(not any(thread.is_alive() for thread in bad), "a bad client was neither answered nor closed")

    def guarded(self, role, seed):
        try:
            role(random.Random(seed))
        except (AssertionError, OSError, ValueError) as why:
            self.failures.append(f"{role.__name__} {seed}: {type(why).__name__} {why}")

    def good(self, rng):
        with self.vm.client(120) as client:
            for start in range(0, self.calls, PIPELINED):
                numbers = range(start + 1, min(start + PIPELINED, self.calls) + 1)
                methods = [rng.choices(METHODS, WEIGHTS)[0] for _ in numbers]
                params = {"disk.limit": {"id": "data", "iops": 0}, "events.subscribe": {"types": ["disk.resized"]}}
                client.socket.sendall(b"".join(request(m, n, params.get(m)) for m, n in zip(methods, numbers)))
                for number, method in zip(numbers, methods):
                    line = client.read_line()
                    kind = b"error" if method == "nonsense" else b"result"
                    if not line.startswith(b'{"jsonrpc":"2.0","id":%d,"%s":' % (number, kind)):
                        raise ValueError(f"call {number}, {method}: {line[:100]}")
            with self.lock:
                self.answered += self.calls

    def slow(self, _):
        """Asks for much and reads little of it."""
        with self.vm.client(60) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.setblocking(False)
            while not self.over.is_set():
                try:
                    client.socket.send(request("rpc.discover", 1) * 50)
                except BlockingIOError:
                    pass
                try:
                    client.socket.recv(100)
                except BlockingIOError:
                    pass
                time.sleep(0.01)

    def halves(self, rng):
        """Lines that never end, or much later."""
        while not self.over.is_set():
            with self.vm.client(60) as client:
                line = request("vm.info", 7)
                cut = rng.randrange(1, len(line))
                client.socket.sendall(line[:cut])
                time.sleep(0.05)
                if rng.randrange(2):
                    client.socket.sendall(line[cut:])
                    if client.line()["id"] != 7:
                        raise ValueError("a line in two halves")

    def long(self, _):
        """A line of 2 MiB is refused, and the next one is served."""
        while not self.over.is_set():
            with self.vm.client(60) as client:
                client.socket.sendall(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * (2 << 20) + b'"}\n' + request("net.list", 2))
                if "longer" not in client.line()["error"]["message"] or client.line()["id"] != 2:
                    raise ValueError("a line of 2 MiB")

    def noise(self, rng):
        while not self.over.is_set():
            try:
                with self.vm.client(60) as client:
                    client.socket.sendall(rng.randbytes(rng.randrange(1, 3000)) + b"\n" + request("net.list", "last"))
                    while client.line()["id"] != "last":
                        pass
            except ConnectionError:
                pass


@test("64 clients make 100,000 calls among slow readers, half lines, lines of 2 MiB and random bytes; nothing is lost, nothing grows")
def _(env):
    with VM(env) as vm:
        vm.state()
        fds, sizes = vm.fds(), [vm.rss_kib()]
        for _ in range(2):
            Storm(vm, 20 if env.sanitized else 800).run()
            wait_for("the clients' descriptors to be closed", lambda: vm.fds() <= fds + 1)
            sizes.append(vm.rss_kib())
        check(env.sanitized or sizes[2] - sizes[1] < 4096 and sizes[2] - sizes[0] < 16384, f"anonymous memory: {sizes} KiB")
        type_and_read(vm, b"undisturbed\n")
        check(vm.state() == "running" and vm.call("events.subscribe", since=0)["last"] == 0, "the VM afterwards")


def wrong_values(schema):
    """What a parameter of this schema must not take."""
    if "oneOf" in schema:  # a size
        return [None, True, -1, 1.5, [], {}, "", "1X", "K", "-1", "1 M", "99999999999999999999T"]
    kind = schema["type"]
    if kind == "integer":
        return [None, True, 1.5, "1", "", [], {}, schema["minimum"] - 1, schema["maximum"] + 1, -(1 << 62), (1 << 63) - 1]
    if kind == "boolean":
        return [None, 0, 1, "maybe", "", [], {}]
    if kind == "array":
        return [None, 1, "text", {}, [1], [None], [[]]]
    if kind == "object":
        return [None, 1, "text", []]
    values = [None, 1, True, 1.5, [], {}]
    return values + (["nonsense", ""] if "enum" in schema else ["", "Upper", "a b", "/", "a" * 64] if "pattern" in schema else [])


def right_value(schema):
    if "oneOf" in schema:
        return 1 << 20
    if "enum" in schema:
        return schema["enum"][0]
    return {"integer": schema.get("minimum", 0), "boolean": True, "array": ["x"], "object": {}}.get(schema["type"], "data")


@test("each parameter of each method refuses each wrong type, range and name; no such call does anything")
def _(env):
    with VM(env, paused=True) as vm, vm.client() as client:
        before = vm.call("vm.info")
        tried = 0
        for method in vm.call("rpc.discover")["methods"]:
            right = {p["name"]: right_value(p["schema"]) for p in method["params"] if p["required"]}
            calls = [{**right, p["name"]: value} for p in method["params"] for value in wrong_values(p["schema"])]
            calls += [{k: v for k, v in right.items() if k != name} for name in right]
            calls += [{**right, "x": 1}, {**right, "": None}]
            for params in calls:
                tried += 1
                try:
                    result = client.call(method["name"], **params)
                    raise Failure(f"{method['name']} took {params}: {result}")
                except RpcError as error:
                    check(error.kind == "bad_request", f"{method['name']} {params}: {error.kind}: {error.message}")
        after = vm.call("vm.info")
        before.pop("uptime_ms"), after.pop("uptime_ms")
        check(before == after, "something was done all the same")
        check(tried > 200, f"only {tried} calls")
        for line in (b'{"jsonrpc":"2.0","id":1,"method":"vm.info","method":"vm.kill"}', b'{"jsonrpc":"2.0","id":1,"method":"vm.kill","params":[]}',
                     b'{"jsonrpc":"2.0","id":{},"method":"vm.kill"}', b'[{"jsonrpc":"2.0","id":1,"method":"vm.kill"}]',
                     b'{"jsonrpc":"1.0","id":1,"method":"vm.kill"}', b'{"jsonrpc":"2.0","id":1,"method":"vm.kill"} x',
                     b'{"jsonrpc":"2.0","id":1,"method":"vm.kill\\u0000"}', b'{"jsonrpc":"2.0","id":1,"method":"VM.KILL"}'):
            check("error" in client.raw(line + b"\n"), f"{line}")
        check(vm.state() == "created", "the VM afterwards")
