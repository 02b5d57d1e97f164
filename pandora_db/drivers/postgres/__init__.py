"""PostgreSQL over asyncpg: a pool without a reset query, and statements that carry many calls."""

from pandora_db.drivers.postgres.driver import PostgresDriver

__all__ = ["PostgresDriver"]
