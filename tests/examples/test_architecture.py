"""The picture of the house is of this house: what docs/architecture.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "pandora_db"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SQL = sorted((ROOT / "sql").rglob("*.sql"))
TREE = [path for room in (HOUSE, ROOT / "sql") for path in (room, *room.rglob("*"))]
OTHERS = {"psql", "py", "sql", "txt"}  # a program, and the ends of names
WITHOUT = {"__pycache__", "__init__.py"}


def test_every_file_and_folder_that_it_names_is_there() -> None:
    names = set(re.findall(r"[\w<>/]+\.(?:py|sql|txt)\b|[\w<>]+/(?:[\w<>]+/)*", TEXT))
    assert {"store/job_inserts.py", "crew.py", "drivers/<dialect>/", "schema.txt"} <= names
    missing = []
    for name in sorted(names):
        for dialect in ("sqlite", "postgres") if "<dialect>" in name else ("",):
            wanted = "/" + name.replace("<dialect>", dialect).strip("/")
            if not any(path.as_posix().endswith(wanted) for path in TREE):
                missing.append(wanted)
    assert missing == []


def test_every_room_is_in_it() -> None:
    rooms = [path for path in HOUSE.iterdir() if path.name not in WITHOUT]
    told = [path.name + ("/" if path.is_dir() else "") for path in rooms if path.name != "py.typed"]
    assert [name for name in told if f"`{name}`" not in TEXT and f" {name}" not in TEXT] == []


def test_every_name_that_it_quotes_is_written_somewhere() -> None:
    sources = [*HOUSE.rglob("*.py"), *SQL]
    words = set(re.findall(r"\w+", "\n".join(path.read_text("utf-8") for path in sources)))
    quoted = {word for name in re.findall(r"`(\w[\w.]+)`", TEXT) for word in name.split(".")}
    assert {"Session", "end_claim", "event_seq"} <= quoted
    assert sorted(quoted - words - OTHERS - {path.stem for path in TREE}) == []
