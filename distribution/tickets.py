"""What a redeem link carries: which grant, and proof that it came from us. Nothing is stored.

A ticket is 36 url-safe characters for 27 bytes: version (1) · grant (8) · generation (2) · MAC (16). The MAC is
HMAC-SHA256 under `TICKET_KEY`, cut to 128 bits. A leaked database opens nothing, and a session key that is
rotated breaks no mailed link. A ticket is no login: holding one lets nobody into an account.
"""

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from django.conf import settings
from django.utils.translation import gettext as _

VERSION = 1
MAC_BYTES = 16
# Signed, never sent: a MAC that this key made for anything else is no ticket.
PURPOSE = b"largesse redeem ticket\n"
LAYOUT = struct.Struct(">BQH")
SHAPE = re.compile(r"[A-Za-z0-9_-]{36}")


class ForgedTicket(Exception):
    """No ticket of ours: damaged on its way, cut off, or made up."""


def issue_ticket(grant_id: int, generation: int) -> str:
    """The ticket of a grant's `generation`. Twice: the same text. Some microseconds: one is made for each mail."""
    claim = LAYOUT.pack(VERSION, grant_id, generation)
    return urlsafe_b64encode(claim + _mac(claim)).decode("ascii")


def read_ticket(text: str) -> tuple[int, int]:
    """The grant's id and the generation that `text` was issued for. Raises `ForgedTicket`."""
    # One spelling only: Python's decoder would read "+" for "-" and skip what it does not know.
    if not SHAPE.fullmatch(text):
        raise ForgedTicket(_("This link is damaged or was not made by us."))
    signed = urlsafe_b64decode(text)
    claim, mac = signed[: LAYOUT.size], signed[LAYOUT.size :]
    version, grant_id, generation = LAYOUT.unpack(claim)
    if not hmac.compare_digest(mac, _mac(claim)) or version != VERSION:
        raise ForgedTicket(_("This link is damaged or was not made by us."))
    return grant_id, generation


def _mac(claim: bytes) -> bytes:
    return hmac.digest(settings.TICKET_KEY.encode(), PURPOSE + claim, "sha256")[:MAC_BYTES]
