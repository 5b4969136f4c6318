"""MariaDB in a container of the VM, as a client on the host sees it.

Nothing but the standard library and the `mariadb` client program.
"""
import subprocess
import threading

from client import check
from machine import GUEST


class Database:
    password = "secret"

    def __init__(self, vm):
        self.vm = vm

    def start(self):
        self.vm.docker("run", "--detach", "--name", "db", "--publish", "3306:3306", "--restart", "unless-stopped",
                       "--env", f"MARIADB_ROOT_PASSWORD={self.password}", "--volume", "/data/mysql:/var/lib/mysql",
                       "bulkhead/mariadb")
        self.wait()

    def command(self, *words):
        return ["mariadb", "--host", GUEST, "--user", "root", f"--password={self.password}", "--batch",
                "--skip-column-names", "--connect-timeout=20", *words]

    def attempt(self, statement, timeout=120):
        return subprocess.run(self.command("--execute", statement), capture_output=True, text=True, check=False, timeout=timeout)

    def answers(self):
        try:
            return self.attempt("SELECT 1", 30).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait(self):
        self.vm.ask("MariaDB", self.answers, 240)

    def sql(self, statement):
        done = self.attempt(statement)
        check(done.returncode == 0, f"{statement}: {done.stderr}")
        return done.stdout.strip()

    def refused(self, statement):
        """The error of a statement that must have one."""
        done = self.attempt(statement)
        check(done.returncode != 0, f"{statement}: was not refused but answered {done.stdout[:100]}")
        return done.stderr.strip()


class Writer:
    """A client that commits a row at a time, and keeps a log of what the server said is committed."""

    def __init__(self, database, number):
        self.number, self.committed = number, []
        self.client = subprocess.Popen(database.command("--unbuffered"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def write(self):
        n = 0
        try:
            while True:
                # The second statement is sent when the first was answered: autocommit made it durable by then.
                self.client.stdin.write(f"INSERT INTO test.t VALUES ({self.number}, {n}); SELECT {n};\n")
                if self.client.stdout.readline().strip() != str(n):
                    return
                self.committed.append(n)
                n += 1
        except OSError:
            return

    def end(self):
        self.client.kill()
        self.thread.join(30)
        self.client.wait()
        self.client.stdin.close()
        self.client.stdout.close()
        return self.committed
