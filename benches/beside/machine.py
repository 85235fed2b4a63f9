"""Describes the machine and the versions, for whoever reads the numbers."""

import os
import platform
import subprocess


def _lines(path):
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


def _field(path, name):
    return next((line.partition(":")[2].strip() for line in _lines(path) if line.startswith(name)), "unknown")


def _mount(path):
    """File system and device of the longest mount point above the path."""
    best = ("", "unknown", "unknown")
    for line in _lines("/proc/mounts"):
        device, point, kind = line.split()[:3]
        above = path == point or path.startswith(point.rstrip("/") + "/")
        if above and len(point) >= len(best[0]):
            best = (point, kind, device)
    return f"{best[1]} on {best[2]}"


def _version(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def describe(tools, scratch):
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    load = " ".join(_lines("/proc/loadavg")[0].split()[:3]) if _lines("/proc/loadavg") else "unknown"
    return [
        f"* {len(os.sched_getaffinity(0))} cores ({_field('/proc/cpuinfo', 'model name')}), {memory:.0f} GiB of memory, load {load} at the start",
        f"* Linux {platform.release()}, {_mount(scratch)}",
        f"* {_version(tools['litevisor'], '--version')}; Litestream {_version(tools['litestream-0.5'], 'version')} "
        f"and {_version(tools['litestream-0.3'], 'version')}; {_version(tools['tini'], '--version')}",
        f"* SeaweedFS {_version(tools['weed'], 'version')}, on loopback, with its data on the same disk",
    ]
