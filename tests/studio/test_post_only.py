"""An address that does something is opened by a reload or after a sign-in: it leads back and does nothing."""

import pytest
from django.test import Client
from pytest_django.asserts import assertRedirects

from distribution.models import Release
from groups.models import Creator
from tests import factories
from tests.studio.conftest import url


@pytest.mark.parametrize(
    ("name", "back"),
    [("confirm_release", "compose"), ("publish_release", "compose"), ("send_test", "compose")],
)
def test_opening_what_only_a_press_does_leads_to_the_draft(
    studio: Client, creator: Creator, name: str, back: str
) -> None:
    release = factories.ReleaseFactory.create(creator=creator)
    assertRedirects(studio.get(url(name, release.pk)), url(back, release.pk))
    assert Release.objects.get().state == Release.State.DRAFT


def test_opening_the_way_to_a_new_draft_makes_none(studio: Client) -> None:
    assertRedirects(studio.get(url("start_release")), url("releases"))
    assert not Release.objects.exists()
