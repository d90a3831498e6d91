"""Transactional letters, suppressions and the audit log: what every room asks of the ground."""

import hashlib
import logging
from datetime import datetime, timedelta
from email.utils import parseaddr
from urllib.parse import urlsplit

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused, address_key
from accounts.models import AuditEvent, Letter, Suppression, User
from rows.clock import db_now
from rows.lease import take_lease
from rows.work import Work

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
    return letter_once(
        kind, address_key(address), subject=subject, text=text, code=code, dedupe_key=dedupe_key, now=now
    )[0]


def letter_once(
    kind: str, key: str, *, subject: str, text: str, code: str = "", dedupe_key: str, now: datetime
) -> tuple[Letter, bool]:
    """The letter of this `dedupe_key`, and whether it is new. `key` is an address as `address_key` writes it."""
    return Letter.objects.get_or_create(
        dedupe_key=dedupe_key,
        defaults={
            "kind": kind,
            "address_key": key,
            "subject": subject,
            "text": text,
            "code": code,
            "created_at": now,
            "not_before": now,
        },
    )


def send_letter(letter: Letter, *, now: datetime) -> bool:
    """Whether the letter is out. Twice, or while another worker holds it: nothing is sent again.

    A failure plans it again, later each time; after the sixth it is failed and says why.
    """
    if letter.state != Letter.State.WAITING or take_lease(letter, seconds=LETTER_LEASE_SECONDS) is None:
        return False
    ours = Letter.objects.filter(pk=letter.pk, epoch=letter.epoch)
    try:
        _mail_of(letter).send()
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


def _mail_of(letter: Letter) -> EmailMultiAlternatives:
    """The mail that is sent: by the letters' own way, if they have one, and under one name on every attempt."""
    paragraphs = [part for part in letter.text.split("\n\n") if part.strip() != letter.code]
    context = {
        "subject": letter.subject,
        "paragraphs": paragraphs,
        "code": letter.code,
        "site_name": settings.SITE_NAME,
    }
    # Not its dedupe key, which may name the person; and the same again if it goes out twice, for whoever drops doubles.
    digest = hashlib.sha256(letter.dedupe_key.encode()).hexdigest()[:32]
    shown_from = f'"{settings.SITE_NAME}" <{parseaddr(settings.LETTERS_FROM)[1]}>'
    mail = EmailMultiAlternatives(
        letter.subject,
        letter.text,
        shown_from if settings.LETTERS_FROM else None,
        [letter.address_key],
        headers={
            "Message-ID": f"<letter.{letter.pk}.{digest}@{urlsplit(settings.SITE_URL).hostname or 'localhost'}>",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        },
        connection=get_connection(settings.LETTERS_EMAIL_BACKEND or None, **settings.LETTERS_OPTIONS),
    )
    mail.attach_alternative(render_to_string("emails/letter.html", context), "text/html")
    if settings.LETTERS_ESP_EXTRA:
        mail.esp_extra = settings.LETTERS_ESP_EXTRA  # type: ignore[attr-defined]
    return mail


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


def suppress(
    address: str, reason: Suppression.Reason, *, creator_id: int | None = None, now: datetime
) -> None:
    """`address` (a key) is not written to any more, by anybody here. Twice: the first reason stays.

    `creator_id` is the creator whose mail brought it about, if one did.
    """
    found = Suppression(address_key=address, reason=reason, creator_id=creator_id, created_at=now)
    Suppression.objects.bulk_create([found], ignore_conflicts=True)


def lift(address: str, *, now: datetime) -> bool:
    """Whether a live suppression of `address` (a key) was lifted. Twice: False, nothing changes."""
    return bool(Suppression.objects.live().filter(address_key=address).update(lifted_at=now))


def record(
    actor: User | None, verb: str, subject: str, *, creator_id: int | None = None, now: datetime
) -> None:
    """The audit log says that `actor` did `verb` to `subject`. Twice: two lines, as it happened twice."""
    AuditEvent.objects.create(actor=actor, verb=verb, subject=subject[:200], creator_id=creator_id, at=now)


def alarm(subject: str, text: str, *, dedupe_key: str, now: datetime) -> None:
    """An operator knows: an error in the log, and a letter to each address of `ALARM_TO`, or else to each admin.

    Twice with the same `dedupe_key`: nothing, unless there is nobody to write to; then the log says it each time. Never
    raises for an address in `ALARM_TO` that is none.
    """
    subject = " ".join(subject.split())[:200]
    # A key of any length, and one for each who is told.
    keys = {
        address: f"alarm:{hashlib.sha256(f'{dedupe_key} {address}'.encode()).hexdigest()}"
        for address in settings.ALARM_TO or _addresses_of_admins()
    }
    told = Letter.objects.filter(dedupe_key__in=keys.values()).values_list("dedupe_key", flat=True)
    new = set(keys.values()).difference(told)
    if new or not keys:
        log.error("alarm: %s: %s", subject, text)
    for address, key in keys.items():
        if key not in new:
            continue
        try:
            post_letter("alarm", address, subject=subject, text=text, dedupe_key=key, now=now)
        except AddressRefused as refused:
            log.error("ALARM_TO: %s", refused)


def tell_of_trouble(row: Work, *, now: datetime) -> None:
    """An operator knows that the work on `row` keeps going wrong, what it said and when it is tried again.

    Once for each attempt and row; twice for the same attempt: nothing.
    """
    kind = row._meta.verbose_name
    words = {
        "kind": kind,
        "number": row.pk,
        "row": row,
        "attempts": row.attempts,
        "error": row.last_error,
        "again": f"{row.not_before:%Y-%m-%d %H:%M}" if row.not_before else "-",
    }
    alarm(
        _("Work on a %(kind)s keeps going wrong") % words,
        _(
            "%(kind)s %(number)s (“%(row)s”) went wrong %(attempts)s times in a row. The last time it said: %(error)s\n\n"
            "It is tried again at %(again)s UTC. Everything else goes on. The log has the rest."
        )
        % words,
        dedupe_key=f"trouble {row._meta.label_lower} {row.pk} {row.attempts} {now:%Y-%m-%d}",
        now=now,
    )


def _addresses_of_admins() -> list[str]:
    theirs = EmailAddress.objects.filter(verified=True, user__is_staff=True, user__is_active=True)
    return list(theirs.order_by("pk").values_list("email", flat=True))
