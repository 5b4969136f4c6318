"""A client of Bulkhead's control socket, with nothing but Python's standard library: copy this file.

    from bulkhead import Bulkhead
    with Bulkhead("/run/orders.sock") as vm:
        print(vm.call("vm.info")["state"])
        vm.disk.limit(id="data", iops=5000)          # the same as vm.call("disk.limit", id="data", iops=5000)
        for event in vm.events(since=0):             # for ever, across broken connections; ends with the VM
            print(event["seq"], event["type"])

Run by itself it prints a VM's events: python3 bulkhead.py SOCKET [SINCE]

The methods and their parameters are those of docs/control-api.md; the VM describes them itself by rpc.discover. An error that the
VM answers is a BulkheadError; a connection that breaks is a ConnectionError, and then nobody knows whether the call was carried out.
"""
import json
import socket
import sys
import time


class BulkheadError(Exception):
    """An error that the VM answered. `kind` is for programs: "not_found", "guest_timeout", …"""

    def __init__(self, error):
        super().__init__(error.get("message", "an error without a message"))
        self.code = error.get("code")
        self.kind = error.get("data", {}).get("kind", "internal")


class Namespace:
    """What stands before the dot of a method's name."""

    def __init__(self, vm, name):
        self._vm, self._name = vm, name

    def __getattr__(self, name):
        return lambda **params: self._vm.call(f"{self._name}.{name}", **params)


class Bulkhead:
    """One connection to a VM, for one thread. Calls are answered in order."""

    def __init__(self, path, timeout=None):
        """`timeout`: seconds that an answer may take; None: as long as it does. The method's own `timeout_ms` is another thing."""
        self.path, self.timeout = path, timeout
        self.number = 0
        self.connect()

    def connect(self):
        self.input = b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(self.timeout)
        try:
            self.socket.connect(self.path)
        except OSError:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return Namespace(self, name)

    def receive(self):
        """The next object that the VM sends."""
        while b"\n" not in self.input:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError("the VM closed the connection")
            self.input += piece
        line, self.input = self.input.split(b"\n", 1)
        return json.loads(line)

    def call(self, method, **params):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self.receive()
            # An error without an id is about the connection: it is all that will come.
            if answer.get("id") == self.number or ("error" in answer and answer.get("id") is None):
                break
        if "error" in answer:
            raise BulkheadError(answer["error"])
        return answer["result"]

    def events(self, since=None, types=None, patience=10.0):
        """Every event after number `since` (0: all that are kept; None: from now on), each a dict with "type", "seq", "time_ns".

        It has a connection of its own. Where that breaks it connects again, for `patience` seconds, and goes on behind the last event
        that it gave. Numbers that the VM no longer keeps come as {"type": "events.lost", "from": …, "to": …}; another VM
        on the socket as {"type": "events.restarted"}. It ends when the VM has ended, and when nobody listens any more.
        """
        last, give_up = since, None
        while True:
            try:
                with Bulkhead(self.path) as link:
                    give_up = None
                    last, gap = link.subscribe(last, types)
                    yield from gap
                    while True:
                        message = link.receive()
                        event = {"type": message["method"], **message["params"]}
                        last = event["seq"]
                        yield event
                        if event["type"] == "vm.state" and event["state"] == "ended":
                            return
            except OSError:
                give_up = give_up or time.monotonic() + patience
                if time.monotonic() >= give_up:
                    return
                time.sleep(0.05)

    def subscribe(self, since, types):
        """Returns the number that events go on behind, and what is to be told of a gap before them."""
        params = {**({} if since is None else {"since": since}), **({"types": types} if types else {})}
        answer = self.call("events.subscribe", **params)
        first, newest = answer["first"], answer["last"]
        if since is not None and newest < since:
            return 0, [{"type": "events.restarted"}]
        if since and first > since + 1:
            return first - 1, [{"type": "events.lost", "from": since + 1, "to": first - 1}]
        return newest if since is None else since, []


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if "--help" in sys.argv else 2
    with Bulkhead(sys.argv[1]) as vm:
        for event in vm.events(since=int(sys.argv[2]) if len(sys.argv) > 2 else 0):
            print(json.dumps(event), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
