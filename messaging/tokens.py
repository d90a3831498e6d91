"""What a mail's preferences and unsubscribe links carry: whose they are, and proof that we made them."""

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.utils.translation import gettext as _

# Their own purpose: a ticket opens no preferences, and these redeem nothing.
PURPOSE = "largesse.messaging.preferences"


class ForgedToken(Exception):
    """No link of ours: damaged on its way, cut off, or made up."""


def preferences_token(contact_id: int) -> str:
    """The token of a contact, and so of one creator. It never expires: mail law wants the link to work."""
    return _signer().sign(str(contact_id))


def read_preferences_token(text: str) -> int:
    """The contact's id. Raises `ForgedToken`."""
    try:
        return int(_signer().unsign(text))
    except (BadSignature, ValueError) as error:
        raise ForgedToken(_("This link is damaged or was not made by us.")) from error


def _signer() -> Signer:
    # The tickets' key, not the sessions': rotating that one must not break the links in mails already sent.
    return Signer(key=settings.TICKET_KEY, sep=".", salt=PURPOSE)
