"""The one way an e-mail address is written, matched and shown in this house."""

import unicodedata

from django.utils.translation import gettext as _
from email_validator import EmailSyntaxError, validate_email

# RFC 5321 allows 254 characters; twice that still leaves room for a domain written in another script.
LONGEST_RAW = 508


class AddressRefused(ValueError):
    """This text is no address that mail could be sent to."""


def address_key(raw: str) -> str:
    """The spelling under which an address is stored and compared.

    NFKC, trimmed, the domain in its ASCII form, lower-cased whole. Dots and plus-tags are kept: to most mail
    systems they are different mailboxes. Its own output comes back unchanged.
    Raises `AddressRefused`: not an address, no public domain, too long, or letters before the @ that much of
    the world's mail cannot carry (and that look like others).
    """
    if len(raw) > LONGEST_RAW:
        raise AddressRefused(_("This is too long for an e-mail address."))
    address = unicodedata.normalize("NFKC", raw).strip()
    if not address:
        raise AddressRefused(_("There is no e-mail address."))
    local, at, domain = address.rpartition("@")
    if not at:
        raise AddressRefused(_("This e-mail address has no @ in it."))
    if not local.isascii():
        raise AddressRefused(_("Before the @ only plain letters from a to z, digits and signs can be used."))
    if domain.startswith("[") or "." not in domain.replace("。", "."):
        raise AddressRefused(_("After the @ there must be a public domain, such as example.org."))
    try:
        found = validate_email(address, allow_smtputf8=False, check_deliverability=False, strict=True)
    except EmailSyntaxError as error:
        raise AddressRefused(_("This is not an e-mail address.")) from error
    return f"{found.local_part}@{found.ascii_domain}".lower()


def masked(address: str) -> str:
    """Enough of an address for its owner to know it by, and no more: j•••@g•••.com."""
    local, at, domain = address.rpartition("@")
    if not at:
        return "•••"
    name, dot, ending = domain.rpartition(".")
    return f"{local[:1]}•••@{name[:1]}•••{dot}{ending}" if dot else f"{local[:1]}•••@•••"
