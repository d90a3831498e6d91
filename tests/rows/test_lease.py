from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import connection

from accounts.models import Letter
from rows.clock import db_now
from rows.lease import end_lease, keep_lease, take_lease


def letter(now: datetime) -> Letter:
    return Letter.objects.create(
        kind="x", address_key="a@b.example", dedupe_key="1", created_at=now, not_before=now
    )


@pytest.mark.django_db
def test_a_second_worker_does_not_get_a_lease_that_is_held(now: datetime) -> None:
    row = letter(now)
    late = Letter.objects.get(pk=row.pk)
    assert take_lease(row, seconds=60) == 1
    assert take_lease(late, seconds=60) is None
    assert take_lease(Letter.objects.get(pk=row.pk), seconds=60) is None


@pytest.mark.django_db
def test_a_lapsed_lease_is_taken_under_a_higher_epoch_and_the_late_hand_is_refused(now: datetime) -> None:
    first = letter(now)
    assert take_lease(first, seconds=-1) == 1
    second = Letter.objects.get(pk=first.pk)
    assert take_lease(second, seconds=60) == 2
    assert not keep_lease(first, seconds=60)
    end_lease(first)
    assert not Letter.objects.unleased(db_now()).exists(), "it ended the lease of its successor"
    assert keep_lease(second, seconds=60)


@pytest.mark.django_db
def test_an_ended_lease_is_free_at_once(now: datetime) -> None:
    row = letter(now)
    take_lease(row, seconds=60)
    end_lease(row)
    assert Letter.objects.unleased(db_now()).filter(pk=row.pk).exists()
    assert take_lease(row, seconds=60) == 2


@pytest.mark.django_db
def test_what_was_taken_and_let_go_since_it_was_looked_at_is_not_taken(now: datetime) -> None:
    row = letter(now)
    late = Letter.objects.get(pk=row.pk)
    take_lease(row, seconds=60)
    end_lease(row)
    assert take_lease(late, seconds=60) is None
    assert Letter.objects.unleased(db_now()).filter(pk=row.pk).exists()


@pytest.mark.django_db
def test_the_databases_clock_is_aware_and_near(now: datetime) -> None:
    assert abs(db_now() - datetime.now(tz=now.tzinfo)) < timedelta(minutes=1)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_eight_workers_at_once_one_gets_the_lease(now: datetime) -> None:
    row = letter(now)

    def take(_: int) -> int | None:
        try:
            return take_lease(Letter.objects.get(pk=row.pk), seconds=60)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        epochs = [epoch for epoch in pool.map(take, range(8)) if epoch]
    assert epochs == [1]
