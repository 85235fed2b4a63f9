"""kill -9 of everything while the app writes, and the disk is gone: how much of what was committed is not in the replica."""

import random
import time

from .. import acks
from ..stage import wait_for
from ..subjects import Replica

RATE = 100


def measure(stage):
    least = stage.size(300, 60)
    for sync in stage.size(("100ms", "1s"), ("100ms",)):
        for number in range(max(stage.rounds, 1)):
            # At any moment between two uploads, the same for each.
            moment = random.Random(number).random() * 1.5
            for subject in stage.replicating:
                stage.say(f"loss: {sync}, {subject.name}")
                with stage.store() as seaweed, stage.directory() as directory:
                    _lose(stage, subject, seaweed, directory, sync, least, moment)


def _lose(stage, subject, seaweed, directory, sync, least, moment):
    database, log, go = stage.database(f"{directory}/app.db", 1), f"{directory}/acks", f"{directory}/go"
    config = subject.configure(directory, [(database, Replica("app", seaweed.endpoint))], sync=sync)
    app = stage.app("write", database, "--rate", str(RATE), "--acks", log, "--go", go)
    with stage.start(subject, subject.run(config, app), directory) as running:
        wait_for("the first files", lambda: running.alive() and seaweed.objects("app/"), every=0.1)
        running.wait_until_calm()
        open(go, "w").close()
        wait_for("the commits", lambda: running.alive() and len(acks.read(log)) >= least)
        time.sleep(moment)
        running.kill()
    out = f"{directory}/out.db"
    stage.remove(database)
    stage.restore(subject, config, database, out)
    last = int(stage.load("count", out))
    committed = acks.read(log)
    kept = [at for number, at in committed if number <= last]
    lost = committed[-1][1] - (kept[-1] if kept else committed[0][1])
    goal = "0.1 s" if sync == "100ms" else "1 s and a round trip"
    stage.report.add(f"lost on kill -9 with the disk gone, {RATE} commits/s, sync_interval {sync}", subject, lost, "s", goal)
