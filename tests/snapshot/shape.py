"""What a guest consists of while it is saved, and what is said of it when it is restored."""
import json
import os

from guests import Guest, Restored, check, folder_in, refusal, test, wait_for
from client import RpcError


def both(client, first, second):
    """Two requests in one piece, so that the second comes before anything that the first one began."""
    lines = b"".join(json.dumps({"jsonrpc": "2.0", "id": 100 + n, "method": method, "params": params}).encode() + b"\n"
                     for n, (method, params) in enumerate((first, second)))
    client.socket.sendall(lines)
    client.number = 200
    return client.answer(100), 101


@test("no device comes or goes while a snapshot is being taken, which is told with the mend; afterwards it may")
def _(env):
    folder = folder_in(env)
    disk = f"{folder}/more"
    with open(disk, "wb") as file:
        file.write(os.urandom(1 << 20))
    with Guest(env, does="remember every=8 disk=1") as vm, vm.tell() as console, vm.client(120) as client:
        console.generation()
        for number, (method, params) in enumerate((("disk.detach", {"id": "data", "force": True}), ("disk.attach", {"path": disk, "id": "more"}))):
            begun, second = both(client, ("snapshot.create", {"path": f"{folder}/{number}", "disks": "copy"}), (method, params))
            try:
                client.answer(second)
                check(False, f"{method} was done")
            except RpcError as why:
                check(why.kind == "wrong_state" and "a snapshot is being taken" in str(why) and "job.cancel" in str(why), f"{method}: {why}")
            wait_for("the snapshot", lambda: vm.job(begun["job"])["state"] == "done")
        try:
            client.call("disk.detach", id="data", timeout_ms=1)
        except RpcError as why:
            check("a snapshot is being taken" not in str(why), f"{why}")
    with Restored(env, f"{folder}/1", disk=f"{folder}/again") as vm, vm.tell() as console:
        check(console.remembers() == 1, "it is another guest")


@test("options of a file and of flags add up, and what is wrong in the file is refused as on the command line")
def _(env):
    folder, file = folder_in(env), f"{folder_in(env)}/options"
    other = f"{folder}/other"
    with open(other, "wb") as image:
        image.truncate(1 << 20)
    with Guest(env, "--disk", f"path={other},id=other", does="remember every=8") as vm, vm.tell() as console:
        console.generation()
        vm.snapshot(f"{folder}/s")

    def say(options):
        with open(file, "w", encoding="ascii") as out:
            json.dump(options, out)

    for options, why in (({"disk": {"id": "data", "path": "/none"}}, "disk: is no list"), ({"disk": ["data"]}, "disk: is no object"),
                         ({"disk": 5}, "disk: is no list"), ({"net": "x"}, "net: is no list"), ({"vsock": 7}, "vsock: is no object"),
                         ({"memory": "1G"}, "memory: is nothing"), ({"config": "x"}, "config: is nothing")):
        say(options)
        check(why in refusal(env, f"{folder}/s", "--config", file, status=2), f"{options}: another reason")
    for name in ("one", "two"):
        with open(f"{folder}/{name}", "wb") as image:
            image.truncate(1 << 20)
    say({"name": "twin", "disk": [{"id": "other", "path": f"{folder}/one"}, {"id": "data", "path": "/nowhere"}]})
    with Restored(env, f"{folder}/s", "--config", file, disk=f"{folder}/two") as vm:
        info = vm.call("vm.info")
        check(info["name"] == "twin", f"{info}")
        check({d["id"]: d["path"] for d in info["config"]["disk"]} == {"data": f"{folder}/two", "other": f"{folder}/one"}, f"{info['config']}")
