"""A big database: time and memory of its first full upload, and of its restore."""

import time

from ..subjects import Replica


def measure(stage):
    for mib in stage.size((256, 1024), (8,)):
        with stage.store() as seaweed, stage.directory() as directory:
            ready = []
            for number in range(stage.rounds):
                for subject in stage.replicating:
                    stage.say(f"big: snapshot of {mib} MiB with {subject.name}")
                    prefix = f"app-{number}-{len(ready)}"
                    _snapshot(stage, seaweed, directory, subject, prefix, mib)
                    ready.append((subject, prefix))
                if mib > 256:
                    break
            for _ in range(stage.rounds):
                for subject, prefix in ready[: len(stage.replicating)]:
                    stage.say(f"big: restore of {mib} MiB with {subject.name}")
                    database = f"{directory}/{prefix}.db"
                    config = subject.configure(directory, [(database, Replica(prefix, seaweed.endpoint))])
                    seconds, peak = stage.restore(subject, config, database, f"{directory}/out.db")
                    stage.report.add(f"restore of {mib} MiB", subject, seconds, "s", "0.2 of 0.5.17" if mib > 256 else "")
                    stage.report.add(f"restore of {mib} MiB: peak RSS", subject, peak / 2**20, "MiB", "64 MiB")


def _snapshot(stage, seaweed, directory, subject, prefix, mib):
    with stage.directory() as own:
        database = stage.database(f"{own}/app.db", mib)
        config = subject.configure(own, [(database, Replica(prefix, seaweed.endpoint))])
        begun = time.monotonic()
        with stage.start(subject, subject.run(config, stage.app("idle")), own) as running:
            stage.first_copy(seaweed, prefix, mib)
            stage.report.add(f"first full upload of {mib} MiB", subject, time.monotonic() - begun, "s")
            running.wait_until_calm()
            stage.report.add(f"first full upload of {mib} MiB: CPU", subject, stage.cpu(running), "s")
            stage.report.add(f"first full upload of {mib} MiB: peak RSS", subject, stage.peak(running) / 2**20, "MiB", "40 MiB")
            running.stop()
