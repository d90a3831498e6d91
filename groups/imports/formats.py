"""What the columns of an export mean: the formats this house knows, and the headings others use."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


class Field(StrEnum):
    """What an import can use of a row. All else in a file, amounts and streets included, is not read."""

    ADDRESS = "address"
    NAME = "name"
    OUTSIDE_ID = "outside_id"
    TIER = "tier"
    STATUS = "status"
    FREE = "free"
    SINCE = "since"
    UNTIL = "until"
    UPDATED = "updated"
    MAIL = "mail"


ALIASES: Final[dict[Field, tuple[str, ...]]] = {
    Field.ADDRESS: ("email", "e-mail", "email address", "e-mail address", "backer email"),
    Field.NAME: ("name", "backer name", "full name"),
    Field.OUTSIDE_ID: ("user id", "backer uid"),
    Field.TIER: ("tier", "reward title", "reward", "pledge level"),
    Field.STATUS: ("patron status", "pledged status"),
    Field.FREE: ("free member",),
    Field.SINCE: ("patronage since date", "pledged at"),
    Field.UNTIL: ("access expiration",),
    Field.UPDATED: ("last updated",),
}
FIELD_OF: Final[dict[str, Field]] = {alias: field for field, aliases in ALIASES.items() for alias in aliases}


@dataclass(frozen=True, slots=True)
class Format:
    """One shape of export. `source` names whose ids it carries; empty: its ids are nobody's we know."""

    key: str
    label: "StrPromise"
    signature: frozenset[str]
    fields: frozenset[Field]
    source: str = ""
    members: frozenset[str] = (
        frozenset()
    )  # the statuses that count as being a member, unless the creator says otherwise


_PATREON: Final = frozenset({"patron status", "user id", "tier"})
_PATRONS: Final = frozenset({"active patron"})
PATREON_2026: Final = Format(
    "patreon-2026", _("Patreon"), _PATREON | {"free member"}, frozenset(Field), "patreon", _PATRONS
)
PATREON_2023: Final = Format(
    "patreon-2023",
    _("Patreon (older export)"),
    _PATREON,
    frozenset(Field) - {Field.FREE},
    "patreon",
    _PATRONS,
)
PLAIN_LIST: Final = Format(
    "plain-list", _("List of addresses"), frozenset(), frozenset({Field.ADDRESS, Field.NAME})
)
GENERIC: Final = Format(
    "generic",
    pgettext_lazy("import format", "Other CSV"),
    frozenset(),
    frozenset({Field.ADDRESS, Field.NAME, Field.TIER, Field.STATUS, Field.MAIL}),
)
FORMATS: Final = {known.key: known for known in (PATREON_2026, PATREON_2023, PLAIN_LIST, GENERIC)}


def plain(heading: str) -> str:
    """A heading, status or tier as it is compared: NFKC, trimmed, single spaces, without case."""
    return " ".join(unicodedata.normalize("NFKC", heading).split()).casefold()


def recognise(columns: Sequence[str]) -> Format:
    """The format these headings are of; `GENERIC` when they are none we know."""
    headings = {plain(column) for column in columns}
    for known in (PATREON_2026, PATREON_2023):
        if known.signature <= headings:
            return known
    return PLAIN_LIST if len(columns) == 1 else GENERIC


def suggest_columns(columns: Sequence[str], form: Format, *, address: str) -> dict[Field, str]:
    """Which column to read each field from, by its heading; the first one wins where two are called alike."""
    found = {Field.ADDRESS: address}
    for column in columns:
        field = FIELD_OF.get(plain(column))
        if field in form.fields:
            found.setdefault(field, column)
    return found
