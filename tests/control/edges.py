"""How a VM is reached and by whom: passed sockets, readiness, other users, descriptors, and `bulkhead ctl`'s words."""
import os
import re
import resource
import shutil
import socket
import subprocess
import time

from harness import VM, Skip, check, lines, listens, served, test, type_and_read, wait_for

def listening(path, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(path)
    sock.listen(50)
    return sock


@test("a socket that listens already is served, with who waits there since before the start, and stays at the end")
def _(env):
    path = f"{env.work}/passed"
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as early:
        early.connect(path)
        early.sendall(b'{"jsonrpc":"2.0","id":1,"method":"vm.info"}\n')
        with VM(env, listener=listener) as vm:
            early.settimeout(60)
            check(b'"state":"running"' in early.recv(1 << 16), "who came before the start")
            check(vm.call("vm.info")["config"]["control-fd"] == listener.fileno(), "vm.info")
            vm.call("vm.kill")
            check(vm.process.wait(60) == 1 and os.path.exists(path), "the end")
        with VM(env, listener=listener) as again:  # the same socket serves the next VM
            check(again.state() == "running", "the next VM")


@test("a passed descriptor that is no listening Unix stream socket is refused in a line, before anything starts")
def _(env):
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams, \
            listening(f"{env.work}/packets", socket.SOCK_SEQPACKET) as packets, open("/dev/null") as null, \
            listening(f"{env.work}/good") as good:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(1)

        def refuse(words, what, *options, fds=()):
            done = subprocess.run([env.bulkhead, "run", "--kernel", "/nowhere", *options], capture_output=True, text=True, timeout=120,
                                  pass_fds=fds, check=False)
            check(done.returncode == 2 and done.stderr.count("\n") == 1 and re.search(words, done.stderr), f"{what}: {done}")
        for name, sock, words in (("TCP", tcp, "no Unix stream"), ("a socket that does not listen", deaf, "does not listen"),
                                  ("datagrams", datagrams, "no Unix stream"), ("packets", packets, "no Unix stream"),
                                  ("a file", null, "no Unix stream")):
            refuse(words, name, "--control-fd", str(sock.fileno()), fds=(sock.fileno(),))
        refuse("not open", "one that is not there", "--control-fd", "900")
        refuse("2", "standard error", "--control-fd", "2")
        refuse("only one", "two of them", "--control-fd", str(good.fileno()), "--control", f"{env.work}/c", fds=(good.fileno(),))


@test("a socket passed by a service manager is the control socket: LISTEN_FDS")
def _(env):
    def start(name, listener, variables, *options):
        words = f"exec 3<&{listener.fileno()} 4<&{listener.fileno()}; LISTEN_PID=${{PID:-$$}} exec \"$@\""
        return subprocess.Popen(["bash", "-c", words, "bash", env.bulkhead, "run", "--name", name, "--kernel",
                                 f"{env.payloads}/tests.elf", "--cmdline", "serial_echo", "--memory", "64M", "--console", "off",
                                 "--seccomp", env.seccomp, *options], env={**os.environ, **variables},
                                pass_fds=(listener.fileno(),), stderr=subprocess.PIPE, text=True)

    def name_of(path):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(path)
            client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"vm.info"}\n')
            return re.search('"name":"([a-z]*)"', client.recv(1 << 16).decode()).group(1)
    path = f"{env.work}/activated"
    with listening(path) as listener:
        for name, variables in (("one", {"LISTEN_FDS": "1"}), ("named", {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:control"})):
            with start(name, listener, variables) as process:
                try:
                    check(name_of(path) == name, name)
                finally:
                    process.kill()
        for words, variables, options in (("calls none of them 'control'", {"LISTEN_FDS": "2"}, ()),
                                          ("not a number", {"LISTEN_FDS": "many"}, ()),
                                          ("only one", {"LISTEN_FDS": "1"}, ("--control", f"{env.work}/other"))):
            with start("refused", listener, variables, *options) as process:
                _, text = process.communicate(timeout=120)
                check(process.returncode == 2 and words in text and text.count("\n") == 1, f"{variables}: {text}")
        with start("else", listener, {"LISTEN_FDS": "1", "PID": "1"}, "--control", f"{env.work}/own") as process:
            try:  # what was passed to another process is none of ours
                wait_for("its own socket", lambda: listens(f"{env.work}/own"))
                check(name_of(f"{env.work}/own") == "else", "LISTEN_PID of another process")
            finally:
                process.kill()


@test("the service manager is told that the VM is ready, each state, and the end: NOTIFY_SOCKET, by path and abstract")
def _(env):
    for address in (f"{env.work}/notify", f"\0bulkhead-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(60)
            hear = lambda: manager.recv(4096).decode()  # noqa: E731
            with VM(env, environment={"NOTIFY_SOCKET": address.replace("\0", "@")}) as vm:
                check(hear() == "READY=1\nSTATUS=running", "the first message")
                check(vm.state() == "running", "the control socket of a VM that is ready")
                vm.call("vm.pause")
                check(hear() == "STATUS=paused", "paused")
                vm.call("vm.resume"), hear()
                vm.call("vm.reset")
                check([hear(), hear()] == ["STATUS=resetting", "STATUS=running"], "reset")
                vm.call("vm.kill")
                check(hear() == "STOPPING=1\nSTATUS=ended: killed", "the end")


@test("a VM that fails is never ready; a manager that is not there or does not listen is not waited for")
def _(env):
    path = f"{env.work}/manager"
    kernel = f"{env.work}/nokernel"
    with open(kernel, "w") as file:
        file.write("no kernel")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)
        with VM(env, "--kernel", kernel, environment={"NOTIFY_SOCKET": path}) as vm:
            check(vm.process.wait(60) == 1, "a file that is no kernel")
        check(not readable(manager), "it was told of")
        for _ in range(2000):  # its buffer is full
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                try:
                    other.sendto(b"x", path)
                except BlockingIOError:
                    break
        with VM(env, environment={"NOTIFY_SOCKET": path}) as vm:
            check(vm.state() == "running" and vm.call("vm.pause") == {"state": "paused"}, "a manager that does not read")
    with VM(env, environment={"NOTIFY_SOCKET": f"{env.work}/nobody"}) as vm:
        check(vm.state() == "running", "a manager that is gone")
    for wrong in ("relative", "@", "/" + "x" * 200):
        with VM(env, environment={"NOTIFY_SOCKET": wrong}) as vm:
            check(vm.process.wait(60) == 2 and vm.errors().startswith("bulkhead: NOTIFY_SOCKET"), f"{wrong}: {vm.errors()}")


def readable(sock):
    try:
        return sock.recv(1000)
    except BlockingIOError:
        return b""


@test("the user who runs the VM and root are let in, nobody else: whatever the socket's mode, passed or its own")
def _(env):
    if os.geteuid():
        raise Skip("needs root to become another user")
    os.chmod(env.work, 0o755)

    def ask(path, user):  # with a copy that everybody may read
        done = subprocess.run([program, "ctl", path, "vm.info"], capture_output=True, text=True, user=user, check=False)
        return done.stdout + done.stderr
    program = shutil.copy(env.bulkhead, env.work)
    path = f"{env.work}/open"
    with listening(path) as listener:
        os.chmod(path, 0o666)
        with VM(env, listener=listener, paused=True):
            for _ in range(20):  # whether the words or our request come first
                check(ask(path, 65534) == "bulkhead: this socket is for the user who runs the VM\n", "nobody")
            check('"state": "created"' in ask(path, 0), "root")


@test("clients leave the descriptors that a reset and a disk's thread need, and are told so; later there is room again")
def _(env):
    with VM(env, guest="bench.elf", does="blk count=1000000000 size=4096 depth=8", limits=[(resource.RLIMIT_NOFILE, 45)]) as vm:
        first = vm.client()
        reads = lambda: first.call("disk.list")["disks"][0]["counters"]["reads"]  # noqa: E731
        wait_for("requests", lambda: reads() > 100)
        clients = [first]
        for _ in range(60):
            client = vm.client()
            try:
                client.call("net.list")
                clients.append(client)
            except (KeyError, OSError):
                break
        with vm.client() as late:
            check("no descriptor is left" in late.line()["error"]["message"], f"the {len(clients) + 1}th client")
        check(len(clients) > 3, f"only {len(clients)} clients")
        for _ in range(5):
            check(first.call("vm.reset") == {"state": "running"}, "vm.reset")
            before = reads()
            wait_for("requests after the reset", lambda before=before: reads() > before + 100)
        for client in clients:
            client.socket.close()
        wait_for("room again", lambda: served(vm))


@test("vm.pause and vm.resume in the midst of a reset are answered with the state that the VM comes to")
def _(env):
    with VM(env, guest="bench.elf", does="blk count=1000000000 size=4096 depth=8") as vm, vm.client() as one, vm.client() as other:
        wait_for("requests", lambda: one.call("disk.list")["disks"][0]["counters"]["reads"] > 100)
        calls = lines(*(call for n in range(0, 10, 2) for call in (("vm.pause", n + 1, {}), ("vm.resume", n + 2, {}))))
        for n in range(30):
            number = one.send("vm.reset")
            time.sleep(0.001 * (n % 10))
            other.socket.sendall(calls)
            states = [other.line()["result"]["state"] for _ in range(10)]
            check(states == ["paused", "running"] * 5, f"the states told: {states}")
            check(one.answer(number)["state"] in ("paused", "running"), "vm.reset")


@test("a VM that is paused and resumed thousands of times in a row stops and goes on each time")
def _(env):
    with VM(env, "--cpus", "2", guest="bench.elf", does="blk count=1000000000 size=4096 depth=8") as vm, vm.client() as client:
        calls = lines(*(call for n in range(0, 400, 2) for call in (("vm.pause", n + 1, {}), ("vm.resume", n + 2, {}))))
        for _ in range(5 if env.sanitized else 50):
            client.socket.sendall(calls)
            states = [client.line()["result"]["state"] for _ in range(400)]
            check(states == ["paused", "running"] * 200, f"the states told: {sorted(set(states))}")


@test("a disk's cache mode is told as it is, also where it was left to us")
def _(env):
    with VM(env, paused=True) as vm:  # not every file system has O_DIRECT
        told = [vm.call("disk.list")["disks"][0]["cache"], vm.call("vm.info")["config"]["disk"][0]["cache"]]
        check(told[0] == told[1] and told[0] in ("none", "writeback"), f"{told}")
    with VM(env, paused=True, disk_options=",cache=writethrough") as vm:
        check(vm.call("disk.list")["disks"][0]["cache"] == "writethrough", "the cache mode that was asked for")


@test("bulkhead ctl sends text where the parameter is text, and JSON where it is that")
def _(env):
    with VM(env, paused=True) as vm:
        for words, answer in ((("disk.resize", "id=1"), "there is no disk '1'"), (("disk.resize", "id=null"), "there is no disk 'null'"),
                              (("disk.resize", "id=true"), "there is no disk 'true'"), (("net.limit", "id=1e3"), "there is no network|no net '1e3'"),
                              (("disk.resize", "id={}"), "id: "), (("disk.limit", "id=data", "iops=x"), "iops"),
                              (("guest.exec", 'argv=["ls", "1"]', "user=0", "cwd=/1"), "has no vsock"),
                              (("no.such", "id=1"), "no such method")):
            done = vm.ctl(*words)
            check(done.returncode == 1 and re.search(answer, done.stderr), f"{words}: {done}")
        check(vm.ctl("disk.limit", "id=data", "iops=5", "bps=1M").returncode == 0, "numbers and sizes")


@test("a client of one line that closes its side at once gets its answer")
def _(env):
    with VM(env) as vm, vm.client() as client:
        client.socket.sendall(b'{"jsonrpc":"2.0","id":1,"method":"vm.info"}\n')
        client.socket.shutdown(socket.SHUT_WR)
        check(client.line()["result"]["name"] == "orders", "its answer")
        check(client.socket.recv(1) == b"", "the end of the connection")
        type_and_read(vm, b"on\n")


COMPLETE = """source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; read -ra COMP_WORDS <<<"$2"; [[ $2 != *" " ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _bulkhead; printf '%s\\n' "${COMPREPLY[@]}" """


@test("completion of bulkhead ctl offers sockets, then the methods and parameters that this VM has")
def _(env):
    script = f"{os.path.dirname(env.bulkhead)}/bulkhead.bash"
    with VM(env, paused=True) as vm:
        def offers(words):
            done = subprocess.run(["bash", "-c", COMPLETE, "bash", script, f"{env.bulkhead} {words}"], cwd=vm.dir, capture_output=True,
                                  text=True, timeout=120, check=True)
            check(not done.stderr, done.stderr)
            return done.stdout.split()
        methods = [m["name"] for m in vm.call("rpc.discover")["methods"]]
        check(offers("ctl cont") == ["control"] and offers("events cont") == ["control"], f"sockets: {offers('ctl cont')}")
        check(offers("ctl control ") == methods, f"methods: {offers('ctl control ')}")
        check(offers("ctl control disk.l") == ["disk.list", "disk.limit"], f"{offers('ctl control disk.l')}")
        for words, wanted in (("disk.limit ", "id= iops= bps="), ("disk.limit id=data iops=5 ", "bps="), ("disk.limit i", "id= iops="),
                              ("vm.info ", ""), ("no.such ", ""), ("events.subscribe since=3 t", "types=")):
            check(offers(f"ctl control {words}") == wanted.split(), f"{words}: {offers(f'ctl control {words}')}")
    check(offers("ctl control vm.") == [], "a VM that is gone")
