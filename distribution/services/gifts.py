"""What a release puts into a library."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from distribution.models import Release
from library.services import add_holdings


def hand_over(release: Release, users: QuerySet[Any, Any], *, now: datetime) -> int:
    """The accounts whose ids `users` lists hold every version the release gives. Returns how many holdings are new.

    Twice: 0. An account known by two of the creator's contacts holds it once: both come by the same origin.
    """
    groups = release.audience_rows.select_related("group__parent")
    return add_holdings(
        users,
        versions=[item.version for item in release.items.select_related("version") if item.version],
        origin_key=release.origin_key,
        title=str(release),
        group_name=", ".join(str(row.group) for row in groups)[:200],
        given_at=now,
    )
