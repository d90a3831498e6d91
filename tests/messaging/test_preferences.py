import re
from collections.abc import Callable
from datetime import datetime

import pytest
from django.core import mail
from django.core.signing import Signer
from django.test import Client
from django.urls import reverse

from groups.models import Contact
from library.models import Holding
from messaging import services
from messaging.models import Delivery, Message, Preference
from messaging.tokens import ForgedToken, preferences_token, read_preferences_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def outside() -> Client:
    """A mail program: no cookies, no session, and it checks CSRF as a browser would meet it."""
    return Client(enforce_csrf_checks=True)


def link(contact: Contact, page: str = "unsubscribe") -> str:
    return reverse(f"messaging:{page}", args=[preferences_token(contact.pk)])


def test_one_press_of_a_mail_program_stops_the_mail_at_once_without_cookie_sign_in_or_redirect(
    outside: Client,
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> None:
    start(confirm(draft))
    answer = outside.post(
        link(people[0]), "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 200
    assert Preference.objects.get().contact == people[0]
    # Queued for them: gone. What they hold: theirs.
    queued = Delivery.objects.get(contact=people[0])
    assert (queued.state, queued.said) == (Delivery.State.SKIPPED, "asked for no mail")
    assert people[0].grants.count() == 1
    work()
    assert people[0].address_key not in [sent.to[0] for sent in mail.outbox]
    assert len(mail.outbox) == 4


def test_looking_changes_nothing(outside: Client, people: list[Contact]) -> None:
    for method in (outside.get, outside.head):
        for page in ("unsubscribe", "preferences"):
            assert method(link(people[0], page)).status_code == 200
    assert not Preference.objects.exists()
    assert outside.put(link(people[0])).status_code == 405


def test_the_page_has_a_button_that_does_what_it_says_and_an_undo(
    outside: Client, people: list[Contact]
) -> None:
    page = outside.get(link(people[0]))
    assert b"No more mail from Ana&#x27;s Forge?" in page.content
    stopped = outside.post(link(people[0]))
    assert b"The mail is stopped" in stopped.content
    assert services.preference_of(people[0]) == Preference.Choice.NOTHING
    undo = re.search(rb'action="(/preferences/[^"]+)"', stopped.content)
    assert undo
    back = outside.post(undo[1].decode(), {"choice": "each"})
    assert b"You get a mail for each release." in back.content
    assert services.preference_of(people[0]) == Preference.Choice.EACH


@pytest.mark.parametrize("choice", ["", "daily", "\0"])
def test_a_choice_that_does_not_exist_changes_nothing(
    outside: Client, people: list[Contact], choice: str
) -> None:
    assert outside.post(link(people[0], "preferences"), {"choice": choice}).status_code == 200
    assert not Preference.objects.exists()


def test_asking_twice_is_asking_once_and_other_creators_are_not_meant(
    people: list[Contact], now: datetime
) -> None:
    for _twice in range(2):
        services.set_preference(people[0], Preference.Choice.NOTHING, now=now)
    assert Preference.objects.get().creator == people[0].creator
    assert not Holding.objects.filter(ended_at__isnull=False).exists()


@pytest.mark.parametrize(
    "token", ["1", "1.", ".x", "1.AAAA", "x.AAAA", "1:AAAA", "١.AAAA", "-1.AAAA", "9" * 400, "%00"]
)
def test_a_forged_link_is_not_found(outside: Client, people: list[Contact], token: str) -> None:
    for page in ("unsubscribe", "preferences"):
        assert outside.post(f"/{page}/{token}/").status_code == 404


def test_a_link_of_somebody_who_is_gone_is_not_found(outside: Client) -> None:
    assert outside.get(reverse("messaging:unsubscribe", args=[preferences_token(10**6)])).status_code == 404


def test_a_signature_for_anything_else_opens_no_preferences(people: list[Contact]) -> None:
    with pytest.raises(ForgedToken):
        read_preferences_token(Signer(sep=".").sign(str(people[0].pk)))
    assert read_preferences_token(preferences_token(people[0].pk)) == people[0].pk
