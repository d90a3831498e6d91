"""Whoever fills a table tells the database to look at it anew; small changes tell nothing."""

from collections.abc import Iterator
from datetime import datetime
from uuid import uuid4

import pytest
from django.db import connection

from accounts.models import User
from distribution.models import Grant
from distribution.services import fan_out_grants
from groups.models import Contact, Group, ImportRow
from messaging.models import Delivery
from messaging.services import begin_sending, confirm_message, plan_deliveries, start_message
from rows import statistics
from tests import factories, samples
from tests.groups.flow import applied, checked

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The tables that the database was told to look at."""
    seen: list[str] = []

    def note(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("ANALYZE "):
            seen.append(sql.removeprefix("ANALYZE ").strip('"'))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


def test_few_rows_tell_nothing(asked: list[str]) -> None:
    statistics.renew_statistics(Grant, rows=statistics.MANY - 1)
    assert asked == []
    statistics.renew_statistics(Grant, Delivery, rows=statistics.MANY)
    assert asked == ["distribution_grant", "messaging_delivery"]


def test_an_import_and_a_release_tell_of_the_tables_they_filled(
    patrons: Group,
    hobbyist: Group,
    owner: User,
    now: datetime,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "MANY", 1)
    people = [samples.patron(number, tier="Hobbyist") for number in range(3)]
    run = checked(patrons, samples.patreon_export(people, samples.OCTOBER), by=owner, now=now)
    assert asked == [ImportRow._meta.db_table]
    applied(run, by=owner, now=now)
    assert Contact._meta.db_table in asked
    asked.clear()
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
    message = start_message(release)
    message.subject, message.body = "Here it is", "Hello."
    message.save()
    confirm_message(message, request_id=uuid4(), due_at=now, by=owner, now=now)
    assert fan_out_grants(release.pk, now=now)
    assert asked == ["distribution_grant", "library_libraryentry", "library_holding"]
    assert plan_deliveries(message.pk, now=now)
    assert asked[-1] == Delivery._meta.db_table
    assert begin_sending(message.pk, now=now)
