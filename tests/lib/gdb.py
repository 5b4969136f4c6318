"""A debugger's side of gdb's remote serial protocol, for tests: packets and what they mean, no symbols.

Nothing but the standard library. Numbers of threads count from 1.
"""
import re
import select
import socket
import time

from client import Failure, check

RIP = 16  # by the description that the monitor sends


class Gone(Failure):
    """The monitor has closed the connection."""


def frame(data):
    body = b"".join(bytes([0x7d, c ^ 0x20]) if c in b"$#}*" else bytes([c]) for c in data)
    return b"$%s#%02x" % (body, sum(body) & 0xff)


class Gdb:
    def __init__(self, path, timeout=60.0, acks=False):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer, self.acks = b"", True
        self.said = []
        self.supported = self.ask("qSupported:swbreak+;hwbreak+").split(";")
        if not acks:
            check(self.ask("QStartNoAckMode") == "OK", "QStartNoAckMode was refused")
            self.acks = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(frame(data.encode() if isinstance(data, str) else data))

    def byte(self):
        if not self.buffer:
            try:
                self.buffer = self.socket.recv(65536)
            except ConnectionError:
                self.buffer = b""
            except TimeoutError:
                raise Failure("no answer in time") from None
            if not self.buffer:
                raise Gone("the connection was closed")
        first, self.buffer = self.buffer[:1], self.buffer[1:]
        return first

    def raw_packet(self):
        """The next packet's data; what the monitor says for a person is kept aside."""
        while (byte := self.byte()) != b"$":
            check(byte == b"+" and self.acks, f"{byte!r} between packets")
        data, sent = b"", b""
        while (byte := self.byte()) != b"#":
            sent += byte
            if byte == b"}":
                byte = self.byte()
                sent += byte
                byte = bytes([byte[0] ^ 0x20])
            data += byte
        told = int(self.byte() + self.byte(), 16)
        check(told == sum(sent) & 0xff, "a wrong checksum")
        if self.acks:
            try:
                self.socket.sendall(b"+")
            except BrokenPipeError:
                pass  # it was the last word
        return data

    def packet(self):
        data = self.raw_packet().decode()
        while data.startswith("O") and data != "OK":
            self.said.append(bytes.fromhex(data[1:]).decode())
            data = self.raw_packet().decode()
        return data

    def ask(self, data):
        self.send(data)
        return self.packet()

    def must(self, data):
        answer = self.ask(data)
        check(answer == "OK", f"{data} was answered {answer!r}")

    # ---- what a debugger does ----

    def threads(self):
        return [int(word, 16) for word in self.ask("qfThreadInfo")[1:].split(",")]

    def choose(self, thread):
        self.must(f"Hg{thread:x}")

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def pc(self, thread=None):
        if thread:
            self.choose(thread)
        return self.register(RIP)

    def read(self, address, size):
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))

    def number(self, address):
        return int.from_bytes(self.read(address, 8), "little")

    def write(self, address, data):
        self.must(f"M{address:x},{len(data):x}:{data.hex()}")

    def wait_stop(self):
        """The next stop: (signal, thread, {reason: value})."""
        answer = self.packet()
        match = re.fullmatch(r"T(..)(.*)", answer)
        check(match, f"no stop but {answer!r}")
        values = dict(word.split(":") for word in match[2].split(";") if word)
        return int(match[1], 16), int(values.pop("thread"), 16), values

    def go(self, actions="c"):
        self.send(f"vCont;{actions}")
        if self.acks:
            check(self.byte() == b"+", "it was not acknowledged")

    def run(self, actions="c"):
        self.go(actions)
        return self.wait_stop()

    def interrupt(self):
        self.socket.sendall(b"\x03")
        return self.wait_stop()

    def silent(self, seconds):
        """Nothing comes for so long."""
        ready, _, _ = select.select([self.socket], [], [], seconds)
        return not ready and not self.buffer

    def detach(self):
        self.must("D")


def connect(path, seconds=60):
    """Once somebody listens there, and no other debugger is in the way."""
    end = time.monotonic() + seconds
    while True:
        try:
            return Gdb(path)
        except (OSError, Gone):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
