"""The check of a large draft: counted by a worker while its page waits, and what other tabs do meanwhile."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from distribution.models import Release
from groups.models import Contact, Group
from library.models import Bundle
from messaging import tasks
from tests.studio import test_compose
from tests.studio.conftest import clock, url
from tests.studio.test_compose import HTMX, filled

bundle, draft = test_compose.bundle, test_compose.draft


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.services.counting.AT_ONCE", 0)


def poll_of(page: str) -> str:
    """Where a page that is being counted asks how far it is."""
    return re.findall(r'hx-get="([^"]+)" hx-trigger="every 1s"', page)[0]


@pytest.mark.usefixtures("large")
def test_a_large_audience_is_counted_by_a_worker_while_one_writes(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    saved = studio.post(url("compose", draft.pk), filled(bundle, patrons), headers=HTMX).content.decode()
    assert "Counting who gets what" in saved
    assert "get it and a mail" not in saved
    poll = poll_of(saved)
    still = studio.get(poll, headers=HTMX).content.decode()
    # Only the progress: no button is taken from under a hand.
    assert poll_of(still) == poll
    assert '<div id="counting"' in still
    assert "outlook" not in still
    tasks.sweep()
    done = studio.get(poll, headers=HTMX)
    assert (done.headers["HX-Retarget"], done.headers["HX-Reswap"]) == ("#outlook", "outerHTML")
    page = done.content.decode()
    assert "1</a></span><span>get it and a mail" in page
    assert "Counted" in page
    assert "every 1s" not in page
    assert "hx-swap-oob" not in page
    assert "1</a></span><span>get it and a mail" in studio.get(url("compose", draft.pk)).content.decode()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("act", ["confirm_release", "publish_release", "delete_draft"])
def test_it_is_sent_or_deleted_while_it_is_counted_and_the_other_tab_hears_of_it(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact, act: str
) -> None:
    form = filled(bundle, patrons)
    poll = poll_of(studio.post(url("compose", draft.pk), form, headers=HTMX).content.decode())
    assert studio.post(url(act, draft.pk), form).status_code == 302
    assert studio.get(poll, headers=HTMX).headers["HX-Refresh"] == "true"


@pytest.mark.usefixtures("large")
def test_another_windows_question_is_not_taken_for_ones_own(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    day = timezone.now() + timedelta(days=20)
    later = filled(bundle, patrons, when="at", at=clock(day))
    poll = poll_of(studio.post(url("compose", draft.pk), later, headers=HTMX).content.decode())
    studio.get(url("compose", draft.pk))
    answer = studio.get(poll, headers=HTMX)
    assert answer.status_code == 286
    assert "checked in another window" in answer.content.decode()


def test_what_nobody_counts_leads_to_the_draft(studio: Client, draft: Release) -> None:
    assert studio.get(url("check", draft.pk)).headers["Location"] == url("compose", draft.pk)
    assert studio.get(url("check", draft.pk), headers=HTMX).headers["HX-Refresh"] == "true"


def test_who_is_signed_out_meanwhile_is_led_to_the_sign_in_page_as_a_whole(
    studio: Client, draft: Release
) -> None:
    studio.logout()
    answer = studio.get(url("check", draft.pk), headers=HTMX)
    assert (answer.headers["HX-Refresh"], answer.content) == ("true", b"")
    assert studio.get(url("compose", draft.pk)).status_code == 302
