"""`bulkhead top`: what the table shows of VMs that work, pause, hang, end and lie, found or named, in a pipe and on a terminal."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from ending import Agent
from harness import VM, Failure, check, test, type_and_read, wait_for

ENDLESS = "blk count=1000000000 size=4096 depth=8"


def top(env, *words, cwd=None, variables=()):
    return subprocess.run([env.bulkhead, "top", *words], capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
                          stdin=subprocess.DEVNULL, env={**os.environ, **dict(variables)})


def watching(env, *words):
    return subprocess.Popen([env.bulkhead, "top", "--batch", "--interval", "200", *words], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.DEVNULL)


def tables(text):
    """Each table as {name: {column: cell}}."""
    result = []
    for part in text.strip("\n").split("\n\n"):
        head, *rows = [line.split() for line in part.splitlines()]
        check(head[:3] == ["NAME", "STATE", "CPU%"], f"no table: {part}")
        check(all(len(row) == len(head) for row in rows), f"a row of another length: {part}")
        result.append({row[0]: dict(zip(head, row)) for row in rows})
    return result


def watch_until(env, words, condition, what):
    """The first table of which `condition` is true: on a busy host a VM may be silent in any of them."""
    with watching(env, *words) as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        try:
            lines = []
            for line in process.stdout:
                if line.strip():
                    lines.append(line)
                    continue
                table = tables("".join(lines))[0]
                if condition(table):
                    return table
                lines = []
            raise Failure(f"waited in vain for {what}: {lines}")
        finally:
            guard.cancel()
            process.terminate()


def number(cell):
    scale = {"k": 1e3, "K": 2**10, "M": 2**20, "G": 2**30}.get(cell[-1])
    return float(cell[:-1]) * scale if scale else float(cell)


@test("top shows what each VM does: its state, CPU, memory, disk rates, exits and steal")
def _(env):
    with VM(env, "--name", "busy", guest="bench.elf", does=ENDLESS) as busy, VM(env, "--name", "idle", paused=True) as idle:
        wait_for("requests", lambda: busy.call("disk.list")["disks"][0]["counters"]["reads"] > 100)
        done = top(env, busy.control, "--count", "2", idle.control, "--interval", "300", "--batch")
        check(done.returncode == 0 and not done.stderr and [len(table) for table in tables(done.stdout)] == [2, 2], f"{done}")
        got = watch_until(env, (busy.control, idle.control), lambda table: list(table) == ["busy", "idle"] and
                          all(row["CPU%"] != "-" for row in table.values()) and table["busy"]["READ/s"] not in "-0", "figures")
        row = got["busy"]
        check(row["STATE"] == "running" and row["MEM"] == "64M" and number(row["RSS"]) > 1 << 20, f"{row}")
        check(number(row["CPU%"]) > 0 and number(row["READ/s"]) > 0 and number(row["EXITS/s"]) >= 0, f"{row}")
        check(row["WRITE/s"] == "0" and row["NET-IN/s"] == "-" and 0 <= number(row["STEAL%"]) <= 100, f"{row}")
        row = got["idle"]
        check(row["STATE"] == "created" and row["READ/s"] == "0", f"{row}")


@test("top asks the guests' agents for their memory pressure in its own time, and not where it shall not")
def _(env):
    def info(percent):
        return {"result": {"pressure": {"memory": {"some": {"avg10": percent}}}}}
    for said, shown in ((12.5, "12.5"), (100, "100"), (-3, "-"), (1e300, "-"), ("much", "-")):
        path = f"{env.work}/pressure.vsock"
        with VM(env, "--vsock", f"cid=77,socket={path}") as vm, Agent(path, info(said)) as agent:
            row = watch_until(env, (vm.control,), lambda table: table.get("orders", {}).get("AGENT") == "answers" and
                              table["orders"]["PRESS%"] == shown, f"{said} as {shown}")
            vm.call("guest.info")  # behind whatever that top had still asked for
            asked = len(agent.asked)
            row = watch_until(env, (vm.control, "--guest", "0"), lambda table: table.get("orders", {}).get("CPU%", "-") != "-", "rates")
            check(row["orders"]["PRESS%"] == "-" and len(agent.asked) == asked, f"{row}")
    with VM(env, "--vsock", f"cid=77,socket={path}") as vm, Agent(path, None) as agent:  # it never answers
        watch_until(env, (vm.control,), lambda table: agent.asked and table.get("orders", {}).get("CPU%", "-") != "-", "rates beside it")


@test("a VM that ends is shown so, and drops out of what top has found; one that was named stays, and may come again")
def _(env):
    name = f"found{os.getpid()}"
    with VM(env, "--name", name) as vm:
        vm.state()
        with watching(env) as search, watching(env, vm.control) as named:
            def states(watcher, until):
                seen = []
                header = 0
                for line in watcher.stdout:
                    if line.startswith("NAME "):
                        if header and len(seen) < header:
                            seen.append("none")
                        header = len(seen) + 1
                    elif line.split()[:1] == [name]:
                        seen.append(line.split()[1])
                    if until(seen):
                        return seen
                raise Failure(f"top ended: {seen}")
            states(search, lambda seen: "running" in seen)
            states(named, lambda seen: "running" in seen)
            vm.call("vm.kill")
            vm.process.wait()
            seen = states(search, lambda seen: "none" in seen)
            check([state for state in seen if state not in ("running", "silent")] == ["ended"] * 3 + ["none"], f"found: {seen}")
            seen = states(named, lambda seen: "absent" in seen)
            check([state for state in seen if state not in ("running", "silent")] == ["ended"] * 3 + ["absent"], f"named: {seen}")
            again = VM(env, "--name", name, "--control", vm.control)
            again.control = vm.control
            with again:
                states(named, lambda seen: "running" in seen)
            search.terminate()
            named.send_signal(signal.SIGINT)
            check(search.wait(60) == 0 == named.wait(60), "the ends")


@test("a VM that hangs is silent, and the others go on beside it")
def _(env):
    with VM(env, "--name", "hangs") as hangs, VM(env, "--name", "works", guest="bench.elf", does=ENDLESS) as works:
        works.state()
        hangs.state()
        with hangs.stopped():
            got = watch_until(env, (hangs.control, works.control), lambda table: table.get("works", {}).get("CPU%", "-") != "-", "rates")
            rows = [row for name, row in got.items() if name != "works"]
            check([row["STATE"] for row in rows] == ["silent"], f"{rows}")  # its name was never heard
        with watching(env, hangs.control) as watcher:
            rows = (line.split() for line in watcher.stdout)
            wanted = lambda state: next(row for row in rows if row[:2] == ["hangs", state])  # noqa: E731
            wanted("running")
            with hangs.stopped():
                wanted("silent")
            wanted("running")
            watcher.terminate()


@test("top finds VMs by their --control, by that of their --config, relative ones too, and in the folder of the user's sockets")
def _(env):
    folder, runtime = f"{env.work}/find", f"{env.work}/find/run"
    os.makedirs(f"{runtime}/bulkhead")
    names = [f"{word}{os.getpid()}" for word in ("flag", "equals", "file", "long", "folder")]
    deep = "d" * 100
    os.makedirs(f"{folder}/{deep}")
    with open(f"{folder}/config.json", "w") as config:
        json.dump({"name": names[2], "control": "file.ctl"}, config)
    options = (["--name", names[0], "--control", "flag.ctl"], ["--name", names[1], f"--control={folder}/equals.ctl"],
               ["--config", "config.json"], ["--name", names[3], "--control", "long.ctl"],
               ["--name", names[4], "--control", f"{runtime}/bulkhead/one.sock"])
    places = (folder, folder, folder, f"{folder}/{deep}", folder)
    processes = []
    try:
        for option, place in zip(options, places):
            processes.append(subprocess.Popen(
                [env.bulkhead, "run", "--kernel", f"{env.payloads}/tests.elf", "--memory", "64M", "--cmdline", "serial_echo", "--console",
                 "off", "--seccomp", env.seccomp, *option], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=place))

        def found():
            rows = tables(top(env, "--once", "--interval", "200", variables={"XDG_RUNTIME_DIR": runtime}).stdout)[0]
            return all(name in rows and rows[name]["STATE"] == "running" for name in names)
        wait_for("all five", found)
        # By its long path too, which is longer than the address of a socket.
        done = top(env, f"{folder}/{deep}/long.ctl", "--once", "--interval", "200")
        check(names[3] in tables(done.stdout)[0], f"{done}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Liar:
    """A socket behind which is no VM: `speak` is called with each connection."""

    def __init__(self, path, speak):
        self.path, self.speak = path, speak
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(50)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                self.speak(connection)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        os.unlink(self.path)


def answer_with(text):
    def speak(connection):
        while connection.recv(4096):
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "result": text}).encode() + b"\n")
    return speak


def pour(connection):
    try:
        for _ in range(4096):
            connection.sendall(b"x" * 65536)
    except OSError:
        pass


@test("whatever a socket answers, top shows a plain table and goes on")
def _(env):
    good = 'bulkhead_info{name="%s",version="1"} 1\nbulkhead_state{state="%s"} 1\nbulkhead_memory_bytes %s\nbulkhead_uptime_seconds 5\n'
    said = [pour, lambda c: c.close(), lambda c: c.sendall(b"\0" * 1000), lambda c: c.sendall(b"{}\n" * 1000),
            lambda c: c.sendall(b"[" * 100000 + b"\n"), answer_with(7), answer_with("no metrics"),
            answer_with(good % ("\x1b[2Jevil\r", "run\x07ning", "1e308")), answer_with(good % ("n" * 500, "s" * 500, "nan")),
            answer_with(good % ("fine", "running", "-1")), answer_with(good.replace("\n", "\r") % ("a", "b", "c"))]
    liars = []
    try:
        for i, speak in enumerate(said):
            liars.append(Liar(f"{env.work}/liar{i}", speak))
        with VM(env) as vm:
            done = top(env, *(liar.path for liar in liars), vm.control, "--interval", "200", "--count", "4")
            watch_until(env, (*(liar.path for liar in liars), vm.control), lambda table: "orders" in table and "fine" in table and
                        table["orders"]["CPU%"] != "-" and table["fine"]["STATE"] == "running" and table["fine"]["MEM"] == "-", "figures")
        check(done.returncode == 0 and not done.stderr, f"{done.returncode} {done.stderr}")
        check(re.fullmatch(r"[\x20-\x7e\n]*", done.stdout), f"what is no plain text: {done.stdout!r}")
        got = tables(done.stdout)
        check(len(got) == 4 and all(len(table) == len(said) + 1 for table in got), f"{done.stdout}")
    finally:
        for liar in liars:
            liar.close()


@test("who names sockets of which none is a VM's is told so; wrong options are refused in a line")
def _(env):
    done = top(env, f"{env.work}/nobody", "--once", "--interval", "200")
    check(done.returncode == 1 and "nobody" in done.stderr and done.stderr.count("\n") == 1, f"{done}")
    for words in (("--interval", "5"), ("--interval",), ("--count", "0"), ("--coun", "1"), ("-x",)):
        done = top(env, *words)
        check(done.returncode == 2 and done.stderr.startswith("bulkhead: ") and done.stderr.count("\n") == 1 and not done.stdout,
              f"{words}: {done}")
    with VM(env) as vm, open("/dev/full", "w") as full:
        done = subprocess.run([env.bulkhead, "top", vm.control, "--count", "3", "--interval", "200"], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        check(done.returncode == 1 and "standard output" in done.stderr, f"{done}")


def window(fd, columns, rows=24):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def screens(text):
    """What each repaint put on the screen, in lines."""
    parts = text.split("\x1b[H")[1:]
    return [[re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", line) for line in part.split("\r\n")] for part in parts]


@test("on a terminal top repaints, fits its width and follows it, ends on q, and gives the terminal back as it was")
def _(env):
    with VM(env) as vm:
        vm.state()
        pid, fd = pty.fork()
        if not pid:
            os.execv(env.bulkhead, [env.bulkhead, "top", vm.control, "--interval", "200"])
        text = ""

        def read_until(condition, what):
            nonlocal text
            end = time.monotonic() + 60
            while not condition(text):
                if time.monotonic() > end:
                    raise Failure(f"waited in vain for {what}: {text[-500:]!r}")
                if select.select([fd], [], [], 0.2)[0]:
                    try:
                        text += os.read(fd, 65536).decode()
                    except OSError:  # the other end is closed
                        return
        try:
            window(fd, 40)
            os.kill(pid, signal.SIGWINCH)
            read_until(lambda text: text.startswith("\x1b[?1049h"), "the alternate screen")
            read_until(lambda text: any(max(map(len, lines)) <= 40 and len(lines) == 2 for lines in screens(text)), "a narrow table")
            text = ""
            window(fd, 200)
            read_until(lambda text: any("AGENT" in lines[0] for lines in screens(text)), "a wide table")
            text = ""
            window(fd, 200, rows=1)
            read_until(lambda text: any(len(lines) == 1 for lines in screens(text)), "one line")
            check(not termios.tcgetattr(fd)[3] & termios.ICANON, "keys come at once")
            text = ""
            os.write(fd, b"q")
            read_until(lambda text: "\x1b[?1049l" in text, "the end")
            check(text.endswith("\x1b[?25h\x1b[?1049l"), f"{text!r}")
            check(termios.tcgetattr(fd)[3] & termios.ICANON and termios.tcgetattr(fd)[3] & termios.ECHO, "the terminal's modes")
            check(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the exit status")
            pid = 0
        finally:
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(fd)
