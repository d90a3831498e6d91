"""Addresses that are passed on within one import: who leaves one, who takes it over; swaps and chains included.

The file as a whole decides, in any order of its rows: an address is free for a new owner if the one who has it leaves
it by this file, and *their* new one is free in the same sense. A circle of those is a swap, and all of it is free.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from django.db import transaction
from django.db.models import CharField, Exists, F, OuterRef, Value
from django.db.models.functions import Cast, Concat

from groups.models import Contact, Import, ImportRow
from groups.services.contacts import attach_verified_accounts
from rows.lease import keep_lease
from rows.sets import among

# So many people a transaction, and those whose moves hang on theirs.
BATCH = 1_000
LOOKED_UP = 1_000


def possible_moves(creator_id: int, wanted: Mapping[int, str]) -> dict[int, str]:
    """Those of `wanted` (contact → address, in the order of the file) that can be made, all of them together.

    Of two who want one address the first gets it. Writes nothing.
    """
    first: dict[str, int] = {}
    for contact, address in wanted.items():
        first.setdefault(address, contact)
    holders = _holders(creator_id, wanted.values())
    possible: dict[int, bool] = {}
    for contact in wanted:
        chain: dict[int, None] = {}
        here: int | None = contact
        while True:
            if here is None or here in chain:
                # The address at the end is free, or the chain bites its tail: they swap.
                good = True
            elif here in possible:
                good = possible[here]
            elif here not in wanted or first[wanted[here]] != here:
                good = False
            else:
                chain[here] = None
                here = holders.get(wanted[here])
                continue
            break
        # Who stays, or is not the first, holds back everybody before them.
        possible |= dict.fromkeys(chain, good)
        possible.setdefault(contact, good)
    return {contact: address for contact, address in wanted.items() if possible[contact]}


def pass_on_addresses(import_run: Import, *, seconds: float) -> bool:
    """Addresses of the file that somebody else of it has now are their new owners', as its dry run said.

    What is left are moves to addresses that nobody has: the pages make them. In batches, each a transaction under the
    lease; killed anywhere, the next call goes on. Nobody is ever without an address. Returns whether the lease is
    still ours. Twice: nothing changes.
    """
    creator_id = import_run.group.creator_id
    rows = ImportRow.objects.filter(import_run=import_run).accepted().order_by("line")
    moving = rows.filter(contact__address_key=F("former_address")).exclude(former_address="")
    wanted: dict[int, str] = {}
    for contact, address in moving.values_list("contact_id", "address_key").iterator():
        if contact is not None:
            wanted.setdefault(contact, address)
    if not wanted:
        return True
    moves = possible_moves(creator_id, wanted)
    holders = _holders(creator_id, moves.values())
    theirs = Contact.objects.filter(creator=creator_id, address_key=OuterRef("address_key"))
    newcomers = rows.filter(Exists(theirs), contact=None, verdict=ImportRow.Verdict.NEW)
    left = _holders(creator_id, newcomers.values_list("address_key", flat=True))
    begins = [contact for contact, address in moves.items() if address in holders]
    begins += [holder for holder in left.values() if holder in moves]
    for batch in _batches(begins, moves, holders):
        with transaction.atomic():
            if not keep_lease(import_run, seconds=seconds):
                return False
            before = {contact: address for address, contact in _of(creator_id, batch)}
            if before.keys() == batch.keys() and _unmoved(import_run, before):
                write_addresses(batch)
                attach_verified_accounts(Contact.objects.filter(pk__in=batch))
    return True


def write_addresses(moves: Mapping[int, str]) -> None:
    """The contacts have the addresses `moves` gives them; call it in a transaction that holds their rows."""
    # In between they have one that nobody can have: two of them may swap.
    nobodys = Concat(Value("moving "), Cast("pk", CharField()))
    Contact.objects.filter(pk__in=moves).update(address_key=nobodys)
    Contact.objects.bulk_update(
        [Contact(pk=pk, address_key=address) for pk, address in moves.items()],
        ["address_key"],
        batch_size=500,
    )


def _of(creator_id: int, contacts: Iterable[int]) -> list[tuple[str, int]]:
    """Their addresses, which nobody changes before this transaction ends."""
    found = Contact.objects.select_for_update(no_key=True).filter(creator=creator_id, pk__in=list(contacts))
    return list(found.order_by("pk").values_list("address_key", "pk"))


def _unmoved(import_run: Import, addresses: Mapping[int, str]) -> bool:
    """Whether all of them are where the dry run found them; somebody may have changed one by hand since."""
    rows = ImportRow.objects.filter(import_run=import_run, contact__in=list(addresses)).accepted()
    former = dict(rows.exclude(former_address="").values_list("contact_id", "former_address"))
    return former == addresses


def _batches(
    begins: Iterable[int], moves: Mapping[int, str], holders: Mapping[str, int]
) -> Iterator[dict[int, str]]:
    """The moves that `begins` need, in such batches that each frees what it takes."""
    batch: dict[int, str] = {}
    seen: set[int] = set()
    for contact in begins:
        here: int | None = contact
        while here is not None and here not in seen and here in moves:
            seen.add(here)
            batch[here] = moves[here]
            here = holders.get(moves[here])
        if len(batch) >= BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


def _holders(creator_id: int, addresses: Iterable[str]) -> dict[str, int]:
    """Who has which of `addresses` now."""
    found: dict[str, int] = {}
    left = iter(addresses)
    while page := list(islice(left, LOOKED_UP)):
        contacts = Contact.objects.filter(among("address_key", page), creator=creator_id)
        found.update(contacts.values_list("address_key", "pk"))
    return found
