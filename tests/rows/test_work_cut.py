"""A database that ends the connection in the middle of work, really."""

from collections.abc import Callable

import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction

from distribution.models import Release
from rows.work import Sweep
from tests.factories import ReleaseFactory


def _cut_off() -> None:
    """As when PostgreSQL ends every connection: somebody else's statement, not one of ours."""
    with connection.cursor() as mine:
        mine.execute("SELECT pg_backend_pid()")
        [pid] = mine.fetchone()
    other = connections["default"].copy("other")
    try:
        with other.cursor() as theirs:
            theirs.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    finally:
        other.close()


def _inside_a_page(pk: int) -> None:
    with transaction.atomic():
        Release.objects.filter(pk=pk).update(cursor=1)
        _cut_off()
        Release.objects.filter(pk=pk).update(cursor=2)


def _at_the_commit(pk: int) -> None:
    with transaction.atomic():
        Release.objects.filter(pk=pk).update(cursor=1)
        _cut_off()


def _between_pages(pk: int) -> None:
    _cut_off()
    Release.objects.filter(pk=pk).update(cursor=2)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("work", [_inside_a_page, _at_the_commit, _between_pages])
def test_a_connection_that_was_ended_is_nothing_that_a_row_did(work: Callable[[int], None]) -> None:
    release = ReleaseFactory.create()
    told: list[Release] = []
    sweep = Sweep(due=lambda now: Release.objects.all(), work=work, tell=told.append)
    with pytest.raises((OperationalError, InterfaceError)):
        sweep.run()
    connection.close()
    release.refresh_from_db()
    assert (release.attempts, release.not_before) == (0, None)
