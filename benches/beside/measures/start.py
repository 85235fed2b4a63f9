"""Cold start: from exec of the entrypoint to the first line of the app, with nothing to restore and with a small database.
The peer is what people use: tini, and a shell script that calls `litestream restore` and then `litestream replicate`."""

import contextlib
import os
import subprocess

from ..stage import wait_for
from ..subjects import Replica

SIDES = ("", "-wal", "-shm")


def measure(stage):
    mib, rounds = stage.size(20, 2), stage.size(max(10, stage.rounds), 2)
    with stage.store() as seaweed:
        for subject in stage.replicating:
            _make(stage, seaweed, subject, _prefix(subject), mib)
        for turn in range(rounds):
            for subject in [stage.tini, *stage.replicating]:
                stage.say(f"start: {subject.name}, turn {turn + 1}")
                empty = _start(stage, seaweed, subject, f"empty-{turn}-{_prefix(subject)}")
                stage.report.add("exec to the app's first line, nothing to restore", subject, empty * 1000, "ms", "10 ms; 3.3 of tini")
                if subject is not stage.tini:
                    full = _start(stage, seaweed, subject, _prefix(subject))
                    stage.report.add(f"exec to the app's first line, {mib} MiB to restore", subject, full * 1000, "ms", "60 ms; 0.2 of 0.5.17")


def _prefix(subject):
    return subject.name.replace(" ", "-")


def _make(stage, seaweed, subject, prefix, mib):
    with stage.directory() as own:
        database = stage.database(f"{own}/app.db", mib)
        config = subject.configure(own, [(database, Replica(prefix, seaweed.endpoint))])
        with stage.start(subject, subject.run(config, stage.app("idle")), own) as running:
            stage.first_copy(seaweed, prefix, mib)
            running.wait_until_calm()
            running.stop()


def _start(stage, seaweed, subject, prefix):
    """On a disk without a database, as after a deployment."""
    with stage.directory() as own:
        database, out = f"{own}/app.db", f"{own}/out"
        config = subject.configure(own, [(database, Replica(prefix, seaweed.endpoint))])
        command = subject.cold_start(config, database, stage.app("first-line"), own)
        with open(out, "w") as file:
            process = subprocess.Popen(stage.app("launch", *command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=stage.env)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(process.wait)
            cleanup.callback(process.kill)
            times = wait_for("the app's first line", lambda: _times(out) or (process.poll() is not None and _fail(out)), limit=60)
            process.wait(60)
        return times


def _times(path):
    words = {}
    with open(path, errors="replace") as file:
        for line in file:
            name, _, value = line.strip().partition(" ")
            # Litestream logs what the app prints as it is.
            if name in ("launched", "first-line") and value.isdigit():
                words[name] = int(value)
    return (words["first-line"] - words["launched"]) / 1e9 if len(words) == 2 else None


def _fail(path):
    if _times(path):
        return _times(path)
    with open(path, errors="replace") as file:
        raise SystemExit(f"bench: it ended without starting the app:\n{file.read()[-2000:]}")
