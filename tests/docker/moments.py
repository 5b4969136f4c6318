"""A database that is saved again and again at work, and each of its moments looked at in a process of its own.

Clients on the host commit one transaction after the other, each a row with the digest of the row before, and keep a log of when
each was begun and when the server said that it is committed. It is outside of the VM, and no restore reaches it. A
snapshot has the time of its moment: what was committed before must be there, and nothing that was begun afterwards.
"""
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time

from client import Client, Failure, check, wait_for
from database import Database
from machine import VM, Disks, Restored, Tap

WRITERS = 2
BETWEEN = 6  # transactions of each writer from one snapshot to the next
TABLES = """CREATE DATABASE test; CREATE TABLE test.ledger (writer INT, n INT, digest CHAR(64), data TEXT, PRIMARY KEY (writer, n), KEY (digest));
CREATE TABLE test.latest (writer INT PRIMARY KEY, n INT)"""
# Rows that are not what their writer made them: the digest is of the row before, the data is made of the digest.
WRONG = """SELECT COUNT(*) FROM test.ledger a LEFT JOIN test.ledger b ON b.writer = a.writer AND b.n = a.n - 1
WHERE a.data <> REPEAT(a.digest, 1 + a.n % 16) OR a.n > 0 AND (b.digest IS NULL OR BINARY a.digest <> BINARY SHA2(CONCAT(b.digest, ' ', a.n), 256))"""
# Two tables, changed in one transaction: they belong together.
SUMMARY = """SELECT a.writer, COUNT(*), MIN(a.n), MAX(a.n), (SELECT n FROM test.latest l WHERE l.writer = a.writer)
FROM test.ledger a GROUP BY a.writer ORDER BY a.writer"""


def digest(before, n):
    return hashlib.sha256(f"{before} {n}".encode()).hexdigest()


