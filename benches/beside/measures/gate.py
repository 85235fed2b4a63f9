"""The gate beside nginx `stream` and HAProxy in TCP mode: what copying costs when nothing is committed; and what a write costs
when the store is 20 ms away. Every proxy has one thread. Each client asks for the next answer when the last has come."""

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import time

from .. import procfs, subjects
from ..proxy import Proxy
from ..seaweed import BUCKET, KEY, REGION, SECRET
from ..stage import wait_for

PEERS = (subjects.NGINX, subjects.HAPROXY)
NONE, NGINX, HAPROXY, OURS = (subjects.Subject(name) for name in (subjects.NONE, *PEERS, subjects.OURS))
ROUND_TRIP = 0.020


def measure(stage):
    for tool, package in (("nginx", "nginx libnginx-mod-stream"), ("haproxy", "haproxy")):
        if not stage.tools[tool]:
            raise SystemExit(f"bench: {tool} is missing; install {package}")
    copying(stage)
    writing(stage)


def copying(stage):
    """All are up at the same time and take turns; those that are not asked are idle."""
    with stage.directory() as directory, contextlib.ExitStack() as ends:
        app = address()
        ends.enter_context(running([stage.tools["traffic"], "app", app], f"{directory}/app.log"))
        proxies = {NONE: (app, None)}
        for subject, start in ((NGINX, nginx), (HAPROXY, haproxy)):
            proxies[subject] = start(stage, directory, app, ends)
        proxies[OURS] = litevisor(stage, f"{directory}/one", ends)
        with_many = litevisor(stage, f"{directory}/many", ends, databases=stage.size(100, 3))
        for _ in range(stage.rounds):
            requests(stage, proxies, with_many[0])
            downloads(stage, proxies)
        idle(stage, proxies, directory)


def requests(stage, proxies, with_many):
    seconds = stage.size("5", "0.2")
    for connections in ("1", "64"):
        direct = None
        for subject, (proxy, pid) in proxies.items():
            stage.say(f"gate: requests, {connections} connections, {subject.name}")
            used = procfs.cpu([pid()]) if pid else 0
            found = told(stage, "ask", proxy, "get", connections, seconds)
            if pid:
                used = procfs.cpu([pid()]) - used
                title = f"CPU of the proxy for a request, connections: {connections}"
                stage.report.add(title, subject, used / found["answers"] * 1e6, "µs", "", PEERS)
            stage.report.add(f"requests/s, connections: {connections}", subject, found["rate"], "/s", "0.95 of nginx", PEERS)
            if connections == "64":
                continue
            direct = direct or found
            if subject != NONE:
                for name, goal in (("p50", "30 µs"), ("p99", "150 µs")):
                    added = (found[name] - direct[name]) * 1e6
                    stage.report.add(f"added latency of a request, {name}", subject, added, "µs", goal, PEERS)
            if subject == OURS:
                many = told(stage, "ask", with_many, "get", connections, seconds)
                title = "latency that 100 databases add to that of one, p50"
                stage.report.add(title, subject, (many["p50"] - found["p50"]) * 1e6, "µs", "20 µs", PEERS)


def downloads(stage, proxies):
    mib = stage.size(2048, 16)
    for subject, (proxy, _) in proxies.items():
        stage.say(f"gate: download, {subject.name}")
        seconds = told(stage, "download", proxy, str(mib))["seconds"]
        stage.report.add(f"download of {mib} MiB", subject, mib / seconds, "MiB/s", "0.9 of nginx", PEERS)


