"""The results as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import Result

HEAD = ("row", "work", "against", "floor", "reached", "goal", "measured", "verdict")


def cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of one line of the table, from its JSON form."""
    return (str(line["row"]), *(line[name] for name in HEAD[1:]))


def as_json(result: Result) -> dict[str, Any]:
    """A line of the table with everything that was measured."""
    target = result.target
    sign = "≤ " if target.at_most else ""
    return {
        "key": result.key,
        "row": target.row,
        "work": target.work,
        "against": target.against,
        "floor": sign + target.show(target.floor),
        "reached": target.reached,
        "goal": sign + target.show(target.goal),
        "measured": target.show(result.value),
        "verdict": result.verdict,
        "value": round(result.value, 4),
        "rounds": [[round(number, 3) for number in numbers] for numbers in result.rounds],
        **({"notes": result.notes} if result.notes else {}),
    }


def save(path: Path, facts: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the run to `path`."""
    document = {**facts, "results": lines}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, with rich where it is installed."""
    rows = [cells(line) for line in lines]
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
        for row in (HEAD, *rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
        return
    table = Table()
    for name in HEAD:
        table.add_column(name, no_wrap=name != "against", overflow="fold")
    colours = {"goal": "green", "floor": "yellow", "BELOW": "bold red"}
    for row in rows:
        table.add_row(*row, style=colours[row[-1]])
    Console(width=max(120, Console().width)).print(table)