class Writer:
    """A client with a log: when transaction n was begun, when it was said to be committed, and its digest."""

    def __init__(self, database, number):
        self.number, self.begun, self.committed, self.digests = number, [], [], []
        self.before = os.urandom(16).hex()
        database.sql(f"INSERT INTO test.latest VALUES ({number}, -1)")
        self.client = subprocess.Popen(database.command("--unbuffered"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, bufsize=1)
        self.ended = None
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def statements(self, n):
        return (f"BEGIN; INSERT INTO test.ledger VALUES ({self.number}, {n}, '{self.before}', REPEAT('{self.before}', {1 + n % 16})); "
                f"UPDATE test.latest SET n = {n} WHERE writer = {self.number}; COMMIT; SELECT {n};\n")

    def write(self):
        n = 0
        try:
            while True:
                self.before = digest(self.before, n)
                self.digests.append(self.before)
                self.begun.append(time.time_ns())
                self.client.stdin.write(self.statements(n))
                line = self.client.stdout.readline().strip()
                if line != str(n):
                    self.ended = f"writer {self.number} heard {line!r} of transaction {n}"
                    return
                self.committed.append(time.time_ns())
                n += 1
        except OSError as why:
            self.ended = f"writer {self.number} ended with {why} at transaction {n}"

    def goes_on(self, count):
        if self.ended:
            raise Failure(f"{self.ended}: {self.client.stderr.read()}")
        return len(self.committed) >= count

    def end(self):
        self.client.kill()
        self.thread.join(30)
        self.client.wait()
        for stream in (self.client.stdin, self.client.stdout, self.client.stderr):
            stream.close()

    def bounds(self, moment):
        """How many transactions must be there at this time, and how many can be."""
        return sum(t < moment for t in self.committed), sum(t <= moment for t in self.begun)


def kind_of(number):
    """Of every twenty: a full one in the background and one with the guest at rest, incremental ones of either sort, some compressed."""
    full = number % 20 in (0, 5)
    kind = {"incremental": not full, "background": number % 20 == 0 or number % 2 == 1 and not full}
    return {**kind, "compression": "zstd"} if number % 10 == 3 else kind


def words_for(kind):
    return ("incremental" if kind["incremental"] else "full") + (", in the background" if kind["background"] else ", at rest") + \
        (", compressed" if "compression" in kind else "")


def save(vm, writers, folder, count):
    """So many snapshots, one after the other, while the writers write. What each said."""
    results = []
    for number in range(count):
        wanted = [len(writer.committed) + BETWEEN for writer in writers]
        wait_for("commits", lambda: all(writer.goes_on(n) for writer, n in zip(writers, wanted)), 300)
        kind = kind_of(number)
        with Client(vm.control, 600) as client:
            result = client.call("snapshot.create", path=f"{folder}/{number}", wait=True, disks="copy", **kind)
        check(("parent" in result) == kind["incremental"] and result["background"] == kind["background"], f"{kind}: {result}")
        print(f"# snapshot {number}: {words_for(kind)}: {result['bytes'] / 1048576:.0f} MiB in {result['elapsed_ms'] / 1000:.1f} s, the guest stood "
              f"still for {result['pause_ms']['total']:.0f} ms; {[len(writer.committed) for writer in writers]} commits", flush=True)
        results.append(result)
    return results


def moment_of(folder):
    with open(f"{folder}/manifest.json", encoding="utf-8") as file:
        return json.load(file)["created_ns"]


def look(database, writers, moment):
    """At the tables of this moment. How many transactions there are."""
    tables = database.sql("CHECK TABLE test.ledger, test.latest EXTENDED").splitlines()
    check([line.split("\t")[-1] for line in tables] == ["OK", "OK"], f"CHECK TABLE: {tables}")
    check(database.sql(WRONG) == "0", "rows are not as they were written")
    there = 0
    rows = {int(words[0]): [int(word) for word in words[1:]] for words in map(str.split, database.sql(SUMMARY).splitlines())}
    for writer in writers:
        must, can = writer.bounds(moment)
        count, first, last, latest = rows.get(writer.number, [0, 0, -1, -1])
        check(must <= count <= can, f"writer {writer.number}: {count} transactions, {must} were committed before and {can} begun")
        check(first == 0 and last == latest == count - 1, f"writer {writer.number}: {rows}")
        if count:
            check(database.sql(f"SELECT digest FROM test.ledger WHERE writer = {writer.number} AND n = {last}") == writer.digests[last],
                  f"writer {writer.number}: another digest")
        there += count
    return there


def go_on(database):
    """It takes another transaction, and has it afterwards."""
    database.sql("BEGIN; INSERT INTO test.ledger VALUES (99, 0, 'new', 'new'); INSERT INTO test.latest VALUES (99, 0); COMMIT")
    check(database.sql("SELECT data FROM test.ledger WHERE writer = 99") == "new", "the new row")


def restore(env, writers, folder):
    started = time.monotonic()
    vm = Restored(env, folder)
    for number in range(3):
        vm.command += ["--disk", f"id=disk{number},path={vm.path(f'disk{number}')}"]
    with vm:
        database = Database(vm)
        database.wait()
        there = look(database, writers, moment_of(folder))
        go_on(database)
        vm.kill()
    print(f"# {os.path.basename(folder)}: {there} transactions, looked at in {time.monotonic() - started:.1f} s", flush=True)


def moments(env):
    count = env.numbers["snapshots"]
    folder = os.path.join(env.scratch, "moments")
    os.mkdir(folder)
    with Tap():
        with VM(env, Disks(env, data_mib=256).options(), cpus=1, memory="640M") as vm:
            vm.wait_docker()
            database = Database(vm)
            database.start()
            database.sql(TABLES)
            writers = [Writer(database, number) for number in range(WRITERS)]
            try:
                save(vm, writers, folder, count)
            finally:
                vm.kill()
                for writer in writers:
                    writer.end()
        for number in range(count):
            restore(env, writers, f"{folder}/{number}")
    shutil.rmtree(folder)
