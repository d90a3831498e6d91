"""A database of its own for a benchmark, on the server that DATABASE_URL names; gone afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def scratch_database(name: str) -> Iterator[None]:
    """An empty, migrated database. The one DATABASE_URL names is not touched."""
    connection.settings_dict["TEST"]["NAME"] = f"largesse_bench_{name}_{os.getpid()}"
    configured = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(configured, verbosity=0)
