"""One history with each: a database, then small transactions, each after a quiet moment, through a counting proxy. Bytes and
objects stored, requests by type, the time from commit to durable in the store, and the restore of what came of it."""

import statistics

from .. import acks
from ..proxy import Proxy
from ..stage import wait_for
from ..subjects import Replica


def measure(stage):
    mib, commits = stage.size(256, 4), stage.size(60, 4)
    with stage.store() as seaweed, stage.directory() as directory:
        ready = []
        for subject in stage.replicating:
            stage.say(f"history: {subject.name}")
            prefix = f"app-{len(ready)}"
            _live(stage, seaweed, directory, subject, prefix, mib, commits)
            ready.append((subject, prefix))
        for _ in range(stage.rounds):
            for subject, prefix in ready:
                stage.say(f"history: restore with {subject.name}")
                config = subject.configure(directory, [(f"{directory}/{prefix}.db", Replica(prefix, seaweed.endpoint))])
                seconds, peak = stage.restore(subject, config, f"{directory}/{prefix}.db", f"{directory}/out.db")
                what = f"restore of {mib} MiB and {commits} increments"
                stage.report.add(what, subject, seconds, "s", "0.12 of 0.5.17" if mib == 256 else "")
                stage.report.add(f"{what}: peak RSS", subject, peak / 2**20, "MiB", "64 MiB")


def _live(stage, seaweed, directory, subject, prefix, mib, commits):
    database = stage.database(f"{directory}/{prefix}.db", mib)
    with Proxy(seaweed.port) as proxy:
        config = subject.configure(directory, [(database, Replica(prefix, proxy.endpoint))])
        log, go = f"{directory}/{prefix}.acks", f"{directory}/{prefix}.go"
        app = stage.app("write", database, "--commits", str(commits), "--rate", stage.size("0.6", "0.8"), "--jitter", stage.size("1", "0"), "--acks", log, "--go", go)
        with stage.start(subject, subject.run(config, app), directory) as running:
            stage.first_copy(seaweed, prefix, mib)
            running.wait_until_calm(3.0)
            open(go, "w").close()
            wait_for("the commits", lambda: running.alive() and len(acks.read(log)) == commits)
            running.wait_until_calm(3.0)
            requests = list(proxy.requests)
            objects = seaweed.objects(f"{prefix}/")
            running.stop()
    after = f"{mib} MiB and {commits} small transactions"
    stage.report.add(f"bytes stored, {after}", subject, sum(objects.values()) / 2**20, "MiB")
    stage.report.add("the same in compressed copies of the database", subject, sum(objects.values()) / max(objects.values()), "", "1.1")
    stage.report.add("objects stored", subject, len(objects), "")
    stage.report.add("requests of that history", subject, len(requests), "")
    kinds = proxy.by_type()
    stage.report.note(f"Requests of that history, {subject.name}: " + ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds)) + ".")
    durable = list(acks.until_durable(acks.read(log), requests))
    stage.report.add("commit to durable, quiet database, S3 (median)", subject, statistics.median(durable) * 1000, "ms")
    stage.report.add("commit to durable, quiet database, S3 (longest)", subject, max(durable) * 1000, "ms")
