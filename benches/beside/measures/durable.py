"""From a commit's return to the file in a directory replica, when the database was quiet before."""

import os
import statistics
import time

from .. import acks
from ..stage import wait_for
from ..subjects import Replica

POLL = 0.001
# Seconds after the last commit in which its file must have come.
LAST = 10


def measure(stage):
    commits = stage.size(20, 3)
    for subject in stage.replicating:
        stage.say(f"durable: {subject.name}")
        with stage.directory() as directory:
            database, replica = stage.database(f"{directory}/app.db", 1), f"{directory}/replica"
            os.mkdir(replica)
            config = subject.configure(directory, [(database, Replica(replica))])
            log, go = f"{directory}/acks", f"{directory}/go"
            app = stage.app("write", database, "--commits", str(commits), "--rate", stage.size("0.6", "0.8"), "--jitter", stage.size("1", "0"), "--acks", log, "--go", go)
            with stage.start(subject, subject.run(config, app), directory) as running:
                wait_for("the first files", lambda: running.alive() and any(names for _, _, names in os.walk(replica)))
                running.wait_until_calm()
                open(go, "w").close()
                times = _follow(running, log, replica, commits)
        stage.report.add("commit to durable, quiet database, directory (median)", subject, statistics.median(times) * 1000, "ms", "below 50 ms")
        stage.report.add("commit to durable, quiet database, directory (longest)", subject, max(times) * 1000, "ms")


def _follow(running, log, replica, commits):
    """The first new file that shows after a commit holds it: nothing else was written since the one before."""
    known, seen = acks.files(replica), []
    while not (len(done := acks.read(log)) == commits and (len(seen) >= commits or time.monotonic() > done[-1][1] + LAST)):
        now = acks.files(replica)
        if now - known:
            seen.append(time.monotonic())
            known = now
        running.alive()
        time.sleep(POLL)
    times = [min((at - committed for at in seen if at >= committed), default=None) for _, committed in done]
    return [value for value in times if value is not None]
