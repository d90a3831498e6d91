"""Transactional letters, suppressions and the audit log: what every room asks of the ground."""

import logging
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string

from accounts.addresses import address_key
from accounts.models import AuditEvent, Letter, Suppression, User
from rows.clock import db_now
from rows.lease import take_lease

log = logging.getLogger(__name__)

LETTER_LEASE_SECONDS = 60
LETTER_ATTEMPTS = 6


def post_letter(
    kind: str, address: str, *, subject: str, text: str, code: str = "", dedupe_key: str, now: datetime
) -> Letter:
    """One letter to `address` waits to be sent. Twice with the same `dedupe_key`: still one, the first.

    Letters are transactional (codes, notices): they heed no preference and charge no cap. A worker killed
    between handing one over and saying so sends it again, as a code that never arrives is worse than two.
    Raises `AddressRefused`.
    """
    letter, _created = Letter.objects.get_or_create(
        dedupe_key=dedupe_key,
        defaults={
            "kind": kind,
            "address_key": address_key(address),
            "subject": subject,
            "text": text,
            "code": code,
            "created_at": now,
            "not_before": now,
        },
    )
    return letter


def send_letter(letter: Letter, *, now: datetime) -> bool:
    """Whether the letter is out. Twice, or while another worker holds it: nothing is sent again.

    A failure plans it again, later each time; after the sixth it is failed and says why.
    """
    if letter.state != Letter.State.WAITING or take_lease(letter, seconds=LETTER_LEASE_SECONDS) is None:
        return False
    mail = EmailMultiAlternatives(letter.subject, letter.text, to=[letter.address_key])
    mail.extra_headers = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
    paragraphs = [part for part in letter.text.split("\n\n") if part.strip() != letter.code]
    html = render_to_string(
        "emails/letter.html",
        {
            "subject": letter.subject,
            "paragraphs": paragraphs,
            "code": letter.code,
            "site_name": settings.SITE_NAME,
        },
    )
    mail.attach_alternative(html, "text/html")
    ours = Letter.objects.filter(pk=letter.pk, epoch=letter.epoch)
    try:
        mail.send()
    except Exception as error:
        log.warning("letter %s was not sent: %s", letter.pk, type(error).__name__)
        given_up = letter.attempts + 1 >= LETTER_ATTEMPTS
        ours.update(
            state=Letter.State.FAILED if given_up else Letter.State.WAITING,
            attempts=F("attempts") + 1,
            not_before=now + timedelta(seconds=15 * 4**letter.attempts),
            lease_until=None,
            reason=str(error)[:200],
        )
        return False
    # What it said is nobody's business any more: a code must not lie in the database.
    ours.update(
        state=Letter.State.SENT,
        sent_at=now,
        attempts=F("attempts") + 1,
        lease_until=None,
        text="",
        code="",
        reason="",
    )
    return True


def send_due_letters(*, now: datetime) -> int:
    """How many letters went out just now. Twice: those that are out are not sent again."""
    due = Letter.objects.filter(state=Letter.State.WAITING, not_before__lte=now).unleased(db_now())
    return sum(send_letter(letter, now=now) for letter in due.order_by("not_before")[:200])


def account_for(address: str) -> User:
    """The account that a code mailed to `address` (a key) opens: whose it verifiably is, or else one made for it.

    A new account has no password and its address is unverified until the code comes back. Somebody who merely
    entered the address among their own does not count. Twice: the same account.
    """
    owner = User.objects.filter(emailaddress__email=address, emailaddress__verified=True).first()
    if owner:
        return owner
    with transaction.atomic():
        user, created = User.objects.get_or_create(email=address, defaults={"password": make_password(None)})
        EmailAddress.objects.get_or_create(user=user, email=address, defaults={"primary": created})
    return user


def suppress(address: str, reason: Suppression.Reason, *, now: datetime) -> None:
    """`address` (a key) is not written to any more, by anybody here. Twice: the first reason stays."""
    Suppression.objects.bulk_create(
        [Suppression(address_key=address, reason=reason, created_at=now)], ignore_conflicts=True
    )


def lift(address: str, *, now: datetime) -> bool:
    """Whether a live suppression of `address` (a key) was lifted. Twice: False, nothing changes."""
    return bool(Suppression.objects.live().filter(address_key=address).update(lifted_at=now))


def record(
    actor: User | None, verb: str, subject: str, *, creator_id: int | None = None, now: datetime
) -> None:
    """The audit log says that `actor` did `verb` to `subject`. Twice: two lines, as it happened twice."""
    AuditEvent.objects.create(actor=actor, verb=verb, subject=subject[:200], creator_id=creator_id, at=now)
