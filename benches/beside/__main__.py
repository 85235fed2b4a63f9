"""Runs the measures and prints the table. In: which measures, how often, which programs (benches/run.sh knows them)."""

import argparse
import importlib
import os
import shutil
import sys
import tempfile

from .machine import describe
from .report import Report
from .stage import Stage

MEASURES = ["writing", "history", "big", "idle", "databases", "durable", "start", "latency", "loss", "encrypted", "gate", "handover"]


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run.sh", description="litevisor beside Litestream and nothing, in turns.")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"which ones, default all: {' '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round: does everything still run?")
    parser.add_argument("--scratch", default=None, help="directory for the data, on a disk with 10 GB free (a temporary one)")
    for name in ("load", "litevisor", "litestream-0.5", "litestream-0.3", "weed", "tini"):
        parser.add_argument(f"--tool-{name}", required=True, help=argparse.SUPPRESS)
    for name in ("traffic", "nginx", "haproxy"):
        parser.add_argument(f"--tool-{name}", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name in given.measures:
        if name not in MEASURES:
            parser.error(f"unknown measure {name}; there are: {' '.join(MEASURES)}")
    return given


def main():
    given = arguments()
    tools = {name[5:].replace("_", "-"): value for name, value in vars(given).items() if name.startswith("tool_")}
    report = Report()
    scratch = tempfile.mkdtemp(prefix="litevisor-bench-", dir=given.scratch)
    stage = Stage(tools, scratch, given.smoke, 1 if given.smoke else given.rounds, report)
    try:
        machine = describe(tools, scratch)
        for name in given.measures or MEASURES:
            importlib.import_module(f"beside.measures.{name}").measure(stage)
    finally:
        if report.rows:
            print("\n".join(machine), report.table(), sep="\n\n", flush=True)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
