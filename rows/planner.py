"""Plans that hang on no guess: where a database has no statistics yet, it walks whole tables for a handful of keys."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

_WALKS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")


@contextmanager
def by_keys() -> Iterator[None]:
    """Inside, PostgreSQL finds rows by their keys, one by one. For few keys, however many rows there are.

    Without statistics it takes each key for a two-hundredth of its table, so a thousand of them for all of it. A
    transaction of its own, or part of the one around it. Other databases are left alone.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic():
        if not _walks():
            # Inside another one.
            yield
            return
        _walk("off")
        yield
        # A transaction that fails forgets it by itself.
        _walk("on")


def _walks() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_seqscan') = 'on'")
        return bool(cursor.fetchone()[0])


def _walk(may: str) -> None:
    settings = ", ".join(f"set_config('{name}', '{may}', true)" for name in _WALKS)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {settings}")
