"""What encryption costs: the first full upload and the restore of a big database, plain and encrypted with age, to a directory and
to a store. Of litevisor alone."""

from ..subjects import OURS, Replica

# An identity for tests, known to all.
IDENTITY = "AGE-SECRET-KEY-14XFHMT5X6M5ZDVU8A7X9HNYUVEEHPMN0PTTMR29LPLF5GY8XD28SQUW2T5"


def measure(stage):
    mib = stage.size(256, 8)
    ours = next(subject for subject in stage.replicating if subject.name == OURS)
    with stage.store() as seaweed, stage.directory() as directory:
        ready = []
        for where, endpoint in ((f"{directory}/replica", None), ("app", seaweed.endpoint)):
            for how, identity in (("plain", None), ("encrypted", IDENTITY)):
                replica = Replica(f"{where}-{how}", endpoint, identity)
                name = f"{mib} MiB, {'a store' if endpoint else 'a directory'}, {how}"
                database = f"{directory}/{len(ready)}.db"
                stage.say(f"encrypted: upload of {name}")
                _upload(stage, ours, replica, database, mib, name)
                ready.append((name, replica, database))
        for _ in range(stage.rounds):
            for name, replica, database in ready:
                stage.say(f"encrypted: restore of {name}")
                config = ours.configure(directory, [(database, replica)])
                seconds, peak = stage.restore(ours, config, database, f"{directory}/out.db")
                goal = "plain is at least 0.6 of it" if replica.identity else ""
                stage.report.add(f"restore of {name}", ours, seconds, "s", goal)
                stage.report.add(f"restore of {name}: peak RSS", ours, peak / 2**20, "MiB", "64 MiB")


def _upload(stage, ours, replica, database, mib, name):
    with stage.directory() as own:
        stage.database(database, mib)
        config = ours.configure(own, [(database, replica)])
        with stage.start(ours, ours.run(config, stage.app("idle")), own) as running:
            running.wait_until_calm()
            stage.report.add(f"first full upload of {name}: CPU", ours, stage.cpu(running), "s")
            stage.report.add(f"first full upload of {name}: peak RSS", ours, stage.peak(running) / 2**20, "MiB")
            running.stop()
        stage.remove(database)
