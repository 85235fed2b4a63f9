"""Nothing is written: memory, CPU time and requests of a supervisor with one database and with many."""

import time

from .. import procfs
from ..proxy import Proxy
from ..stage import wait_for
from ..subjects import Replica

GOALS = {1: "10 MiB", 50: "20 MiB"}


def measure(stage):
    seconds = stage.size(30, 3)
    for count in stage.size((1, 50), (1, 5)):
        for subject in stage.replicating:
            stage.say(f"idle: {count} with {subject.name}")
            with stage.store() as seaweed, Proxy(seaweed.port) as proxy, stage.directory() as directory:
                pairs = []
                for number in range(count):
                    path = stage.database(f"{directory}/{number}.db", 1)
                    pairs.append((path, Replica(f"app-{number}", proxy.endpoint)))
                config = subject.configure(directory, pairs)
                with stage.start(subject, subject.run(config, stage.app("idle")), directory) as running:
                    wait_for("every replica", lambda: running.alive() and _replicas(seaweed) == count, every=0.2)
                    running.wait_until_calm(stage.size(40, 2))
                    _idle(stage, subject, running, proxy, count, seconds)


def _idle(stage, subject, running, proxy, count, seconds):
    many = "1 database" if count == 1 else f"{count} databases"
    supervisor = running.supervisor
    requests, cpu = len(proxy.requests), procfs.cpu([supervisor])
    # The subject is that time passes.
    time.sleep(seconds)
    requests, cpu = len(proxy.requests) - requests, procfs.cpu([supervisor]) - cpu
    stage.report.add(f"RSS idle, {many}", subject, procfs.memory(supervisor, "VmRSS") / 2**20, "MiB", GOALS.get(count, ""))
    stage.report.add(f"Pss idle, {many}", subject, procfs.memory(supervisor, "Pss") / 2**20, "MiB")
    stage.report.add(f"requests in {seconds} s idle, {many}", subject, requests, "", "0")
    stage.report.add(f"CPU idle, {many}", subject, cpu / seconds * 100, "%", "below 0.1 %")


def _replicas(seaweed):
    return len({key.split("/")[0] for key in seaweed.objects("app-")})
