"""Finding people by a part of their name or address, in what may be a million of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar, cast

from django.db import connection
from django.db.models import Model, QuerySet, Value

from groups.models import Contact, Said
from rows.sets import among

Row = TypeVar("Row", bound=Model)

# Fewer are all looked through: some milliseconds.
FEW = 10_000
# Of more the next ones in the list's order are looked through first: a common name fills its page there.
NEAR = 500
# A name that is not common is found by an index, and has so many bearers at most; if it has more than a few, some
# more of the list are looked through before all of them are gone to. Should more people have it, some are not found.
NOT_MANY, FAR, MOST_FOUND = 1_000, 5_000, 10_000


@dataclass(frozen=True)
class Found:
    """The contacts somebody looked for, by number, and whether these may not be all of them."""

    contacts: list[int]
    partly: bool


def found_by(words: str, creator_id: int) -> Found:
    """Those of a creator's contacts who have `words` in the name or the address.

    Of fewer than three letters in a row no index knows where they are, nor of any where the database could not make
    the one that does: then those whose address begins with them.
    """
    contacts = Contact.objects.filter(creator=creator_id)
    anywhere = _is_indexed(words)
    named = contacts.called(words) if anywhere else contacts.filter(address_key__startswith=words.lower())
    numbers = list(named.order_by().values_list("pk", flat=True)[: MOST_FOUND + 1])
    return Found(numbers[:MOST_FOUND], partly=not anywhere or len(numbers) > MOST_FOUND)


def called(rows: QuerySet[Row], words: str) -> QuerySet[Row]:
    """Those of `rows`, each of which is looked at, whose contact has `words` in the name or the address."""
    # With something empty behind it, of which no index knows: that one would bring everybody's of this name.
    said = Said("contact__address_key", "contact__name", Value(""))
    return cast("QuerySet[Row]", rows.alias(said=said).filter(said__icontains=words))


@dataclass(frozen=True)
class Stretch(Generic[Row]):
    """The next rows of a list, and whether nothing comes after them."""

    rows: QuerySet[Row]
    complete: bool


class Search(Generic[Row]):
    """People of a creator looked for in a long list."""

    def __init__(self, words: str, creator_id: int) -> None:
        self.words, self.creator_id = words, creator_id

    @cached_property
    def found(self) -> Found:
        return found_by(self.words, self.creator_id)

    @property
    def partly(self) -> bool:
        """Whether an index was asked that may not have had them all."""
        return "found" in vars(self) and self.found.partly

    def take(
        self,
        size: int,
        *,
        near: Callable[[int], Stretch[Row]],
        beyond: QuerySet[Row],
        page: Callable[[QuerySet[Row]], list[Row]],
    ) -> list[Row]:
        """The first `size` of those looked for, from where the list has come to.

        `near` gives the next so many rows, `beyond` is all that comes; `page` puts rows in order and cuts them.
        """
        for number in (NEAR, FAR):
            if number == FAR and len(self.found.contacts) <= NOT_MANY:
                break
            stretch = near(number)
            hits = page(called(stretch.rows, self.words))
            if stretch.complete or len(hits) == size:
                return hits
        return page(beyond.filter(among("contact_id", self.found.contacts)))


def _is_indexed(words: str) -> bool:
    if connection.vendor != "postgresql":
        return True
    # Three letters or digits in a row: by fewer the index cannot be asked.
    if re.search(r"[^\W_]{3}", words) is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('contact_by_words') IS NOT NULL")
        return bool(cursor.fetchone()[0])
