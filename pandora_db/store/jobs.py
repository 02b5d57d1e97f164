"""The store: what a handle, a transaction and a bound connection all offer."""

from __future__ import annotations

from pandora_db.store.checkpoints import Checkpoints
from pandora_db.store.children import Children
from pandora_db.store.claims import Claims
from pandora_db.store.events import Events
from pandora_db.store.job_queries import JobQueries
from pandora_db.store.job_updates import JobUpdates
from pandora_db.store.logs import Logs
from pandora_db.store.recovery import Recovery


class Store(Children, Claims, Checkpoints, JobUpdates, JobQueries, Recovery, Events, Logs):
    """The permanent job log on one session.

    Every call checks its arguments before any SQL, and returns after its commit; inside a
    transaction that commit is the transaction's. Every call that moves a job takes an
    `operation_id`, by which a call whose answer was lost is repeated without being done twice.
    """
