"""What runs inside the thread: whole operations on a plain `sqlite3.Connection`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any

from pandora_db.drivers.sqlite.crowd import (
    Call,
    NotAlike,
    answers,
    by_ids,
    change,
    is_change,
    is_crowd,
    make_crowds,
    runs,
    wanted_ids,
    write_crowd,
)
from pandora_db.drivers.sqlite.gate import Gate
from pandora_db.drivers.sqlite.hop import Begun
from pandora_db.drivers.sqlite.many_rows import write_rows
from pandora_db.drivers.sqlite.rivals import Rivals
from pandora_db.drivers.sqlite.rows import converted_of, is_read_later, meant
from pandora_db.sqlfiles import Catalogue, Query

Result = list[Any] | Exception
# sqlite3 raises the last three for a value that it cannot bind.
REFUSED = (sqlite3.Error, ValueError, TypeError, OverflowError)
# What one call of a crowd may have caused; 0 is a value that cannot be bound.
_A_CALLS_FAULT = {
    0,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
}


class Worker:
    """Runs queries on one connection, in its thread only."""

    __slots__ = ("_queries", "_ready", "rivals")

    def __init__(self, queries: Catalogue) -> None:
        self._queries = queries
        self._ready = False  # for crowds
        self.rivals: Rivals | None = None

    def run(
        self, cursor: sqlite3.Cursor, query: Query, args: Mapping[str, Any], *, late: bool = False
    ) -> list[Any]:
        """The statements of one query in order; the rows of the last one that answers.

        With `late`, what `is_read_later` is left to `answer_of`. `:answered` in a statement is the
        JSON list of the first column of the rows so far.
        """
        rows: list[Any] = []
        for statement in query.statements:
            if "answered" in statement.parameters:
                args = {**args, "answered": json.dumps([row[0] for row in rows])}
            cursor.execute(statement.text, statement.bind(args))
            if cursor.description is not None:
                converted = converted_of(statement.text, cursor.description)
                if converted is None or (late and is_read_later(query)):
                    rows = cursor.fetchall()
                else:  # one by one: what SQLite answers is not held beside what it means
                    rows = meant(cursor, converted)
        return rows

    def read_all(
        self, connection: sqlite3.Connection, calls: Sequence[Call], begun: Begun, _: Gate | None
    ) -> list[Result]:
        """Independent reads in one hop."""
        begun()
        with closing(plain_cursor(connection)) as cursor:
            found = self._find_crowd(cursor, calls)
            results: list[Result] = []
            for query, args in calls:
                if found is not None and query.name == "get_job":
                    results.append(found.get(args["job_id"], []))
                    continue
                try:
                    results.append(self.run(cursor, query, args))
                except REFUSED as error:
                    results.append(error)
            return results

    def _find_crowd(
        self, cursor: sqlite3.Cursor, calls: Sequence[Call]
    ) -> dict[int, list[Any]] | None:
        ids = wanted_ids(calls)
        if not ids:
            return None
        try:
            rows = self.run(cursor, *by_ids(self._queries, ids))
        except REFUSED:  # each call meets it by itself
            return None
        return {row[0]: [row] for row in rows}

    def write_all(
        self,
        connection: sqlite3.Connection,
        calls: Sequence[Call],
        begun: Begun = lambda: None,
        gate: Gate | None = None,
    ) -> list[Result]:
        """Independent writes in one transaction; a failing COMMIT fails them all.

        Unless each must be run by itself, who joined meanwhile is done before the COMMIT too.

        One caller's bad row must not fail the others, so after an error all is rolled back and
        done again with a savepoint around each. Savepoints from the start would cost the rule.
        Where one takes the transaction along, each call gets one of its own.
        """
        # A cursor that an error keeps alive would keep the file open beyond close().
        with closing(plain_cursor(connection)) as cursor:
            if not self._ready and (len(calls) > 1 or gate is not None):
                make_crowds(cursor, self._queries)  # in no transaction: it may be rolled back
                self._ready = True
            together = True
            try:
                if (done := self._change_all(connection, cursor, calls, begun)) is not None:
                    return done
            except NotAlike:
                together = False  # it would meet the same again
            cursor.execute("BEGIN IMMEDIATE")
            if gate is not None:
                gate.open()
            begun()
            try:
                if self.rivals is not None:
                    self.rivals.look(connection)
                results = self._run_all(connection, cursor, calls) if together else None
                if results is not None and gate is not None and (late := gate.close()):
                    calls = [*calls, *late]
                    others = self._try_together(connection, cursor, late)
                    results = None if others is None else results + others
                if results is None:  # each by itself, which tells whose it was
                    return self._commit_each(connection, cursor, calls)
                cursor.execute("COMMIT")
            except BaseException:
                _rollback(connection)
                raise
            return results

    def _change_all(
        self,
        connection: sqlite3.Connection,
        cursor: sqlite3.Cursor,
        calls: Sequence[Call],
        begun: Begun,
    ) -> list[Result] | None:
        """All calls by one statement, which is a transaction of its own; None where none does.

        Raises `NotAlike` when it was refused for one of them.
        """
        query = calls[0][0]
        if not is_change(query, len(calls)) or any(other is not query for other, _ in calls):
            return None
        alike = [args for _, args in calls]
        if self.rivals is not None:
            self.rivals.look(connection)
        text, values = change(self._queries, query, alike)
        begun()
        try:
            cursor.execute(text, values)
        except REFUSED as error:
            if _code(error) not in _A_CALLS_FAULT:
                raise
            raise NotAlike from error
        return [*answers(query, alike)]

    def _run_all(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, calls: Sequence[Call]
    ) -> list[Result] | None:
        """All calls in the open transaction; None when one of them made it begin anew."""
        if len(calls) == 1:
            return [self.run(cursor, *calls[0], late=True)]
        return self._try_together(connection, cursor, calls)

    def _try_together(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, calls: Sequence[Call]
    ) -> list[Result] | None:
        """The same, where an error may be that of a single call."""
        try:
            return self._run_together(cursor, calls)
        except (*REFUSED, NotAlike) as error:
            _rollback(connection)
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise
            cursor.execute("BEGIN IMMEDIATE")
            return None

    def _run_together(self, cursor: sqlite3.Cursor, calls: Sequence[Call]) -> list[Result]:
        results: list[Result] = []
        for query, alike in runs(calls):
            if is_crowd(query, len(alike)):
                results += write_crowd(cursor, self._queries, query, alike)
            else:
                results += [self.run(cursor, query, args, late=True) for args in alike]
        return results

    def _commit_each(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, calls: Sequence[Call]
    ) -> list[Result]:
        """Commit all calls in the open transaction, or, where one takes it along, each alone."""
        results: list[Result]
        try:
            results = [self.run_alone(connection, *call, late=True) for call in calls]
        except REFUSED as error:  # by RAISE(ROLLBACK) in a trigger of another program
            if connection.in_transaction or _code(error) not in _A_CALLS_FAULT:
                raise
        else:
            cursor.execute("COMMIT")
            return results
        results = []
        for query, args in calls:
            results.append(self._commit_alone(connection, query, args))
            failed = results[-1]
            if isinstance(failed, Exception) and _code(failed) not in _A_CALLS_FAULT:
                results += [failed] * (len(calls) - len(results))  # each would wait for it
                break
        return results

    def _commit_alone(
        self, connection: sqlite3.Connection, query: Query, args: Mapping[str, Any]
    ) -> Result:
        with closing(plain_cursor(connection)) as cursor:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                rows = self.run(cursor, query, args, late=True)
                cursor.execute("COMMIT")
            except REFUSED as error:
                _rollback(connection)
                return error
            return rows

    def run_alone(
        self,
        connection: sqlite3.Connection,
        query: Query,
        args: Mapping[str, Any],
        *,
        late: bool = False,
    ) -> Result:
        """One operation inside an open transaction: all of it or nothing."""
        with closing(plain_cursor(connection)) as cursor:
            cursor.execute("SAVEPOINT operation")
            try:
                rows = self.run(cursor, query, args, late=late)
            except REFUSED as error:
                if not connection.in_transaction:
                    raise  # the error took the whole transaction along
                cursor.execute("ROLLBACK TO operation")
                cursor.execute("RELEASE operation")
                return error
            cursor.execute("RELEASE operation")
            return rows

    def run_many(
        self,
        connection: sqlite3.Connection,
        query: Query,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
    ) -> int:
        """A `:batch` of one statement for many rows; returns how many were changed."""
        (statement,) = query.statements
        in_order = itemgetter(*(columns.index(name) for name in statement.parameters))
        with closing(plain_cursor(connection)) as cursor:
            return write_rows(cursor, statement.text, map(in_order, rows))


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def plain(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lists as the JSON text that json_each() takes."""
    for value in args.values():
        if isinstance(value, list):
            return {k: json.dumps(v) if isinstance(v, list) else v for k, v in args.items()}
    return args


def plain_cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """A cursor that answers with tuples, whatever row factory the connection's owner has set."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        plain_cursor(connection).execute("ROLLBACK")
