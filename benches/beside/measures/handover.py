"""The hand-over of a deploy. From the request of the new instance to the start of its app, in parts, by what the store is asked; and
rolling deploys under load behind an early gate, with every acknowledged request looked for in the replica at the end."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request

from ..proxy import Proxy
from ..seaweed import BUCKET, KEY, REGION, SECRET
from ..stage import wait_for
from ..subjects import OURS, Subject
from .gate import address, running, write

LITEVISOR = Subject(OURS)
POLL = 2.0
# The app of the tests: drains when it is stopped.
SERVER = "tests/life/handover/server.py"
CLIENTS = 4
# Of one request: a hand-over is shorter.
PATIENCE = 30


def measure(stage):
    latency(stage)
    rolling(stage)


def add(stage, title, value, unit, goal=""):
    stage.report.add(title, LITEVISOR, value, unit, goal, ())


def latency(stage):
    """One deploy after the other; the owner is idle. Each new instance has an empty disk."""
    mib, turns = stage.size(256, 4), stage.size(max(5, stage.rounds), 2)
    title = f"hand-over of {mib} MiB, poll {POLL:.0f} s"
    with stage.store() as seaweed, Proxy(seaweed.port) as road, stage.directory() as own, contextlib.ExitStack() as ends:
        stage.database(f"{directory(own, 0)}/app.db", mib)
        process = ends.enter_context(instance(stage, own, 0, road.endpoint))
        first_line(own, 0)
        stage.first_copy(seaweed, "handover", mib)
        for turn in range(1, turns + 1):
            stage.say(f"hand-over: {mib} MiB, deploy {turn}")
            directory(own, turn)
            # The owner has looked some time ago: each deploy comes at another one.
            time.sleep(POLL * (turn - 1) / turns)
            new = ends.enter_context(instance(stage, own, turn, road.endpoint))
            started = first_line(own, turn)
            # The epochs begin with 1.
            asked = created(road, f"{turn + 1:016x}.json")
            seen = created(road, f"{turn:016x}.answer.json")
            released = created(road, f"{turn:016x}.released.json")
            add(stage, f"{title}: request to the app's start", (started - asked) * 1000, "ms", f"{POLL * 1000:,.0f} ms + the app's stop + 200 ms")
            add(stage, f"{title}: until the owner has seen it", (seen - asked) * 1000, "ms", f"{POLL * 1000:,.0f} ms")
            add(stage, f"{title}: the app's stop, last flush, release", (released - seen) * 1000, "ms")
            add(stage, f"{title}: release to the new app's start", (started - released) * 1000, "ms", "200 ms")
            process.terminate()
            process.wait(60)
            process = new


def directory(own, number):
    path = f"{own}/{number}"
    os.makedirs(path)
    return path


def instance(stage, own, number, endpoint):
    path = f"{own}/{number}"
    config = write(f"{path}/supervisor.toml", f"""
[log]
format = "text"
[status]
socket = "none"
[handover]
enabled = true
poll = "{POLL:.0f}s"
[[database]]
path = "{path}/app.db"
[database.replica]
url = "s3://{BUCKET}/handover"
endpoint = "{endpoint}"
region = "{REGION}"
access_key_id = "{KEY}"
secret_access_key = "{SECRET}"
""")
    load = stage.tools["load"]
    words = [stage.tools["litevisor"], "run", "--config", config, "--", "sh", "-c", f"{load} first-line; exec {load} idle"]
    return running(words, f"{path}/log")


def first_line(own, number):
    """When the app began, in seconds of the machine's monotonic clock."""

    def printed():
        with open(f"{own}/{number}/log", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("first-line ")]
        return lines and int(lines[0][1]) / 1e9

    return wait_for(f"the app of instance {number}", printed, limit=120)


def created(road, name):
    """When the store had the object."""

    def answered():
        found = [request.answered for request in road.requests if request.method == "PUT" and request.path.endswith(f"/owner/{name}")]
        return found and found[0]

    return wait_for(name, answered, limit=60)


class Load:
    """Clients that ask for the next answer when the last has come, each on a connection of its own, where the traffic goes then."""

    def __init__(self, target):
        self.target, self.acknowledged, self.failed, self.longest = target, [], 0, 0.0
        self._over, self._lock = threading.Event(), threading.Lock()
        self._clients = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _ask_on(self, number):
        request = 0
        while not self._over.is_set():
            name, begun = f"{number}-{request}", time.monotonic()
            answered, request = ask(self.target, name), request + 1
            with self._lock:
                self.longest = max(self.longest, time.monotonic() - begun)
                if answered:
                    self.acknowledged.append(name)
                else:
                    self.failed += 1

    def wait_for_more(self):
        before = len(self.acknowledged)
        wait_for("acknowledged requests", lambda: len(self.acknowledged) > before + 20, limit=60)

    def end(self):
        self._over.set()
        for client in self._clients:
            client.join()


def ask(address, name):
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE) as connection, connection.makefile("rwb") as stream:
            stream.write(f"put {name}\n".encode())
            stream.flush()
            return stream.readline() == f"ok {name}\n".encode()
    except OSError:
        return False


def rolling(stage):
    deploys = stage.size(100, 2)
    with stage.directory() as own, contextlib.ExitStack() as ends:
        gate, process = serving(stage, own, 0, ends)
        load = Load(gate)
        ends.callback(load.end)
        for deploy in range(1, deploys + 1):
            if deploy % 10 == 1:
                stage.say(f"hand-over: deploy {deploy} of {deploys} under load, {len(load.acknowledged)} answers, {load.failed} failed")
            load.wait_for_more()
            load.target, new = serving(stage, own, deploy, ends)
            load.wait_for_more()
            process.terminate()
            process.wait(60)
            process = new
        load.wait_for_more()
        load.end()
        process.terminate()
        process.wait(60)
        out = f"{own}/judged.db"
        subprocess.run([stage.tools["litevisor"], "restore", f"file://{own}/bucket", "-o", out], check=True, capture_output=True)
        with contextlib.closing(sqlite3.connect(out)) as judged:
            there = {name for (name,) in judged.execute("SELECT id FROM told")}
    title = f"{deploys} rolling deploys under load, early gate"
    add(stage, f"{title}: requests acknowledged", len(load.acknowledged), "")
    add(stage, f"{title}: acknowledged and lost", len(set(load.acknowledged) - there), "", "0")
    add(stage, f"{title}: requests failed", load.failed, "", "0")
    add(stage, f"{title}: longest request", load.longest * 1000, "ms")


def serving(stage, own, number, ends):
    """An instance with a gate, once the platform would move the traffic to it."""
    path, gate, app, status = directory(own, number), address(), address(), address()
    config = write(f"{path}/supervisor.toml", f"""
[log]
format = "text"
[status]
socket = "none"
listen = "{status}"
[handover]
enabled = true
poll = "500ms"
[[gate]]
listen = "{gate}"
app = "{app}"
set_port = true
accept = "early"
[[database]]
path = "{path}/app.db"
[database.replica]
url = "file://{own}/bucket"
""")
    words = [stage.tools["litevisor"], "run", "--config", config, "--", "python3", "-S", os.path.abspath(SERVER), f"{path}/app.db"]
    process = ends.enter_context(running(words, f"{path}/log"))

    def ready():
        with contextlib.suppress(OSError, urllib.error.URLError):
            return urllib.request.urlopen(f"http://{status}/readyz", timeout=5).status == 200

    wait_for(f"instance {number} to be ready", ready, limit=60)
    return gate, process
