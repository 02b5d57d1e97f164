"""`Registry`: the classes whose jobs can be made, kept and run by name."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from pandora_db.codecs.checks import check_bool, check_int, check_text
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.job import Job
from pandora_db.models.job_type import JobType
from pandora_db.models.limits import MAX_KEY, MAX_VERSION
from pandora_db.runtime.definition import JobDefinition, output_of, transient_without_default
from pandora_db.runtime.signatures import check_async

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow

log = logging.getLogger("pandora_db")

J = TypeVar("J", bound=BaseModel)

GROUP = "pandora_db.jobs"
"""The group of entry points in which installed packages name modules that register jobs."""


class Registry:
    """Job classes by name. `REGISTRY` is the one that `job` registers in; make others at will."""

    def __init__(self) -> None:
        self._definitions: dict[str, JobDefinition] = {}

    def job(
        self,
        *,
        name: str,
        resumable: bool = True,
        description: str | None = None,
        version: int = 1,
    ) -> Callable[[type[J]], type[J]]:
        """Make a pydantic model with `async def run(self, ctx)` a job.

        Its fields are the parameters and, as `run` changes them, the state that a checkpoint
        keeps. Private attributes and fields with `exclude=True` are transient: they are left out of
        it, and made anew by their defaults. What `run` is annotated to return is checked.

        Args:
            name: what it is stored and dispatched by.
            resumable: False for work that must not be begun again once it was cut off.
            description: for people.
            version: of the shape of its fields. A class method `upgrade(fields, version)` may turn
                what an older version has stored into the present shape.

        Raises:
            InvalidInput: the name is taken, the class has another one, it has no such `run`, that
                names an output of which pydantic knows nothing, or a transient field has no
                default.
        """
        check_text(name, "name", MAX_KEY, least=1)
        check_bool(resumable, "resumable")
        if description is not None:
            check_text(description, "description", 10_000)
        check_int(version, "version", 1, MAX_VERSION)

        def register(kind: type[J]) -> type[J]:
            self._add(_define(kind, name, description, version, resumable=resumable))
            return kind

        return register

    def job_names(self) -> list[str]:
        """Every name, in order."""
        return sorted(self._definitions)

    def has_job(self, name: str) -> bool:
        """Whether a job of that name is registered."""
        return name in self._definitions

    def find(self, row: JobRow | None) -> JobDefinition | None:
        """What is known of a stored job; None for one of another pipeline or an unknown name."""
        if row is None or row.name is None or row.job_type != JobType.TASK:
            return None
        return self._definitions.get(row.name)

    def get(self, name: object) -> JobDefinition:
        """What is known of the jobs of a name.

        Raises:
            InvalidInput: there are none; names that are close are named.
        """
        found = self._definitions.get(name) if isinstance(name, str) else None
        if found is None:
            names = self.job_names()
            close = difflib.get_close_matches(str(name), names, 3)
            known = f"did you mean {', '.join(close)}?" if close else f"known are {names}"
            raise InvalidInput(f"no job is called {name!r}; {known}", field="name")
        return found

    def definition_of(self, job: BaseModel) -> JobDefinition:
        """What is known of this job.

        Raises:
            InvalidInput: its class is not registered here.
        """
        given: object = job
        if isinstance(given, type):
            raise InvalidInput(f"expected a job, not its class: {given.__name__}(…)", field="job")
        if isinstance(given, Job):
            refuse("job", given, "one of a registered class; insert_job() takes a Job")
        if not isinstance(given, BaseModel):  # pyright: ignore[reportUnnecessaryIsInstance]
            expected = "a job, an object of a registered class; dispatch_by_name() takes a name"
            refuse("job", given, f"{expected} and a dict of its fields")
        for definition in self._definitions.values():
            if definition.kind is type(job):
                return definition
        raise InvalidInput(
            f"{type(job).__name__} is not registered here; decorate it with "
            "@job(name=…), or give JobManager the registry where it is",
            field="job",
        )

    def create_job(self, name: str, params: object) -> BaseModel:
        """A job made of JSON text, or of a dict of its fields.

        Raises:
            InvalidInput: the name is unknown, or the parameters do not fit; `.field` names which.
        """
        return self.get(name).create(params)

    def serialize_job(self, job: BaseModel) -> bytes:
        """A job as MessagePack; `deserialize_job` reads it."""
        return self.definition_of(job).pack(job)

    def deserialize_job(self, name: str, blob: bytes) -> BaseModel:
        """The job that `serialize_job` made bytes of.

        Raises:
            InvalidInput: the name is unknown.
            Serialization: the bytes are no such job, or of a newer version.
        """
        return self.get(name).unpack(blob)

    def get_job_schema(self, name: str) -> dict[str, Any] | None:
        """The JSON Schema of its parameters; None for an unknown name."""
        return self._definitions[name].schema if name in self._definitions else None

    def load_entry_points(self) -> list[str]:
        """Import what installed packages name in the group `pandora_db.jobs`; those names.

        Each is a module that registers jobs as it is imported, or a function that is called with
        this registry. One that fails is logged, and keeps no other from being loaded.
        """
        loaded: list[str] = []
        for point in sorted(metadata.entry_points(group=GROUP), key=lambda one: one.name):
            try:
                found: object = point.load()
                if inspect.isfunction(found):
                    found(self)
            except Exception:
                log.exception("the jobs of entry point %s cannot be loaded", point.name)
            else:
                loaded.append(point.name)
        return loaded

    def _add(self, definition: JobDefinition) -> None:
        other = self._definitions.get(definition.name)
        if other is not None:
            raise InvalidInput(
                f"a job called {definition.name!r} is registered already: "
                f"{other.kind.__module__}.{other.kind.__qualname__}",
                field="name",
            )
        kind = definition.kind
        for known in self._definitions.values():
            if known.kind is kind:  # a job tells its name by its class
                raise InvalidInput(
                    f"{kind.__name__} is registered already, as {known.name!r}; "
                    f"expected a subclass of it for {definition.name!r}",
                    field="job",
                )
        self._definitions[definition.name] = definition


def _define(
    kind: type[Any], name: str, description: str | None, version: int, *, resumable: bool
) -> JobDefinition:
    if not (inspect.isclass(kind) and issubclass(kind, BaseModel)):
        refuse("job", kind, "a pydantic model")
    run: Any = getattr(kind, "run", None)
    form = "async def run(self, ctx)"
    if run is None:
        raise InvalidInput(f"{kind.__name__} has no run; expected `{form}`", field="run")
    check_async(run, f"{kind.__name__}.run", form, arguments=2, field="run")
    if lost := transient_without_default(kind):
        raise InvalidInput(
            f"{kind.__name__}.{lost[0]} is left out of the state and has no default; "
            "expected one, as it is made anew when the job goes on",
            field=lost[0],
        )
    return JobDefinition(name, kind, resumable, description, version, output_of(kind))


REGISTRY = Registry()
"""The default registry."""

job = REGISTRY.job
"""Registers in the default registry."""
