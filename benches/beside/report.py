"""Collects values by row and subject, and prints them as a Markdown table: medians, spread, and the ratios that count."""

import statistics
import sys
import time
from dataclasses import dataclass, field

from .subjects import NONE, OLD, OURS, PEER, TINI

BARE = (TINI, NONE)


@dataclass
class Row:
    title: str
    unit: str
    goal: str
    values: dict = field(default_factory=dict)

    def median(self, subject):
        found = self.values.get(subject)
        return statistics.median(found) if found else None


class Report:
    def __init__(self):
        self.notes, self._tables, self._begun = [], {}, time.monotonic()

    @property
    def rows(self):
        return [row for rows in self._tables.values() for row in rows.values()]

    def add(self, title, subject, value, unit, goal="", peers=(OLD, PEER)):
        """One reading; those of further rounds come under the same title. Rows with the same peers are one table."""
        rows = self._tables.setdefault(peers, {})
        rows.setdefault(title, Row(title, unit, goal)).values.setdefault(subject.name, []).append(value)

    def note(self, text):
        self.notes.append(text)

    def say(self, text):
        print(f"bench: {time.monotonic() - self._begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    def table(self):
        return "\n\n".join([table(peers, rows.values()) for peers, rows in self._tables.items()] + self.notes)


def table(peers, rows):
    short = [name.removeprefix("Litestream ") for name in peers]
    bares = [name for name in BARE if any(name in row.values for row in rows)]
    head = ["measure", " / ".join(reversed(bares)) or NONE, *peers, OURS, "ours : none", *(f"ours : {name}" for name in short), "goal"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        bare = next((name for name in BARE if name in row.values), None)
        ours = row.median(OURS)
        cells = [cell(row, name) for name in (bare, *peers, OURS)]
        ratios = [ratio(ours, row.median(other) if other else None) for other in (bare, *peers)]
        lines.append([row.title, *cells, *ratios, row.goal])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(row, subject):
    found = row.values.get(subject)
    if not found:
        return "–"
    low, middle, high = (number(value) for value in (min(found), statistics.median(found), max(found)))
    spread = f" ({low}–{high})" if len(found) > 1 and low != high else ""
    return f"{middle}{spread} {row.unit}".rstrip()


def ratio(ours, other):
    if ours is None or not other:
        return "–"
    return f"**{number(ours / other)}**"


def number(value):
    """Three digits that count."""
    if isinstance(value, int) or value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"
