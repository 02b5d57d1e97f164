"""The handler of all registered jobs: finds the class, goes on from the state, reads the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pandora_db.errors import Serialization
from pandora_db.runtime.attempt_log import log_raised
from pandora_db.runtime.outcomes import Fail, Outcome

if TYPE_CHECKING:
    from pandora_db.runtime.context import JobContext
    from pandora_db.runtime.registry import Registry


class JobHandler:
    """Runs jobs of a registry; what cannot be read fails the attempt with the reason."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, ctx: JobContext) -> Outcome:
        """Run one."""
        definition = self._registry.get(ctx.job.name)
        ctx.use_registry(self._registry)
        if ctx.job.params is None:
            raise Serialization(f"job {ctx.job_id} has no parameters: it was not dispatched")
        state = await ctx.load_checkpoint(version=definition.version, upgrade=definition.upgrade)
        job: Any
        job = definition.unpack(ctx.job.params) if state is None else definition.restore(state)
        ctx.use_state(lambda: definition.state(job))
        returned: object = await job.run(ctx)
        outcome = definition.read_output(returned)
        if isinstance(outcome, Fail) and outcome is not returned:
            log_raised(ctx.claim, outcome, None)  # `run` did not say so itself
        return outcome
