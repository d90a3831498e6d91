"""Waking a worker: nothing depends on it, and nothing breaks when nobody listens."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.models import User
from config.celery import app
from distribution import services, tasks
from distribution.models import Grant, Release
from groups.models import Contact, Group
from groups.services import add_contact, start_membership
from rows.lease import take_lease

pytestmark = pytest.mark.django_db


@pytest.fixture
def at_home() -> Iterator[None]:
    """Tasks run where they are called."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def test_the_sweep_gives_what_is_due_and_welcomes_late_joiners(
    at_home: None, release: Release, patrons: Group, hobbyist: Group, owner: User, ana: Contact
) -> None:
    past = timezone.now() - timedelta(minutes=1)
    services.choose_audience(release, [patrons], "late_joiners")
    services.confirm_release(release, publish_at=past, by=owner, now=past)
    tasks.sweep()
    release.refresh_from_db()
    assert (release.state, release.granted) == ("published", 1)
    start_membership(hobbyist, add_contact(patrons.creator, "late@example.org", "", now=past), now=past)
    tasks.sweep()
    assert Grant.objects.count() == 2


def test_the_sweep_leaves_alone_what_a_worker_holds_and_what_is_not_due(
    at_home: None, release: Release, owner: User, ana: Contact
) -> None:
    now = timezone.now()
    services.confirm_release(release, publish_at=now + timedelta(hours=1), by=owner, now=now)
    tasks.sweep()
    Release.objects.update(publish_at=now)
    take_lease(Release.objects.get(), seconds=60)
    tasks.sweep()
    assert not Grant.objects.exists()


def test_a_broker_that_is_away_is_not_the_persons_problem(
    monkeypatch: pytest.MonkeyPatch, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.give_release, "apply_async", away)
    tasks.wake_release(release.pk)
    assert "no broker to ring" in caplog.text