def idle(stage, proxies, directory):
    """What each connection adds to the proxy's memory; the kernel's part is not in it."""
    count = stage.size(9000, 50)
    for subject, (proxy, pid) in proxies.items():
        if subject == NONE:
            continue
        stage.say(f"gate: {count} idle connections, {subject.name}")
        before = procfs.memory(pid(), "VmRSS")
        words = [stage.tools["traffic"], "idle", proxy, str(count)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            if client.stdout.readline() != "ready\n":
                raise SystemExit(f"bench: {subject.name} does not take {count} connections")
            each = (procfs.memory(pid(), "VmRSS") - before) / count / 1024
            client.stdin.close()
        stage.report.add(f"memory of an idle connection ({count} of them)", subject, each, "KiB", "4 KiB", PEERS)


def writing(stage):
    """Each put is a commit of its own; the answers wait for the store."""
    for connections, goal in (("1", "1.15"), ("64", "2.2")):
        for _ in range(stage.rounds):
            stage.say(f"gate: writes, {connections} connections")
            with stage.store() as seaweed, Proxy(seaweed.port, ROUND_TRIP) as road, stage.directory() as directory, contextlib.ExitStack() as ends:
                proxy, _ = litevisor(stage, f"{directory}/gated", ends, endpoint=road.endpoint)
                app = address()
                ends.enter_context(running([stage.tools["traffic"], "app", app, f"{directory}/plain.db"], f"{directory}/app.log"))
                road.requests.clear()
                found = told(stage, "ask", proxy, "put", connections, stage.size("5", "0.5"))
                plain = told(stage, "ask", app, "put", connections, stage.size("2", "0.2"))
                puts = sorted(put.answered - put.begun for put in road.requests if put.type == "put" and put.answered)
            trip = puts[len(puts) // 2]
            what = f"writes, connections: {connections}"
            stage.report.add(f"{what}: answer of the store to an upload, p50", OURS, trip * 1000, "ms", "", PEERS)
            for subject, value in ((NONE, plain), (OURS, found)):
                stage.report.add(f"{what}: latency, p50", subject, value["p50"] * 1000, "ms", "", PEERS)
                stage.report.add(f"{what}: commits/s", subject, value["rate"], "/s", "64: 20 times those of 1", PEERS)
            added = (found["p50"] - plain["p50"]) / trip
            stage.report.add(f"{what}: added latency in round trips", OURS, added, "", goal, PEERS)


def nginx(stage, directory, app, ends):
    listen = address()
    config = write(f"{directory}/nginx.conf", f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error;
events {{ worker_connections 19000; }}
stream {{ server {{ listen {listen} backlog=4096; proxy_pass {app}; }} }}
""")
    process = ends.enter_context(running([stage.tools["nginx"], "-p", directory, "-c", config], f"{directory}/nginx.log"))
    return reached(listen), lambda: procfs.children(process.pid)[0]


def haproxy(stage, directory, app, ends):
    listen = address()
    config = write(f"{directory}/haproxy.cfg", f"""
global
  nbthread 1
  maxconn 9500
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen app
  bind {listen}
  server app {app} maxconn 9500
""")
    process = ends.enter_context(running([stage.tools["haproxy"], "-db", "-f", config], f"{directory}/haproxy.log"))
    return reached(listen), lambda: process.pid


def litevisor(stage, directory, ends, databases=1, endpoint=None):
    """With its own app, which has the first of the databases open."""
    os.mkdir(directory)
    listen, app = address(), address()
    text = f'[log]\nformat = "text"\n[[gate]]\nlisten = "{listen}"\napp = "{app}"\nmax_connections = 20000\n'
    keep = []
    for number in range(databases):
        path = f"{directory}/{number}.db"
        text += f'\n[[database]]\npath = "{path}"\n[database.replica]\n'
        if endpoint:
            text += f'url = "s3://{BUCKET}/gate"\nendpoint = "{endpoint}"\nregion = "{REGION}"\n'
            text += f'access_key_id = "{KEY}"\nsecret_access_key = "{SECRET}"\n'
        else:
            text += f'url = "file://{directory}/replica-{number}"\n'
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        database.commit()
        keep.append(database)
    ends.callback(lambda: [database.close() for database in keep])
    config = write(f"{directory}/supervisor.toml", text)
    traffic = [stage.tools["traffic"], "app", app, f"{directory}/0.db"]
    process = ends.enter_context(running([stage.tools["litevisor"], "run", "--config", config, "--", *traffic], f"{directory}/log"))
    reached(listen)
    # The first upload is no part of what follows.
    told(stage, "ask", listen, "put", "1", "0.1")
    time.sleep(stage.size(3, 0.2))
    return listen, lambda: process.pid


@contextlib.contextmanager
def running(words, log):
    with open(log, "w") as out, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def told(stage, *words):
    done = subprocess.run([stage.tools["traffic"], *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def reached(listen):
    host, port = listen.split(":")

    def accepts():
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True

    wait_for(f"{listen} to accept", accepts, limit=60)
    return listen


def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path
