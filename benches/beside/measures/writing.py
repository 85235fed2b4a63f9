"""What replication costs an app that writes: its commit rate, its longest stall, and the CPU time of both together."""

import json
import os

from ..stage import wait_for
from ..subjects import Replica


def measure(stage):
    fast, seconds = stage.size(200_000, 2_000), stage.size(10, 1)
    mib, rates = stage.size(256, 4), stage.size((1_000, 10_000), (200,))
    for _ in range(stage.rounds):
        for subject in [stage.none, *stage.replicating]:
            stage.say(f"writing: {subject.name}")
            result = _write(stage, subject, mib, fast, "max")
            where = f"full speed, {fast:,} commits, {mib} MiB"
            stage.report.add(f"commit rate, {where}", subject, result["commits"] / result["seconds"], "/s", "0.95 of none")
            _stalls(stage, subject, result, "full speed")
            stage.report.add("CPU of those writes, app included", subject, result["cpu"], "s", "1.2 of none")
            for rate in rates:
                result = _write(stage, subject, mib, rate * seconds, str(rate))
                _stalls(stage, subject, result, f"{rate:,} commits/s")
                stage.report.add(f"CPU of {rate * seconds:,} writes at {rate:,}/s, app included", subject, result["cpu"], "s")


def _stalls(stage, subject, result, pace):
    stage.report.add(f"longest commit, {pace}", subject, result["max"] * 1000, "ms", "no longer than none" if pace != "10,000 commits/s" else "2 × none")
    stage.report.add(f"99.9 % of commits within, {pace}", subject, result["p999"] * 1000, "ms")


def _write(stage, subject, mib, commits, rate):
    """From a settled start to a settled end: what the first upload costs is measured elsewhere."""
    with stage.store() as seaweed, stage.directory() as directory:
        database = stage.database(f"{directory}/app.db", mib)
        config = subject.configure(directory, [(database, Replica("app", seaweed.endpoint))])
        go, out = f"{directory}/go", f"{directory}/out.json"
        app = stage.app("write", database, "--commits", str(commits), "--rate", rate, "--go", go, "--out", out)
        with stage.start(subject, subject.run(config, app), directory) as running:
            if subject.program:
                stage.first_copy(seaweed, "app", mib)
            running.wait_until_calm(2.0)
            os.sync()
            before = running.cpu()
            open(go, "w").close()
            wait_for("the writer", lambda: running.alive() and os.path.exists(out))
            running.wait_until_calm(2.0)
            with open(out) as file:
                return json.load(file) | {"cpu": running.cpu() - before}
