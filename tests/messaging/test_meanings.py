"""What replies and providers' words mean: the whole table, and what each meaning leads to."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client

from accounts.models import Suppression
from accounts.services import lift, suppress
from groups.models import Contact, Creator
from messaging import services
from messaging.models import Delivery, Message, ProviderEvent
from messaging.providers.meanings import CODES, KINDS, PROVIDERS, WORDS, Meaning, meaning_at, meaning_of
from tests.messaging import posts
from tests.messaging.posts import Post

M = Meaning

# As real systems say it.
REPLIES: list[tuple[str, Meaning | None]] = [
    # Addresses that are not there.
    ("smtp; 550 5.1.1 The email account that you tried to reach does not exist.", M.NOBODY),
    ("550-5.1.1 … try https://support.google.com/mail/?p=NoSuchUser", M.NOBODY),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", M.NOBODY),
    ("5.1.1 <blocked-spam@policy.example>: Recipient address rejected: User unknown in table", M.NOBODY),
    ("550 5.1.1 <spam@policy.example> odd", M.NOBODY),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", M.NOBODY),
    ("554 delivery error: dd This user doesn't have a yahoo.com account (p0@yahoo.com) [0]", M.NOBODY),
    ("550 No such user here", M.NOBODY),
    ("550 Invalid recipient", M.NOBODY),
    ("550 5.2.1 The email account that you tried to reach is disabled.", M.NOBODY),
    ("556 5.1.10 Domain does not accept mail (nullMX)", M.NOBODY),
    ("5.0.0 (host mx said: 550-5.1.1 user unknown)", M.NOBODY),
    # Everything else.
    ("550 5.7.1 likely unsolicited mail, blocked", M.POLICY),
    ("smtp; 550 5.7.1 blocked by content policy", M.POLICY),
    ("550 5.7.1 Recipient address rejected: User unknown", M.POLICY),
    ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", M.POLICY),
    ("554 5.7.9 Message not accepted for policy reasons.", M.POLICY),
    ("550 5.1.1 Mail from 192.0.2.1 is on our blacklist", M.POLICY),
    ("550 5.1.8 Sender address rejected: Domain not found", M.POLICY),
    ("554 5.1.7 no such sender", M.POLICY),
    (
        "550 SC-001 (SNT004) Unfortunately, messages from 192.5.1.1 weren't sent: part of their network is on our block list",
        M.POLICY,
    ),
    ("550 no relaying for you", M.POLICY),
    ("550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents more", M.POLICY),
    ("552 5.2.2 The email account that you tried to reach is over quota", M.MAILBOX),
    ("550 Mailbox full", M.MAILBOX),
    ("550 5.1.1 mailbox is full", M.MAILBOX),
    ("552 5.3.4 Message size exceeds fixed limit", M.CONTENT),
    ("552 5.2.3 too long for me", M.CONTENT),
    ("554 5.6.0 Message contains a virus", M.CONTENT),
    ("550 5.4.1 no answer from host", M.SYSTEM),
    ("5.4.7 delivery time expired", M.SYSTEM),
    ("550 5.3.0 odd", M.SYSTEM),
    ("550 5.2.1 closed", M.MAILBOX),
    ("Not delivering to previously bounced address", M.LISTED),
    ("602 Too old", M.SYSTEM),
    ("450 4.1.1 unverified address: mailbox unavailable", M.SYSTEM),
    ("450 mailbox unavailable", M.SYSTEM),
    # They do not say.
    ("550 no", None),
    ("554 5.0.0 no", None),
    ("550 5.1.0 odd", None),
    ("192.5.1.1 and 5.1.1.1 are addresses of machines", None),
    ("", None),
]


@pytest.mark.parametrize(("reply", "meaning"), REPLIES)
def test_a_reply_is_read_by_its_code_and_then_by_its_words(reply: str, meaning: Meaning | None) -> None:
    assert meaning_of(reply) == meaning


def test_each_code_and_each_list_of_words_is_among_the_replies() -> None:
    said = " ".join(reply for reply, _meaning in REPLIES)
    for code in CODES:
        assert f"5.{code}" in said or code in ("1.2", "1.3", "1.6"), code
        assert meaning_of(f"554 5.{code}{'' if '.' in code else '.99'} odd") == CODES[code]
    assert {meaning for _reply, meaning in REPLIES if meaning} == set(WORDS)


# What each word means where the reply says nothing, and where it says that it was a rule.
SILENCING = {
    ("amazon_ses", "bounce/permanent"),
    ("resend", "email.bounced"),
    ("resend", "email.bounced/permanent"),
    ("postmark", "bounce/hardbounce"),
    ("brevo", "hard_bounce"),
    # These are what is said of the address, and no summary.
    ("postmark", "bounce/bademailaddress"),
    ("brevo", "invalid_email"),
}
WORD_FOR_WORD = [(provider, word) for provider, table in PROVIDERS.items() for word in table]


@pytest.mark.parametrize(("provider", "word"), WORD_FOR_WORD)
def test_each_word_of_each_provider_silences_only_if_it_is_about_the_address(
    provider: str, word: str
) -> None:
    without_a_reply = KINDS[meaning_at(provider, word, "")]
    assert (without_a_reply == "bounced") == ((provider, word) in SILENCING)
    found = PROVIDERS[provider][word]
    for reply, meaning in REPLIES:
        heard = meaning_at(provider, word.upper(), reply)
        assert heard == (found if isinstance(found, Meaning) else meaning or found[0])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_word_nobody_knows_means_nothing_and_a_part_nobody_knows_what_is_before_it(provider: str) -> None:
    assert meaning_at(provider, "somersault", "550 5.1.1 no") == M.NOTHING
    assert meaning_at(provider, "", "") == M.NOTHING
    word = next(word for word in PROVIDERS[provider] if "/" not in word)
    assert meaning_at(provider, f"{word}/somersault/x", "") == meaning_at(provider, word, "")


def test_every_meaning_has_its_consequence() -> None:
    assert set(KINDS) == set(Meaning)
    assert [meaning for meaning, kind in KINDS.items() if kind == "bounced"] == [M.NOBODY]
    assert [meaning for meaning, kind in KINDS.items() if kind == "complained"] == [M.COMPLAINT]


# --- what comes of it


@pytest.fixture
def sent(
    db: None,
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    settings: LazySettings,
) -> list[Delivery]:
    """Five mails that were accepted."""
    settings.ANYMAIL = dict(posts.SECRETS)
    start(confirm(draft))
    work()
    return list(Delivery.objects.select_related("message").order_by("pk"))


def hear(*told: Post, at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        for post in told:
            assert post.to(Client()).status_code == 200
    services.apply_events(now=at)


def from_mailgun(delivery: Delivery, now: datetime) -> Post:
    status = {"code": 550, "enhanced-code": "5.7.1", "message": "5.7.1 likely unsolicited mail, blocked"}
    return posts.mailgun("bounced", delivery, now, **{"delivery-status": status})


def of_amazons(delivery: Delivery, now: datetime, *, kind: str = "General", **changed: Any) -> Post:
    reply = {"emailAddress": delivery.address_key, "status": "5.7.1", "action": "failed"}
    reply["diagnosticCode"] = "smtp; 550 5.7.1 blocked by content policy"
    bounce = {"bounceType": "Permanent", "bounceSubType": kind, "bouncedRecipients": [{**reply, **changed}]}
    return posts.amazon_ses("bounced", delivery, now, bounce=bounce)


def from_postmark(delivery: Delivery, now: datetime) -> Post:
    return posts.postmark("bounced", delivery, now, Details="smtp;550 5.7.1 blocked by policy")


def from_brevo(delivery: Delivery, now: datetime) -> Post:
    return posts.brevo("bounced", delivery, now, reason="550 5.7.1 blocked by policy")


def from_resend(delivery: Delivery, now: datetime) -> Post:
    told = {"type": "Permanent", "subType": "General", "message": "It came back."}
    told["diagnosticCode"] = "smtp; 550 5.7.1 blocked"
    data = {"to": [delivery.address_key], "headers": [], "bounce": told}
    data["headers"] = [{"name": "X-Metadata", "value": f'{{"delivery": "{delivery.pk}"}}'}]
    return posts.resend("bounced", delivery, now, data=data)


def quota(delivery: Delivery, now: datetime) -> Post:
    bounce = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}
    told = {**bounce, "bouncedRecipients": [{"emailAddress": delivery.address_key}]}
    return posts.amazon_ses("bounced", delivery, now, bounce=told)


def listed(delivery: Delivery, now: datetime) -> Post:
    return of_amazons(
        delivery, now, kind="Suppressed", status="5.1.1", diagnosticCode="Amazon has suppressed it"
    )


def filtered(delivery: Delivery, now: datetime) -> Post:
    return posts.postmark("bounced", delivery, now, Type="SpamNotification", TypeCode=512, Details="")


def gave_up(delivery: Delivery, now: datetime) -> Post:
    status = {"code": 602, "message": "Too old", "description": ""}
    return posts.mailgun("bounced", delivery, now, reason="old", **{"delivery-status": status})


@pytest.mark.parametrize(
    "told",
    [from_mailgun, of_amazons, from_postmark, from_brevo, from_resend, quota, listed, filtered, gave_up],
)
def test_what_is_not_about_the_address_silences_nobody_pauses_nobody_and_is_not_delivered(
    told: Callable[..., Post], sent: list[Delivery], creator: Creator, now: datetime
) -> None:
    hear(*(posts.amazon_ses("delivered", one, now) for one in sent[:2]), at=now)
    hear(*(told(one, now) for one in sent), at=now)
    assert Delivery.objects.all().tally() == {"failed": 5}
    assert all(Delivery.objects.values_list("reason", flat=True))
    assert not Suppression.objects.exists()
    creator.refresh_from_db()
    assert (creator.paused_at, Message.objects.get().bounced) == (None, 0)


def test_the_same_five_about_addresses_that_are_not_there_silence_and_pause(
    sent: list[Delivery], creator: Creator, now: datetime
) -> None:
    hear(*(of_amazons(one, now, status="5.1.1", diagnosticCode="550 5.1.1 unknown") for one in sent), at=now)
    assert Delivery.objects.all().tally() == {"bounced": 5}
    assert Suppression.objects.count() == 5
    creator.refresh_from_db()
    assert creator.paused_at == now


def complaint(delivery: Delivery, now: datetime, *, number: int = 1, **changed: Any) -> Post:
    told = {"complainedRecipients": [{"emailAddress": delivery.address_key}], "feedbackId": "x"}
    return posts.amazon_ses("complained", delivery, now, number=number, complaint={**told, **changed})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"complaintFeedbackType": "abuse"}, "complained"),
        ({"complaintFeedbackType": "fraud"}, "complained"),
        ({"complaintFeedbackType": None}, "complained"),
        ({}, "complained"),
        ({"complaintSubType": None, "complaintFeedbackType": "not-spam"}, "accepted"),
        ({"complaintFeedbackType": "auth-failure"}, "accepted"),
        ({"complaintSubType": "OnAccountSuppressionList", "complaintFeedbackType": "abuse"}, "failed"),
    ],
)
def test_a_report_counts_as_spam_only_if_it_says_so_and_is_no_echo(
    told: dict[str, Any], state: str, sent: list[Delivery], now: datetime
) -> None:
    hear(complaint(sent[0], now, **told), at=now)
    assert Delivery.objects.earliest("pk").state == state
    assert Suppression.objects.count() == Message.objects.get().complained == (state == "complained")


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_the_same_report_once_more_does_not_undo_that_an_admin_lifted_it(
    sent: list[Delivery], now: datetime
) -> None:
    hear(complaint(sent[0], now), at=now)
    lift(sent[0].address_key, now=now + HOUR)
    again, late = now + 2 * HOUR, now + 3 * HOUR
    hear(complaint(sent[0], late, number=2, timestamp=again.isoformat()), at=late)
    assert not Suppression.objects.live().exists()
    assert Message.objects.get().complained == 1


@pytest.mark.parametrize(("after", "silenced"), [(-HOUR, False), (HOUR, True)])
def test_a_report_from_before_it_was_lifted_does_not_undo_that(
    after: timedelta, silenced: bool, sent: list[Delivery], now: datetime
) -> None:
    suppress(sent[0].address_key, Suppression.Reason.COMPLAINT, now=now - DAY)
    lift(sent[0].address_key, now=now)
    late = now + DAY
    hear(complaint(sent[0], late, timestamp=(now + after).isoformat()), at=late)
    assert Suppression.objects.live().exists() == silenced
    assert Message.objects.get().complained == 1


def test_a_time_that_is_none_is_the_time_it_was_told(sent: list[Delivery], now: datetime) -> None:
    for number, stamp in enumerate(["soon", "2026-02-30T00:00:00Z", 5, None]):
        hear(complaint(sent[number], now, timestamp=stamp), at=now)
    assert set(ProviderEvent.objects.values_list("at", flat=True)) <= {now, now - timedelta(minutes=1)}
