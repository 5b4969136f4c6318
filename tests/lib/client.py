"""A client of the guest's agent, for tests and benches: by its own Unix socket, a VM's vsock bridge, or vhost-vsock.

Nothing but the standard library.
"""
import base64
import json
import re
import socket
import time


class Failure(Exception):
    """What a test reports as its reason."""


class RpcError(Exception):
    """An error object that was answered."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code, self.message, self.kind = error["code"], error["message"], error["data"]["kind"]


def check(condition, what):
    if not condition:
        raise Failure(what)


def listens(path):
    """Somebody does at this socket: its file alone is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def wait_for(what, condition, seconds=60.0):
    """The time is for what never comes: nothing that a slow host does takes so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Failure(f"waited {seconds:.0f} s in vain for {what}")


class Client:
    """One connection. Answers are matched by id, notifications kept in the order they came."""

    def __init__(self, path, timeout=60.0, port=None):
        """`path` is a socket's, or the CID of a guest of vhost-vsock."""
        direct = isinstance(path, int)
        self.socket = socket.socket(socket.AF_VSOCK if direct else socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.buffer = b""
        try:
            self.socket.connect((path, port) if direct else path)
            if port and not direct:  # the bridge answers OK, or closes when the guest does not listen
                self.socket.sendall(f"CONNECT {port}\n".encode())
                if not self.read_line().startswith(b"OK "):
                    raise ConnectionError(f"port {port} does not answer")
        except OSError:
            self.socket.close()
            raise
        self.number = 0
        self.notes, self.answers = [], {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read_line(self):
        while b"\n" not in self.buffer:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise ConnectionError("the agent closed the connection")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def line(self):
        return json.loads(self.read_line())

    def pump(self):
        message = self.line()
        if "method" in message:
            self.notes.append(message)
        else:
            self.answers[message["id"]] = message
        return message

    def send(self, method, **params):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return self.number

    def answer(self, number):
        while number not in self.answers:
            self.pump()
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def call(self, method, **params):
        return self.answer(self.send(method, **params))

    def raw(self, data):
        """Bytes as they are; the next line that is no notification."""
        self.socket.sendall(data)
        while True:
            message = self.line()
            if "method" not in message:
                return message

    def output(self, stream="stdout"):
        return b"".join(base64.b64decode(n["params"]["data"]) for n in self.notes
                        if n["method"] == "exec.output" and n["params"]["stream"] == stream)

    def run(self, *argv, **params):
        self.notes = []
        return self.call("exec", argv=list(argv), **params)


def refused(kind, words, function, *args, **params):
    try:
        result = function(*args, **params)
    except RpcError as error:
        check(error.kind == kind, f"the kind is {error.kind}, not {kind}: {error.message}")
        check(re.search(words, error.message), f"no '{words}' in: {error.message}")
        return error
    raise Failure(f"not refused but answered {result}")
