"""What a file says of whether somebody wants mail: the headings and words by which other houses write it down.

A person is asked for by name only where both are plain: a heading that is about mail, and a word that is known.
Anything else says nothing, and nobody is silenced or let in by it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from groups.imports.formats import Field, plain

# "Yes" under these means that mail is wanted: Ghost, Shopify, Squarespace, Brevo and Sender.
WANTING: Final = frozenset(
    {
        "subscribed to emails",
        "subscribed",
        "accepts marketing",
        "accepts email marketing",
        "email marketing",
        "email subscribed",
        "email opt in",
        "email optin",
        "marketing consent",
        "marketing opt in",
        "newsletter",
        "opt in",
        "opted in",
        "optin",
        "wants mail",
        "wants email",
    }
)
# "Yes", a date or a reason under these means that none is: Mailchimp, Substack, Buttondown, Brevo, Salesforce, Zoho.
REFUSING: Final = frozenset(
    {
        "blacklisted",
        "blocklisted",
        "bounced at",
        "clean campaign id",
        "clean campaign title",
        "clean time",
        "do not contact",
        "do not email",
        "do not mail",
        "do not write",
        "email blacklisted",
        "email blocklisted",
        "email disabled",
        "email opt out",
        "emailblacklisted",
        "has opted out of email",
        "hasoptedoutofemail",
        "no mail",
        "opt out",
        "opt out date",
        "opted out",
        "optout",
        "optout date",
        "undeliverability date",
        "unsub campaign id",
        "unsub campaign title",
        "unsub reason",
        "unsub reason other",
        "unsub time",
        "unsubscribe date",
        "unsubscribed",
        "unsubscribed at",
        "unsubscription date",
    }
)
# One of many states under these: listmonk, Mailchimp, MailerLite, Kit, beehiiv, Lemon Squeezy.
STATES: Final = frozenset(
    {
        "email marketing status",
        "email permission status",
        "email status",
        "mail status",
        "marketing status",
        "member status",
        "state",
        "status",
        "subscriber status",
        "subscription status",
    }
)
STATES_WANTING: Final = frozenset(
    {"active", "confirmed", "enabled", "opted in", "regular", "subscribed", "true", "yes"}
)
STATES_REFUSING: Final = frozenset(
    {
        "blacklisted",
        "blocked",
        "blocklisted",
        "bounced",
        "cleaned",
        "complained",
        "disabled",
        "do not contact",
        "do not email",
        "inactive",
        "invalid email",
        "junk",
        "non subscribed",
        "nonsubscribed",
        "not subscribed",
        "opted out",
        "pending",
        "removed",
        "requires verification",
        "spam",
        "spammy",
        "suppressed",
        "unactivated",
        "unconfirmed",
        "undeliverable",
        "unsubscribed",
    }
)
YES: Final = frozenset({"1", "on", "t", "true", "wahr", "x", "y", "yes", "ja", "oui", "si", "sí"})
NO: Final = frozenset({"0", "off", "f", "false", "falsch", "n", "no", "nein", "non", "none", "null"})


def find_mail_column(labels: Sequence[str]) -> str:
    """The first column that tells who wants mail by its heading; empty if there is none."""
    return next((label for label in labels if _is_about_mail(label)), "")


def columns_about_mail(labels: Sequence[str], chosen: Mapping[Field, str]) -> dict[str, int]:
    """Where in a row the columns stand that tell who wants mail: the chosen one and all that are called so.

    None if none was chosen: then the creator said that this file does not tell.
    """
    if Field.MAIL not in chosen:
        return {}
    return {
        label: index
        for index, label in enumerate(labels)
        if label == chosen[Field.MAIL] or _is_about_mail(label)
    }


def wants_mail(cells: Sequence[str], columns: Mapping[str, int]) -> bool | None:
    """Whether this row's person wants mail; None: it does not say. One column that says no outweighs all others."""
    said = {_said(heading, cells[index]) for heading, index in columns.items()}
    return False if False in said else True if True in said else None


def _is_about_mail(heading: str) -> bool:
    return _spaced(heading) in WANTING | REFUSING | STATES


def _said(heading: str, cell: str) -> bool | None:
    name, word = _spaced(heading), _spaced(cell)
    if not word:
        return None
    if name in REFUSING:
        return None if word in NO else False
    if word in STATES_REFUSING or (word in NO and name not in STATES):
        return False
    if word in STATES_WANTING or (word in YES and name not in STATES):
        return True
    return None


def _spaced(text: str) -> str:
    """`SUBSCRIBED_TO_EMAILS` and `Subscribed to emails?` are one heading."""
    return " ".join(plain(text).replace("_", " ").replace("-", " ").split()).strip(" ?:*")
