"""Letters that anybody can have sent to an address, by typing it into a page: so many an hour and so many a day.

They are counted by their own rows, known addresses and unknown ones alike, so a limit tells nobody who has an account.
As a code can be guessed three times, the same limit bounds the guesses at one account.
"""

import hashlib
import math
from datetime import datetime, timedelta

from django.db.models import Max
from django.utils.translation import gettext as _

from accounts.addresses import address_key
from accounts.models import Letter
from accounts.services import letter_once

KINDS = (
    "login_code",
    "email_confirmation",
    "email_confirmation_signup",
    "unknown_account",
    "account_already_exists",
    "password_reset_code",
    "again_code",
)
LIMITS = ((timedelta(hours=1), 6), (timedelta(days=1), 20))
# Of so many askers at once each but one finds another's letter in its place and counts anew.
ATTEMPTS = 25


class TooManyLetters(Exception):
    """The address got as many codes as it may; `seconds` until it may get another."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            _("Several codes went to this address already. Look for the newest one, or wait a little.")
        )
        self.seconds = max(1, math.ceil(seconds))


def post_asked_letter(
    kind: str, address: str, *, subject: str, text: str, code: str = "", now: datetime
) -> Letter:
    """One letter more, of one of KINDS, waits to be sent. Twice: two. Raises `AddressRefused`, `TooManyLetters`.

    Its unique key names the letter it comes after: of two that counted at once only one is in, the other counts anew.
    """
    key = address_key(address)
    theirs = Letter.objects.filter(address_key=key, kind__in=KINDS)
    whose = hashlib.sha256(key.encode()).hexdigest()[:32]
    for _attempt in range(ATTEMPTS):
        last = theirs.aggregate(last=Max("pk"))["last"] or 0
        _refuse_too_many(list(_recent(key, now)), now)
        letter, new = letter_once(
            kind, key, subject=subject, text=text, code=code, dedupe_key=f"asked:{whose}:{last}", now=now
        )
        if new:
            return letter
    raise TooManyLetters(60)


def _recent(key: str, now: datetime) -> list[datetime]:
    """When the newest of them were asked for, the newest first: no more than decide."""
    longest, most = LIMITS[-1]
    rows = Letter.objects.filter(address_key=key, kind__in=KINDS, created_at__gt=now - longest)
    return list(rows.order_by("-created_at").values_list("created_at", flat=True)[:most])


def _refuse_too_many(asked_at: list[datetime], now: datetime) -> None:
    for window, most in LIMITS:
        if len(asked_at) >= most and asked_at[most - 1] > now - window:
            raise TooManyLetters((asked_at[most - 1] + window - now).total_seconds())
