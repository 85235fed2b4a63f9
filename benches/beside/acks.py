"""The app's own record of what it committed and when, and what a store or a directory shows of it later."""

import os


def read(path):
    """(number, seconds) of every commit; the clock is `time.monotonic`'s."""
    try:
        with open(path) as file:
            lines = [line.split() for line in file.read().splitlines(True) if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [(int(number), int(nanoseconds) / 1e9) for number, nanoseconds in lines]


def carries_commits(path):
    """Whether an object or file of this name is one of the small ones that commits go into: level 0, or 0.3's WAL."""
    name = os.path.basename(path)
    level = os.path.basename(os.path.dirname(path))
    return (name.endswith(".ltx") and level in ("0", "0000")) or name.endswith(".wal.lz4")


def until_durable(commits, requests):
    """For each commit the time until the first upload that began after it was answered."""
    puts = [request for request in requests if request.type == "put" and request.answered and carries_commits(request.path)]
    for _, committed in commits:
        later = [put.answered - committed for put in puts if put.begun >= committed]
        if later:
            yield min(later)


def files(directory):
    """The files of a directory replica that commits go into."""
    return {path for top, _, names in os.walk(directory) for name in names if carries_commits(path := f"{top}/{name}")}
