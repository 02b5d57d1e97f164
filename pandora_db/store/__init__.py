"""What can be done with jobs, whatever the session is: the whole database or one transaction."""

from pandora_db.store.jobs import Store

__all__ = ["Store"]
