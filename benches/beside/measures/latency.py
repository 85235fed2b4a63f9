"""A restore that waits for answers rather than for bytes: many small files, each request answered late."""

import os

from .. import acks
from ..proxy import Proxy
from ..stage import wait_for
from ..subjects import Replica


def measure(stage):
    files, delay = stage.size(26, 4), 0.1
    with stage.store() as seaweed, stage.directory() as directory, Proxy(seaweed.port) as proxy:
        stage.say(f"latency: a replica of {files} files with each")
        ready = [_make(stage, seaweed, f"{directory}/{number}", subject, files) for number, subject in enumerate(stage.replicating)]
        proxy.delay = delay
        for _ in range(stage.rounds):
            for subject, own in zip(stage.replicating, ready):
                stage.say(f"latency: {subject.name}")
                config = subject.configure(own, [(f"{own}/app.db", Replica(os.path.basename(own), proxy.endpoint))])
                proxy.requests.clear()
                seconds, _ = stage.restore(subject, config, f"{own}/app.db", f"{own}/out.db")
                what = f"restore of {files} files, {delay * 1000:.0f} ms added to each request"
                stage.report.add(what, subject, seconds, "s", "well under 1 s")
                stage.report.add("requests of that restore", subject, len(proxy.requests), "")


def _make(stage, seaweed, own, subject, files):
    """A snapshot and one file for each commit: the pauses are longer than anybody's interval, nothing is merged."""
    os.mkdir(own)
    database, log, go = stage.database(f"{own}/app.db", 1), f"{own}/acks", f"{own}/go"
    config = subject.configure(own, [(database, Replica(os.path.basename(own), seaweed.endpoint))], merge=False)
    commits = files - 1
    app = stage.app("write", database, "--commits", str(commits), "--rate", "0.8", "--acks", log, "--go", go)
    with stage.start(subject, subject.run(config, app), own) as running:
        wait_for("the first files", lambda: running.alive() and seaweed.objects(f"{os.path.basename(own)}/"), every=0.2)
        running.wait_until_calm()
        open(go, "w").close()
        wait_for("the commits", lambda: running.alive() and len(acks.read(log)) == commits)
        running.wait_until_calm()
        running.stop()
    return own
