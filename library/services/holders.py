"""In how many libraries a bundle is: counted when somebody asks, and of one in many libraries kept by a worker.

Whoever adds or ends holdings writes no number: a thousand who redeem at once would wait for one row. Whoever gives or
takes back a release, and looks after it from time to time, has it counted.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Count

from library.models import Bundle, LibraryEntry

# So many are counted while a page is made.
FEW = 10_000


def count_holders(bundle_id: int, *, now: datetime) -> int:
    """How many hold it; of many the number is kept. Twice: the same."""
    holders = LibraryEntry.objects.filter(bundle=bundle_id).live().count()
    kept = holders if holders > FEW else None
    Bundle.objects.filter(pk=bundle_id).update(holders=kept, holders_at=now)
    return holders


def holders_of(bundles: Iterable[Bundle]) -> dict[int, int]:
    """How many hold each of `bundles`, by its id: one query for those in few libraries."""
    bundles = list(bundles)
    known = {bundle.pk: bundle.holders for bundle in bundles if bundle.holders is not None}
    unknown = [bundle.pk for bundle in bundles if bundle.holders is None]
    entries = LibraryEntry.objects.filter(bundle__in=unknown).live().order_by()
    return {**known, **dict(entries.values_list("bundle").annotate(Count("pk")))}
