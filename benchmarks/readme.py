"""`python -m benchmarks.readme FILE`: the tables of a kept run, into README.md and the guide.

The README has the headlines, docs/benchmarks.md everything; each table stands between
`<!-- benchmarks -->` and `<!-- /benchmarks -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import HEAD, cells

_ROOT = Path(__file__).parent.parent
_HEADLINES = (
    "1-insert", "2-insert-50", "2-insert-1000", "3-insert-postgres", "4-postgres", "5-get",
    "6-sqlite", "6-postgres", "7-postgres", "7-sqlite-process", "8-sqlite-100", "8-postgres-100",
    "10-change",
)  # fmt: skip
_SHOWN = ("work", "against", "measured")
_RAW = (
    "In rows 3 and 4 the driver alone runs the library's own SQL, or stores its rows. Against less "
    "than the library does - libpndb's own table with three indexes, no history, one statement and "
    "a commit - it is:"
)
_MARKS = re.compile(r"(<!-- benchmarks -->\n).*?(\n<!-- /benchmarks -->)", re.DOTALL)


def headlines(run: Mapping[str, Any], source: str) -> str:
    """The short table, as Markdown; `source` is the file of the run, seen from the document."""
    del source
    by_key = {line["key"]: line for line in run["results"]}
    rows = ([by_key[key][name] for name in _SHOWN] for key in _HEADLINES if key in by_key)
    return f"{_table(_SHOWN, rows)}\n\n{_where(run)}."


def everything(run: Mapping[str, Any], source: str) -> str:
    """The whole run, likewise."""
    every = f"Every round is in [{Path(source).name}]({source})."
    told = [
        _table(HEAD, map(cells, run["results"])),
        f"{_where(run)}, row 6 on one of the cores. {every}",
    ]
    raw = [
        f"{line['work']} {line['notes']['raw']:.2f}x"
        for line in run["results"]
        if "raw" in line.get("notes", {})
    ]
    if raw:
        told.append(f"{_RAW} {'; '.join(raw)}.")
    return "\n\n".join(told)


DOCUMENTS: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "README.md": headlines,
    "docs/benchmarks.md": everything,
}


def rendered(document: str, file: Path) -> str:
    """The text of a document of the project with the tables of the run in `file`."""
    run = json.loads(file.read_text("utf-8"))
    depth = document.count("/")
    source = "../" * depth + file.resolve().relative_to(_ROOT.resolve()).as_posix()
    table = DOCUMENTS[document](run, source)
    text = (_ROOT / document).read_text("utf-8")
    return _MARKS.sub(lambda marks: f"{marks[1]}\n{table}\n{marks[2]}", text)


def _where(run: Mapping[str, Any]) -> str:
    facts = run["machine"]
    server = facts["postgresql"]
    engines = [f"SQLite {facts['sqlite']}"]
    if server:
        engines.insert(0, f"PostgreSQL {server['server_version'].split()[0]}")
    return (
        f"{run['date'][:10]}: {facts['cores']} cores for client and server together, "
        f"{', '.join(engines)}, Python {facts['python']}, "
        f"fdatasync {facts['fdatasync_ms']:.2f} ms, medians of {run['rounds']} rounds in turns"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def main() -> None:
    """Replace what stands between the marks."""
    file = Path(sys.argv[1])
    for document in DOCUMENTS:
        (_ROOT / document).write_text(rendered(document, file), "utf-8")


if __name__ == "__main__":
    main()
