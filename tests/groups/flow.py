"""An import from file to end, as its pages and its worker make it."""

from dataclasses import replace
from datetime import datetime

from django.core.files.base import ContentFile

from accounts.models import User
from groups.imports.mapping import Mapping
from groups.models import Contact, Group, Import, Membership
from groups.services import apply_import, check_import, choose_mapping, open_import, request_apply


def opened(group: Group, content: bytes, *, by: User, now: datetime, name: str = "members.csv") -> Import:
    return open_import(group, ContentFile(content, name=name), by=by, now=now)


def checked(
    group: Group, content: bytes, *, by: User, now: datetime, page: int = 2_000, **choices: object
) -> Import:
    """A finished dry run with what was guessed, and with `choices` of the mapping made otherwise."""
    run = opened(group, content, by=by, now=now)
    mapping = replace(Mapping.from_json(run.mapping), **choices)  # type: ignore[arg-type]
    choose_mapping(run, mapping, now=now)
    assert check_import(run.pk, now=now, page=page)
    run.refresh_from_db()
    return run


def applied(
    run: Import,
    *,
    by: User,
    now: datetime,
    gone_at: datetime | None = None,
    typed: str = "",
    page: int = 2_000,
) -> Import:
    request_apply(run, consent=True, gone_at=gone_at, typed=typed, by=by, now=now)
    assert apply_import(run.pk, now=now, page=page)
    run.refresh_from_db()
    return run


def state_of(group: Group) -> list[tuple[object, ...]]:
    """Everything an import writes about people, without the ids that differ from run to run."""
    held = Membership.objects.in_tree(group).order_by("contact__address_key", "started_at")
    return [
        ("membership", *row)
        for row in held.values_list(
            "contact__address_key", "contact__name", "group__name", "started_at", "ended_at"
        )
    ] + [
        ("contact", *row)
        for row in Contact.objects.filter(creator=group.creator)
        .order_by("address_key", "outside_ids__value")
        .values_list("address_key", "name", "account", "outside_ids__source", "outside_ids__value")
    ]
