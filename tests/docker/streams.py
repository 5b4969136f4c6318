"""What was connected when the VM was saved: TCP of the original goes on after a plain restore, vsock streams are reset; a clone
has addresses of its own.

Nothing but the standard library.
"""
import os
import socket

from client import Client, check, wait_for
from machine import GUEST, HOST, VM, Disks, Restored, Tap

PORT = 7777
CLONE = "10.78.0.9"
ECHO = ("use IO::Socket; my $l = IO::Socket::INET->new(LocalPort => %d, Listen => 5, ReuseAddr => 1) or die; "
        "my $c = $l->accept or die; while (sysread $c, my $b, 65536) { syswrite $c, $b }" % PORT)


def connect():
    try:
        return socket.create_connection((GUEST, PORT), 5)
    except OSError:
        return None


def receive(stream, size):
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        check(piece, f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return data


def plain_restore(env):
    folder, text = os.path.join(env.scratch, "saved-streams"), bytes(range(256)) * 64
    with Tap():
        with VM(env, Disks(env).options(), cpus=1, memory="512M") as vm:
            vm.wait_agent()
            # Until it listens: what a command leaves behind in its own session is killed with it.
            vm.run("sh", "-c", f"setsid perl -e '{ECHO}' </dev/null >/dev/null 2>&1 & until grep -q :{PORT:04X} /proc/net/tcp; do sleep 0.1; done")
            tcp = wait_for("the guest's TCP server", connect, 60)
            tcp.settimeout(120)
            tcp.sendall(text)
            check(receive(tcp, len(text)) == text, "the echo came changed")
            streams = [vm.agent() for _ in range(5)]
            for stream in streams:
                stream.call("ping")
            with Client(vm.control, 300) as control:
                control.call("snapshot.create", path=folder, wait=True, resume=False)
            vm.kill()
            for stream in streams:
                stream.socket.close()
        tcp.sendall(text)  # while there is nobody: the host's kernel tries again
        with Restored(env, folder) as vm:
            check(receive(tcp, len(text)) == text, "what was sent in between came back changed")
            tcp.sendall(text)
            check(receive(tcp, len(text)) == text, "the connection does not go on")
            tcp.close()
            vm.wait_agent()
            vm.ask("the end of the five vsock streams", lambda: vm.call("ping")["connections"] == 1, 60)
            vm.kill()
        with Restored(env, folder, "--clone", "--name", "twin", "--guest-address", f"address={CLONE}/24,gateway={HOST}",
                      "--guest-address", "address=fd00::7/64") as vm:
            vm.wait_agent()
            vm.ask("the clone's addresses", lambda: f"inet {CLONE}/24" in vm.run("ip", "address") or None, 60)
            shown = vm.run("sh", "-c", "ip address; ip route; hostname")
            check(f"inet {GUEST}/" not in shown and "inet6 fd00::7/64" in shown and f"default via {HOST}" in shown and "twin" in shown, shown)
            vm.kill()
