"""Who holds what. The library knows nothing of grants: whoever gives says from where it came (`origin_key`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Value

from library.models import BundleVersion, Holding, LibraryEntry
from rows.planner import by_keys
from rows.sets import among, insert_from


def add_holdings(
    users: QuerySet[Any, Any],
    *,
    versions: Sequence[BundleVersion],
    origin_key: str,
    title: str,
    group_name: str,
    given_at: datetime,
) -> int:
    """Each of `users` has every one of `versions` in the library, held by way of `origin_key`.

    `users` is a `values_list` of one column of user ids, of any size: two INSERT … SELECT a version, however
    many people. Returns how many holdings are new. Twice: none; a holding that was ended stays ended.
    """
    [user_id] = users.query.values_select
    added = 0
    with transaction.atomic():
        for version in versions:
            insert_from(
                users.values_list(user_id, Value(version.bundle_id), Value(given_at)),
                LibraryEntry,
                ["user", "bundle", "added_at"],
            )
            entries = LibraryEntry.objects.filter(bundle=version.bundle_id, user__in=users)
            added += insert_from(
                entries.values_list(
                    F("pk"),
                    Value(version.pk),
                    Value(origin_key),
                    Value(title),
                    Value(group_name),
                    Value(given_at),
                ),
                Holding,
                ["entry", "version", "origin_key", "title", "group_name", "given_at"],
            )
    return added


def end_holdings(
    origin_key: str, *, users: QuerySet[Any, Any] | None = None, reason: str, now: datetime
) -> int:
    """What came by `origin_key` gives no right any more, for `users` (ids) or for everybody; `reason` is shown.

    Entries that came in other ways too keep those. Returns how many ended. Twice: the first moment stays.
    """
    live = Holding.objects.live().filter(origin_key=origin_key)
    if users is None:
        return live.update(ended_at=now, reason=reason)
    with by_keys():
        # Their entries first, by number: nobody comes from an origin, so a join may walk through everybody's holdings.
        entries = LibraryEntry.objects.filter(user__in=users).by(live).values_list("pk", flat=True)
        return live.filter(among("entry_id", entries)).update(ended_at=now, reason=reason)


def holds_all(
    versions: Sequence[BundleVersion], user_id: str = "account_id", *, before: datetime | None = None
) -> Q:
    """Whether the outer row's `user_id` holds every one of `versions` already; of none, nobody does.

    With `before`, only what came earlier than that counts: a release being given is not held already by itself.
    """
    if not versions:
        return Q(pk__in=[])
    held = Holding.objects.live()
    if before is not None:
        # An entry is as old as its first holding: those a release has just made are ruled out by their entry alone.
        held = held.filter(given_at__lt=before, entry__added_at__lt=before)
    condition = Q()
    for version in versions:
        # Their entry first, by its key, then its holdings: as a join the planner may begin with everybody's.
        entry = LibraryEntry.objects.filter(user=OuterRef(OuterRef(user_id)), bundle=version.bundle_id)
        condition &= Q(Exists(held.filter(entry=Subquery(entry.values("pk")[:1]), version=version)))
    return condition
