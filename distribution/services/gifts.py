"""What a release puts into a library."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from distribution.models import Release
from library.models import BundleVersion
from library.services import add_holdings


@dataclass(frozen=True)
class Gift:
    """What a confirmed release gives, and what the library says of where it came from."""

    origin_key: str
    title: str
    group_name: str
    versions: list[BundleVersion]

    @classmethod
    def of(cls, release: Release) -> "Gift":
        groups = release.audience_rows.select_related("group__parent")
        # Every writer takes the bundles in one order, or two releases of the same ones could wait for each other.
        items = release.items.order_by("bundle").select_related("version")
        return cls(
            origin_key=release.origin_key,
            title=str(release),
            group_name=", ".join(str(row.group) for row in groups)[:200],
            versions=[item.version for item in items if item.version],
        )

    def hand_over(self, users: QuerySet[Any, Any], *, now: datetime) -> int:
        """The accounts whose ids `users` lists hold every version. Returns how many accounts are new. Twice: 0.

        An account known by two of the creator's contacts holds it once: both come by the same origin.
        """
        added = add_holdings(
            users,
            versions=self.versions,
            origin_key=self.origin_key,
            title=self.title,
            group_name=self.group_name,
            given_at=now,
        )
        return added // len(self.versions)
