"""What each further database costs: memory and CPU time while nothing is written, then the commits of an app that writes to one
of them. `LITEVISOR_BENCH_BUILD` measures another build of litevisor."""

import json
import os
import time

from .. import procfs
from ..stage import wait_for
from ..subjects import OURS, Replica


def measure(stage):
    commits, seconds = stage.size(5_000, 200), stage.size(30, 3)
    for _ in range(stage.rounds):
        for count in stage.size((1, 50, 300), (1, 5)):
            _write(stage, stage.none, count, commits, 0)
            _write(stage, next(subject for subject in stage.replicating if subject.name == OURS), count, commits, seconds)


def _write(stage, subject, count, commits, seconds):
    many = "1 database" if count == 1 else f"{count} databases"
    stage.say(f"databases: {count} with {subject.name}")
    with stage.store() as seaweed, stage.directory() as directory:
        pairs = [(stage.database(f"{directory}/{number}.db", 1), Replica(f"app-{number}", seaweed.endpoint)) for number in range(count)]
        go, out = f"{directory}/go", f"{directory}/out.json"
        app = stage.app("write", pairs[0][0], "--commits", str(commits), "--rate", "500", "--go", go, "--out", out)
        with stage.start(subject, subject.run(subject.configure(directory, pairs), app), directory) as running:
            if subject.program:
                wait_for("every replica", lambda: running.alive() and _replicas(seaweed) == count, every=0.2)
                running.wait_until_calm(stage.size(40, 2))
                _idle(stage, subject, running, many, seconds)
            os.sync()
            before = running.cpu()
            open(go, "w").close()
            wait_for("the writer", lambda: running.alive() and os.path.exists(out))
            running.wait_until_calm(2.0)
            used = running.cpu() - before
            with open(out) as file:
                result = json.load(file)
    stage.report.add(f"half of the commits within, 500/s, {many}", subject, result["p50"] * 1000, "ms")
    stage.report.add(f"99.9 % of commits within, 500/s, {many}", subject, result["p999"] * 1000, "ms")
    stage.report.add(f"longest commit, 500/s, {many}", subject, result["max"] * 1000, "ms")
    stage.report.add(f"CPU of {commits:,} commits, app included, {many}", subject, used, "s")


def _idle(stage, subject, running, many, seconds):
    supervisor = running.supervisor
    cpu = procfs.cpu([supervisor])
    # The subject is that time passes.
    time.sleep(seconds)
    cpu = procfs.cpu([supervisor]) - cpu
    stage.report.add(f"RSS idle, {many}, each replicated", subject, procfs.memory(supervisor, "VmRSS") / 2**20, "MiB")
    stage.report.add(f"CPU idle, {many}, each replicated", subject, cpu / seconds * 100, "%")


def _replicas(seaweed):
    return len({key.split("/")[0] for key in seaweed.objects("app-")})
