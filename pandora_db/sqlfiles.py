"""The `.sql` files as `Query` objects; the only SQL beside them is BEGIN, SET, PRAGMA and the like.

A file of `sql/<dialect>/` is a row of blocks, each opened by a header comment:

    -- name: get_job :maybe          a query and how many rows it answers with
    -- fragment: job_columns         text that queries of the dialect name as {job_columns}

Inside a block `:name` is a parameter, `{schema}` the schema of our tables, and a line that ends in
`-- when: flag` stands only in the variants that ask for the flag. `;` separates the statements
of one block; they run in order, and the last one that answers gives the result.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

Dialect = Literal["sqlite", "postgres"]
Shape = Literal["one", "maybe", "many", "none", "batch", "script"]

_HEADER = re.compile(r"^-- (name|fragment): *(\w+)(?: :(\w+))?\s*$")
_WHEN = re.compile(r"--\s*when:\s*(\w+)\s*$")
_SPLICE = re.compile(r"\{(\w+)\}")
# Whatever may hold a colon or semicolon that is not ours, then a cast, then a parameter.
_TOKEN = re.compile(
    r"""(?P<skip> '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/
              | (?P<tag>\$\w*\$).*?(?P=tag) | :: )
      | :(?P<parameter>[A-Za-z_]\w*)
      | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
_MAKES_EVENTS = re.compile(r"INSERT INTO \S+\.job_events|DELETE FROM \S+\.jobs\b")
_ARRIVALS = ("into", "ready", "stage")


