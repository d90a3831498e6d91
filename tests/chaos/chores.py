"""What people do in a run of work, as web requests would; `tests/chaos/staff.py` reads the orders.

Nobody rings a worker: what is not finished here is found by a sweep, or never.
"""

import hashlib
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from allauth.account.models import EmailAddress
from django.core.files.base import ContentFile
from django.utils import timezone

from accounts.models import User
from distribution.models import Release
from distribution.services import confirm_release, recall, recall_release, settle_waiting
from groups.imports.formats import plain
from groups.imports.mapping import Mapping
from groups.models import Creator, Group, Import
from groups.services import add_contact, choose_mapping, open_import, request_apply, start_membership
from library.models import Bundle, Upload
from library.services import uploads
from tests.chaos.lists import TIER, file_of, second_list
from tests.chaos.wrapping import in_pages

in_pages(recall.take_back_release)


def publish(release: int, owner: int) -> None:
    """For whoever belongs now, and for late joiners. Twice: it is confirmed already."""
    found, now = Release.objects.get(pk=release), timezone.now()
    if found.state == Release.State.DRAFT:
        confirm_release(found, publish_at=now, by=User.objects.get(pk=owner), now=now)


def take_back(release: int, owner: int) -> None:
    by = User.objects.get(pk=owner)
    recall_release(Release.objects.get(pk=release), because="It broke.", by=by, now=timezone.now())


def sign_up(addresses: Sequence[str]) -> None:
    """People verify their address: what waits for them is theirs, unless it is being taken back."""
    for address in addresses:
        user, _new = User.objects.get_or_create(email=address)
        EmailAddress.objects.get_or_create(
            user=user, email=address, defaults={"verified": True, "primary": True}
        )
        settle_waiting(user, now=timezone.now())


def bring_list(group: int, number: int, members: int, owner: int) -> dict[str, Any]:
    """This month's list is uploaded; its dry run is asked for."""
    now, found = timezone.now(), Group.objects.get(pk=group)
    run = Import.objects.filter(group=found, file_name="second.csv").first()
    if run is None:
        file = ContentFile(file_of(second_list(number, members)), name="second.csv")
        run = open_import(found, file, by=User.objects.get(pk=owner), now=now)
    if run.state == Import.State.OPENED:
        choose_mapping(run, replace(Mapping.from_json(run.mapping), tiers={plain(TIER): group}), now=now)
    return {"import": run.pk}


def apply_list(run: int, owner: int) -> None:
    """It is applied, and ends whoever is gone."""
    now, found = timezone.now(), Import.objects.get(pk=run)
    word, by = found.group.name, User.objects.get(pk=owner)
    request_apply(found, consent=True, gone_at=now, typed=word, by=by, now=now)


def join(creator: int, group: int, addresses: Sequence[str]) -> None:
    """Added by hand, each by itself, while other things go on."""
    for address in addresses:
        contact = add_contact(Creator.objects.get(pk=creator), address, "Joiner", now=timezone.now())
        start_membership(Group.objects.get(pk=group), contact, now=timezone.now())


def upload(creator: int, title: str, files: Sequence[tuple[str, int, int]], owner: int) -> dict[str, Any]:
    """Files come into a bundle: a path, a size and the luck that makes its bytes. Those called program-* are programs,
    those called half-* are never completed. Says what each of the others has to be.
    """
    bundle, _new = Bundle.objects.get_or_create(
        creator_id=creator, title=title, defaults={"created_at": timezone.now()}
    )
    by, expected = User.objects.get(pk=owner), {}
    for path, size, luck in files:
        data = random.Random(luck).randbytes(size)
        if path.startswith("program-"):
            data = b"MZ\0" + data[3:]
        elif not path.startswith("half-"):
            expected[path] = hashlib.sha256(data).hexdigest()
        # Pressed again after an error: this one is on its way already.
        if not Upload.objects.filter(bundle=bundle, path=path).exclude(state="open").exists():
            _send(bundle, path, data, by)
    return {"bundle": bundle.pk, "expected": expected}


def _send(bundle: Bundle, path: str, data: bytes, by: User) -> None:
    now = timezone.now()
    sent = uploads.open_upload(bundle, path, len(data), by=by, now=now)
    for number in range(1, sent.part_count + 1):
        part = data[(number - 1) * sent.part_size : number * sent.part_size]
        uploads.put_part(sent, number, io.BytesIO(part), len(part), now=now)
    if not path.startswith("half-"):
        uploads.complete_upload(sent, now=timezone.now())


ACTS: dict[str, Callable[..., dict[str, Any] | None]] = {
    act.__name__: act for act in (publish, take_back, sign_up, bring_list, apply_list, join, upload)
}
