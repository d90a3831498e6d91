"""Everyone entitled has one grant, once, whatever happens on the way."""

from datetime import datetime, timedelta

import pytest

from accounts.models import User
from distribution import services
from distribution.models import Grant, Release
from groups.models import Contact, Group
from library.models import Holding
from tests import factories


def confirmed(release: Release, by: User, now: datetime) -> Release:
    services.confirm_release(release, publish_at=now, by=by, now=now)
    return release


@pytest.fixture
def release(patrons: Group, owner: User) -> Release:
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    return factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])


def test_a_known_account_holds_it_at_once(release: Release, contact: Contact, owner: User, now: datetime) -> None:
    confirmed(release, owner, now)
    assert services.fan_out_grants(release.pk, now=now)
    release.refresh_from_db()
    assert release.state == Release.State.PUBLISHED
    assert (release.granted, release.held) == (1, 1)
    grant = Grant.objects.get()
    assert grant.contact == contact
    assert grant.redeemed_at is None
    assert Holding.objects.get().entry.user == contact.account