def sql_root() -> Path:
    """The folder that holds `sqlite/` and `postgres/`: shipped, or beside us in a checkout."""
    shipped = Path(__file__).parent / "sql"
    return shipped if shipped.is_dir() else Path(__file__).parent.parent / "sql"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with the driver's own placeholders, and what to bind to them."""

    text: str
    parameters: tuple[str, ...]
    bind: Callable[[Mapping[str, Any]], tuple[Any, ...]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Query:
    """A named query in one variant: `name` is the store method that runs it, or what it is for."""

    name: str
    shape: Shape
    source: str
    statements: tuple[Statement, ...]
    flags: frozenset[str]

    @cached_property
    def makes_events(self) -> bool:
        """Whether it changes what others may watch; progress and checkpoints are no news."""
        return any(_MAKES_EVENTS.search(one.text) for one in self.statements)

    @cached_property
    def _arrival(self) -> str | None:
        """The parameter that is the stage where its jobs come to, if there is one."""
        return next((one for one in _ARRIVALS if one in self.parameters), None)

    def arrivals(self, calls: Iterable[Mapping[str, Any]]) -> set[int] | None:
        """The stages where the jobs of these calls come to; None when the calls do not say."""
        arrival = self._arrival
        return None if arrival is None else {args[arrival] for args in calls}

    @property
    def text(self) -> str:
        """The text of a query of one statement."""
        (statement,) = self.statements
        return statement.text

    @property
    def parameters(self) -> frozenset[str]:
        """The names that a caller has to give."""
        return frozenset(name for one in self.statements for name in one.parameters)


class Catalogue:
    """All queries of one dialect, checked at load and spliced once per variant."""

    def __init__(self, dialect: Dialect, schema: str) -> None:
        self.dialect: Dialect = dialect
        self.schema = schema
        self._blocks, fragments = _load(sql_root() / dialect)
        self._splices = {**fragments, "schema": schema}
        self._variants: dict[tuple[str, frozenset[str]], Query] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def flags(self, name: str) -> frozenset[str]:
        """The `when:` flags that the query knows."""
        lines = _splice(self._blocks[name].body, self._splices).splitlines()
        return frozenset(found[1] for line in lines if (found := _WHEN.search(line)))

    def get(self, name: str, when: frozenset[str] = frozenset()) -> Query:
        """The query with the optional lines of `when`; KeyError names what is unknown."""
        try:
            return self._variants[name, when]
        except KeyError:
            pass
        block = self._blocks[name]
        if unknown := when - self.flags(name):
            raise KeyError(f"{block.source}: {name} has no line for {', '.join(sorted(unknown))}")
        body = _choose(_splice(block.body, self._splices), when)
        query = Query(name, block.shape, block.source, tuple(self._split(body, block.shape)), when)
        return self._variants.setdefault((name, when), query)

    def _split(self, body: str, shape: Shape) -> Iterator[Statement]:
        mark = "$" if self.dialect == "postgres" else "?"
        # A script may define a trigger, which has semicolons of its own.
        whole = shape == "script" and self.dialect == "sqlite"
        for piece in _complete(body) if whole else _pieces(body):
            names: list[str] = []
            numbered = _TOKEN.sub(partial(_number, names=names, mark=mark), piece).strip()
            if _TOKEN.sub(_blank, numbered).strip():
                yield Statement(numbered, tuple(names), binder(names))

    def split_script(self, script: str) -> Iterator[str]:
        """The statements of a migration, with the body of a trigger in one piece."""
        text = _splice(script, self._splices)
        if self.dialect == "postgres":
            pieces: Iterable[str] = _pieces(text)
        else:
            pieces = _complete(text)
        for piece in pieces:
            if _TOKEN.sub(_blank, piece).strip():
                yield piece.strip()


@dataclass(frozen=True, slots=True)
class _Block:
    shape: Shape
    source: str
    body: str


@cache
def _load(folder: Path) -> tuple[dict[str, _Block], dict[str, str]]:
    blocks: dict[str, _Block] = {}
    fragments: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        for number, kind, name, shape, body in _cut(path.read_text("utf-8").splitlines()):
            source = f"{folder.name}/{path.name}:{number}"
            if name in blocks or name in fragments:
                raise ValueError(f"{source}: {name} is defined twice")
            if kind == "fragment":
                fragments[name] = body.strip()
            elif shape in get_args(Shape):
                blocks[name] = _Block(shape, source, body)
            else:
                raise ValueError(f"{source}: {name} needs a shape, one of {get_args(Shape)}")
    return blocks, fragments


def _cut(lines: Iterable[str]) -> Iterator[tuple[int, str, str, Any, str]]:
    opened: tuple[int, str, str, str | None] | None = None
    body: list[str] = []
    for number, line in enumerate(lines, 1):
        if header := _HEADER.match(line):
            if opened:
                yield *opened, "\n".join(body)
            opened, body = (number, header[1], header[2], header[3]), []
        elif opened and not line.startswith("--"):  # remarks are for the reader of the file
            body.append(line)
    if opened:
        yield *opened, "\n".join(body)


def _choose(body: str, when: frozenset[str]) -> str:
    kept: list[str] = []
    for line in body.splitlines():
        found = _WHEN.search(line)
        if found is None:
            kept.append(line)
        elif found[1] in when:
            kept.append(line[: found.start()].rstrip())
    return "\n".join(kept)


def _splice(text: str, splices: Mapping[str, str]) -> str:
    for _ in range(3):  # a fragment may name another one
        text = _SPLICE.sub(lambda found: splices.get(found[1], found[0]), text)
    return text


def _pieces(text: str) -> Iterator[str]:
    start = 0
    for found in _TOKEN.finditer(text):
        if found["end"]:
            yield text[start : found.start()]
            start = found.end()
    yield text[start:]


def _complete(text: str) -> Iterator[str]:
    """SQLite's own judgement of where a statement ends: a trigger holds semicolons."""
    buffer = ""
    for line in text.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            yield buffer.strip().removesuffix(";")
            buffer = ""
    yield buffer


def _number(found: re.Match[str], names: list[str], mark: str) -> str:
    name = found["parameter"]
    if name is None:
        return found[0]
    if name not in names:
        names.append(name)
    return f"{mark}{names.index(name) + 1}"


def _blank(found: re.Match[str]) -> str:
    return "" if found[0].startswith(("--", "/*")) else found[0]


def binder(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What picks the values of these names, in order."""
    if not names:
        return _nothing
    if len(names) > 1:
        return itemgetter(*names)
    (name,) = names
    return lambda values: (values[name],)


def _nothing(values: Mapping[str, Any]) -> tuple[Any, ...]:
    del values
    return ()
