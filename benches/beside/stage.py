"""What the measures stand on: a scratch directory, databases of a given size, the subjects, running processes that never
outlive their measure, and waiting for what is awaited."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

from . import procfs
from .seaweed import Seaweed
from .subjects import NONE, OLD, OURS, PEER, TINI, Litestream, Litevisor, Subject

# Ticks of CPU time in one look that still count as calm: the kernel counts in hundredths.
CALM = 0.015
LIMIT = 300.0


def wait_for(what, ready, limit=LIMIT, every=0.005):
    end = time.monotonic() + limit
    while not (found := ready()):
        if time.monotonic() > end:
            raise SystemExit(f"bench: waited {limit:.0f} s in vain for {what}")
        time.sleep(every)
    return found


class Running:
    """A subject with its app; killed with everything below it at the end."""

    def __init__(self, argv, log, program, env, patience):
        self._log, self._patience = log, patience
        with open(log, "w") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)
        self.pid, self._program = self.process.pid, program

    @property
    def supervisor(self):
        return (self._program and procfs.find(self.pid, self._program)) or self.pid

    def log(self):
        with open(self._log, errors="replace") as file:
            return file.read()

    def alive(self):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: it ended with {self.process.returncode}:\n{self.log()[-2000:]}")
        return True

    def cpu(self):
        return procfs.cpu(procfs.tree(self.pid))

    def wait_until_calm(self, seconds=1.5):
        """Whatever it had to do at the start, or after the last commit, is done. One that is never calm is measured as it is."""
        seconds *= self._patience
        supervisor, calm_since, last = self.supervisor, time.monotonic(), None
        end = calm_since + max(3 * seconds, 30.0)
        while time.monotonic() - calm_since < seconds and time.monotonic() < end:
            self.alive()
            used = procfs.cpu([supervisor])
            if last is not None and used - last > CALM:
                calm_since = time.monotonic()
            last = used
            time.sleep(min(0.5, seconds / 3))

    def kill(self):
        """kill -9 of everything at once."""
        for pid in procfs.tree(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """In order: what is committed is in the replica afterwards."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        finally:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Stage:
    def __init__(self, tools, scratch, smoke, rounds, report):
        self.tools, self.scratch, self.smoke, self.rounds, self.report = tools, scratch, smoke, rounds, report
        old = Litestream(OLD, tools["litestream-0.3"], tools["tini"])
        peer = Litestream(PEER, tools["litestream-0.5"], tools["tini"])
        self.replicating = [old, peer, Litevisor(OURS, tools["litevisor"])]
        self.none, self.tini = Subject(NONE), Subject(TINI, tools["tini"])
        self._number = 0
        # Litestream 0.5.17's S3 client refuses to start with a certificate bundle in the environment.
        foreign = ("AWS_", "SSL_CERT_", "LITESTREAM_", "LITEVISOR_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def size(self, full, small):
        return small if self.smoke else full

    @contextlib.contextmanager
    def directory(self):
        self._number += 1
        path = f"{self.scratch}/{self._number}"
        os.makedirs(path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def store(self):
        with self.directory() as directory, Seaweed(self.tools["weed"], f"{directory}/weed") as seaweed:
            yield seaweed

    def database(self, path, mib):
        """A copy of a database of this size; it is made once. In a new place always: a WAL that was left there would be
        taken for its own."""
        assert not any(os.path.exists(path + side) for side in ("", "-wal")), path
        made = f"{self.scratch}/made-{mib}.db"
        if not os.path.exists(made):
            self.load("fill", made, str(mib))
        shutil.copyfile(made, path)
        return path

    def remove(self, database):
        for side in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(database + side)

    def first_copy(self, seaweed, prefix, mib):
        """Waits until the store holds one whole copy: an object as large as a compressed database of this size."""
        least = (mib << 20) * 0.3

        def there():
            return any(size > least for size in seaweed.objects(f"{prefix}/").values())

        wait_for("the first full upload", there, every=0.02)

    def load(self, *words):
        done = subprocess.run([self.tools["load"], *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def app(self, *words):
        return [self.tools["load"], *words]

    def start(self, subject, argv, directory):
        """Begins with the same page cache: everything that earlier steps wrote is on the disk."""
        os.sync()
        return Running(argv, f"{directory}/log", subject.program, self.env, 0.2 if self.smoke else 1.0)

    def restore(self, subject, config, database, out):
        """Seconds and peak bytes of one restore into a file that is not there."""
        self.remove(out)
        os.sync()
        begun = time.monotonic()
        with open(f"{out}.log", "w") as log:
            process = subprocess.Popen(subject.restore(config, database, out), stdout=log, stderr=log, env=self.env)
            peak = procfs.Peak(process.pid, subject.program)
            code = process.wait()
        seconds, most = time.monotonic() - begun, peak.end()
        if code != 0:
            with open(f"{out}.log") as log:
                raise SystemExit(f"bench: {subject.name} cannot restore:\n{log.read()[-2000:]}")
        return seconds, most

    def cpu(self, running):
        return procfs.cpu([running.supervisor])

    def peak(self, running):
        return procfs.memory(running.supervisor, "VmHWM")

    def say(self, text):
        self.report.say(text)
