"""Creators: becoming one, and being let, paused and resumed by the installation."""

import re
from datetime import datetime
from zoneinfo import available_timezones

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.addresses import address_key
from accounts.models import User
from accounts.services import record
from groups.imports.values import read_name
from groups.models import Creator, Staff


class ByInvitationOnly(Exception):
    """On this installation an admin makes the creators."""


class SlugTaken(Exception):
    """Another creator has this address of a studio."""


class DetailsMissing(Exception):
    """A creator needs a name, an address to answer to, a time zone and a postal address."""


def create_creator(
    user: User, *, name: str, slug: str, time_zone: str, reply_to: str, postal_address: str, now: datetime
) -> Creator:
    """`user` owns a new creator; it may send at once where the installation is open, else once approved.

    Twice: refused the second time, as the slug is taken.
    Raises `ByInvitationOnly`, `SlugTaken`, `DetailsMissing`, `AddressRefused` and `ValueRefused`.
    """
    if settings.CREATORS == "invited" and not user.is_staff:
        raise ByInvitationOnly(_("On this site creators are invited. Write to the people who run it."))
    clean, place = read_name(name).text, postal_address.strip()
    if not clean or not place:
        raise DetailsMissing(
            _("Give the name people know you by, and a postal address: mail law asks for one.")
        )
    if time_zone not in available_timezones():
        raise DetailsMissing(_("Choose a time zone from the list."))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
        raise DetailsMissing(_("The address of your studio takes small letters, digits and single hyphens."))
    with transaction.atomic():
        try:
            with transaction.atomic():
                creator = Creator.objects.create(
                    name=clean,
                    slug=slug,
                    time_zone=time_zone,
                    reply_to=address_key(reply_to),
                    postal_address=place,
                    created_at=now,
                    approved_at=now if settings.CREATORS == "open" else None,
                )
        except IntegrityError:
            raise SlugTaken(_("Somebody has “%(slug)s” already. Choose another.") % {"slug": slug}) from None
        Staff.objects.create(creator=creator, user=user)
        record(user, "created creator", creator.slug, creator_id=creator.pk, now=now)
    return creator


def approve_creator(creator: Creator, *, by: User, now: datetime) -> bool:
    """The creator may send. Returns whether this call approved it; twice: False."""
    with transaction.atomic():
        changed = Creator.objects.filter(pk=creator.pk, approved_at=None).update(approved_at=now)
        if changed:
            record(by, "approved creator", creator.slug, creator_id=creator.pk, now=now)
    return bool(changed)


def pause_creator(creator: Creator, because: str = "", *, by: User | None, now: datetime) -> bool:
    """Nothing of this creator's goes out until it is resumed; `because` tells them why, in words.

    `by` is nobody when a breaker did it. Returns whether this call paused it; twice: False, the first reason stays.
    """
    with transaction.atomic():
        running = Creator.objects.filter(pk=creator.pk, paused_at=None)
        changed = running.update(paused_at=now, paused_because=because[:300])
        if changed:
            subject = f"{creator.slug}: {because}" if because else creator.slug
            record(by, "paused creator", subject, creator_id=creator.pk, now=now)
    return bool(changed)


def resume_creator(creator: Creator, *, by: User, now: datetime) -> bool:
    """A paused creator may send again. Returns whether this call resumed it; twice: False."""
    with transaction.atomic():
        paused = Creator.objects.filter(pk=creator.pk, paused_at__isnull=False)
        changed = paused.update(paused_at=None, paused_because="")
        if changed:
            record(by, "resumed creator", creator.slug, creator_id=creator.pk, now=now)
    return bool(changed)
