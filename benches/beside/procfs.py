"""What the kernel knows of a process: CPU time, memory, children. Reads /proc only."""

import os
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        # The name may hold anything, also spaces and brackets.
        return file.read().rpartition(")")[2].split()


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def tree(pid):
    """The process and everything below it."""
    return [pid] + [below for child in children(pid) for below in tree(child)]


def find(pid, program):
    """The process called `program` at `pid` or below it; None when there is none."""
    for candidate in tree(pid):
        try:
            if os.path.realpath(f"/proc/{candidate}/exe") == os.path.realpath(program):
                return candidate
        except OSError:
            pass
    return None


def cpu(pids):
    """Seconds of user and system time that these processes have used themselves."""
    total = 0
    for pid in pids:
        try:
            fields = _stat(pid)
            total += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / TICK


def memory(pid, key):
    """Bytes: VmRSS, VmHWM (the peak) of status, or Pss of smaps_rollup."""
    path = "smaps_rollup" if key == "Pss" else "status"
    try:
        with open(f"/proc/{pid}/{path}") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name == key:
                    return int(rest.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


class Peak:
    """The peak of a process's own memory, followed until it ends: what wait4 reports includes its parent's."""

    def __init__(self, pid, program=None):
        self.bytes, self._pid, self._program, self._over = 0, pid, program, threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self):
        while not self._over.is_set():
            try:
                if not self._program or os.path.samefile(f"/proc/{self._pid}/exe", self._program):
                    self.bytes = max(self.bytes, memory(self._pid, "VmHWM"))
            except OSError:
                pass
            time.sleep(0.003)

    def end(self):
        self._over.set()
        self._thread.join()
        return self.bytes
