"""`python -m benchmarks.readme FILE`: the table of a kept run, into README.md.

It stands between `<!-- benchmarks -->` and `<!-- /benchmarks -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import HEAD, cells

_README = Path(__file__).parent.parent / "README.md"
_RAW = (
    "In rows 3 and 4 the driver alone runs the library's own SQL, or stores its rows. Against less "
    "than the library does - libpndb's own table with three indexes, no history, one statement and "
    "a commit - it is:"
)
_OPENING, _CLOSING = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def render(run: Mapping[str, Any], source: str) -> str:
    """The run as Markdown."""
    facts = run["machine"]
    server = facts["postgresql"]
    engines = [f"SQLite {facts['sqlite']}"]
    if server:
        engines.insert(0, f"PostgreSQL {server['server_version'].split()[0]}")
    sources = (
        f"{run['date'][:10]}: {facts['cores']} cores for client and server together, "
        f"{', '.join(engines)}, Python {facts['python']}, "
        f"fdatasync {facts['fdatasync_ms']:.2f} ms, medians of {run['rounds']} rounds in turns, "
        "row 6 on one of the cores. "
        f"Every round is in [{source}]({source})."
    )
    lines = run["results"]
    table = [HEAD, ["---"] * len(HEAD), *(cells(line) for line in lines)]
    raw = [
        f"{line['work']} {line['notes']['raw']:.2f}x"
        for line in lines
        if "raw" in line.get("notes", {})
    ]
    told = [*(f"| {' | '.join(row)} |" for row in table), "", sources]
    if raw:
        told += ["", f"{_RAW} {'; '.join(raw)}."]
    return "\n".join(told)


def main() -> None:
    """Replace what stands between the marks."""
    path = Path(sys.argv[1])
    source = path.resolve().relative_to(_README.parent.resolve()).as_posix()
    table = render(json.loads(path.read_text("utf-8")), source)
    readme = _README.read_text("utf-8")
    block = f"{_OPENING}\n\n{table}\n\n{_CLOSING}"
    if _CLOSING in readme:
        pattern = re.escape(_OPENING) + ".*?" + re.escape(_CLOSING)
        readme = re.sub(pattern, lambda _: block, readme, flags=re.DOTALL)
    else:
        readme = readme.replace(_OPENING, block)
    _README.write_text(readme, "utf-8")


if __name__ == "__main__":
    main()
