"""What the small links of a mail carry: whose they are, and proof that we made them."""

import hmac
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.utils.translation import gettext as _

# Their own purposes: a ticket opens no preferences, and these redeem nothing.
PURPOSE = "largesse.messaging.preferences"
WHY = "largesse.messaging.why"


class ForgedToken(Exception):
    """No link of ours: damaged on its way, cut off, or made up."""


def preferences_token(contact_id: int) -> str:
    """The token of a contact, and so of one creator. It never expires: mail law wants the link to work."""
    return _signed(str(contact_id), PURPOSE)


def read_preferences_token(text: str) -> int:
    """The contact's id. Raises `ForgedToken`."""
    return _read(text, PURPOSE)


def why_token(delivery_id: int) -> str:
    """The token of one mail: why it came, and a place to complain about it. It never expires."""
    return _signed(str(delivery_id), WHY)


def read_why_token(text: str) -> int:
    """The delivery's id. Raises `ForgedToken`."""
    return _read(text, WHY)


def _read(text: str, purpose: str) -> int:
    try:
        return int(_signer(purpose).unsign(text))
    except (BadSignature, ValueError) as error:
        raise ForgedToken(_("This link is damaged or was not made by us.")) from error


def _signer(purpose: str) -> Signer:
    # The tickets' key, not the sessions': rotating that one must not break the links in mails already sent.
    return Signer(key=settings.TICKET_KEY, sep=".", salt=purpose)


def _signed(text: str, purpose: str) -> str:
    """What the signer would write. It derives its key anew each time, which is most of its work; a mail has three."""
    mac = hmac.digest(_derived_key(settings.TICKET_KEY, purpose), text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(mac).rstrip(b'=').decode('ascii')}"


@lru_cache(maxsize=8)
def _derived_key(key: str, purpose: str) -> bytes:
    return sha256(f"{purpose}signer{key}".encode()).digest()
