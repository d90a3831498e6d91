"""One draft and two who write it: what the other one left there, for whoever came second."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from distribution.models import Release
from messaging.models import Message


@dataclass(frozen=True)
class OtherDraft:
    """The draft as it is saved, where that is not what this page shows."""

    revision: int
    by: str
    at: datetime | None
    # What is different, and how it is saved.
    differs: list[tuple[str, str]]


def other_draft(message: Message, typed: dict[str, object]) -> OtherDraft:
    """The saved draft beside what was `typed`; `message` is freshly read."""
    release = message.release
    bundles = {item.bundle_id: item.bundle.title for item in release.items.select_related("bundle")}
    groups = {row.group_id: str(row.group) for row in release.audience_rows.select_related("group__parent")}
    # A reminder has words only.
    saved: dict[str, tuple[str, object, str]] = {
        "title": (_("Title"), release.title, release.title),
        "bundles": (_("What they get"), set(bundles), ", ".join(bundles.values())),
        "groups": (_("Who gets it"), set(groups), ", ".join(groups.values())),
        "rule": (_("And when somebody joins later?"), release.rule, str(Release.Rule(release.rule).label)),
        "subject": (_("Subject"), message.subject, message.subject),
        "body": (_("Your words"), message.body.replace("\r\n", "\n"), message.body),
    }
    return OtherDraft(
        revision=message.revision,
        by=str(message.saved_by or ""),
        at=message.saved_at,
        differs=[
            (label, shown or _("nothing"))
            for name, (label, value, shown) in saved.items()
            if name in typed and typed[name] != value
        ],
    )
