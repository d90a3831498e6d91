"""A file's way into a bundle: opened, sent in parts, completed, verified by a worker, placed."""

import hashlib
import logging
import secrets
import time
import zlib
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from accounts.models import User
from groups.rights import Right
from groups.services.staff import require_right
from library.kinds import FileRefused, Finding, ProgramRefused, identify
from library.models import Blob, Bundle, File, Upload, UploadPart
from library.names import safe_path, shown
from library.programs import is_program
from library.services.quotas import hold_room_for
from library.services.versions import (
    BundleArchived,
    NameTaken,
    check_name_free,
    latest_version,
    open_version,
    place_file,
)
from library.storage import Part, PartsDiffer, Readable, StorageDown, UploadGone, storage
from library.zips import Reader
from rows.lease import keep_lease, take_lease
from rows.work import put_off

log = logging.getLogger(__name__)

MIB = 1024 * 1024
PART_SIZE, MAX_PARTS = 16 * MIB, 10_000
VERIFY_LEASE_SECONDS = 120
ABANDONED_AFTER = timedelta(hours=24)
State = Upload.State


class SizeRefused(Exception):
    """An empty file, or one larger than this installation takes."""


class WrongPart(Exception):
    """A part this upload does not have, or one of another length than it must have."""

    def __init__(self, number: int) -> None:
        super().__init__(_("Part %(number)d does not fit this upload.") % {"number": number})


class PartsMissing(Exception):
    """Parts that have to be sent before the upload is complete: `numbers`."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        super().__init__(_("%(n)d parts of this upload have not arrived yet.") % {"n": len(numbers)})


class UploadOver(Exception):
    """The upload takes no parts any more: it was completed, cancelled or refused."""

    def __init__(self) -> None:
        super().__init__(_("This upload is over. Start it again."))


class _LeaseLost(Exception):
    """Another worker has taken this upload over."""


def open_upload(bundle: Bundle, path: str, size: int, *, by: User | None, now: datetime) -> Upload:
    """An upload of `size` bytes, to become `path` in the bundle's open version, waits for its parts.

    Twice: two uploads; whichever is verified last is the file. Raises NameRefused, NameTaken, SizeRefused,
    FileRefused, BundleArchived, QuotaReached; then nothing was written. Raises StorageDown; then it is cancelled already.
    """
    require_right(by, Right.PREPARE, creator_id=bundle.creator_id)
    path = safe_path(path)
    if bundle.archived_at:
        raise BundleArchived
    if size < 1:
        raise SizeRefused(_("“%(path)s” is empty.") % {"path": shown(path)})
    if size > settings.UPLOAD_MAX_BYTES:
        words = {"path": shown(path), "limit": filesizeformat(settings.UPLOAD_MAX_BYTES)}
        raise SizeRefused(_("“%(path)s” is larger than %(limit)s, the most a file may have.") % words)
    if is_program(path):
        raise ProgramRefused(path)
    latest = latest_version(bundle)
    if latest:
        check_name_free(path, latest.files.exclude(path=path).values_list("path", flat=True))
    part_size = max(PART_SIZE, -(-size // (MAX_PARTS * MIB)) * MIB)
    # The row comes first: whatever the storage began, and could not say that it did, is found by its key.
    with transaction.atomic():
        hold_room_for(bundle.creator_id, size)
        upload = Upload.objects.create(
            bundle=bundle,
            by=by,
            path=path,
            size=size,
            part_size=part_size,
            storage_key=secrets.token_hex(20),
            created_at=now,
            touched_at=now,
        )
    try:
        upload.storage_upload_id = storage().create(upload.storage_key, part_size=part_size)
    except StorageDown:
        Upload.objects.filter(pk=upload.pk).update(state=State.CANCELLED)
        raise
    upload.save(update_fields=["storage_upload_id"])
    return upload


def put_part(
    upload: Upload, number: int, stream: Readable, size: int, *, sha256: str = "", now: datetime
) -> UploadPart:
    """The storage has part `number`, the `size` bytes of `stream`; nothing past them was read.

    Twice: the later one counts. A part that is too long or too short is refused before a byte is read. Raises
    WrongPart, UploadOver, and what the storage raises (PartCutShort, PartDamaged, PartOvertaken, StorageDown).
    """
    if upload.state != State.OPEN or not upload.storage_upload_id:
        raise UploadOver
    if size < 1 or size != upload.size_of_part(number):
        raise WrongPart(number)
    try:
        etag = storage().put_part(
            upload.storage_key, upload.storage_upload_id, number, stream, size, sha256=sha256
        )
    except UploadGone as gone:
        raise UploadOver from gone
    with transaction.atomic():
        # Cancelled while the bytes came? Then the row must not say that there is a part.
        if not Upload.objects.filter(pk=upload.pk, state=State.OPEN).update(touched_at=now):
            raise UploadOver
        part, _created = UploadPart.objects.update_or_create(
            upload=upload, number=number, defaults={"size": size, "etag": etag}
        )
    return part


def complete_upload(upload: Upload, *, now: datetime) -> None:
    """The upload waits for a worker's check (`verify_upload`); it takes no parts any more.

    Twice, or when it is done: nothing changes. Raises PartsMissing with what to send, then it can be tried
    again; UploadOver, StorageDown.
    """
    if upload.state in {State.VERIFYING, State.DONE}:
        return
    if upload.state != State.OPEN or not upload.storage_upload_id:
        raise UploadOver
    try:
        stored = storage().list_parts(upload.storage_key, upload.storage_upload_id)
    except UploadGone as gone:
        raise UploadOver from gone
    whole = {(part.number, part.size, part.etag) for part in stored}
    # Two tabs sent one part: the row may name the one that did not last. It has to be sent again.
    for row in upload.parts.all():
        if (row.number, row.size, row.etag) not in whole:
            row.delete()
    missing = sorted(
        set(range(1, upload.part_count + 1)) - set(upload.parts.values_list("number", flat=True))
    )
    if missing:
        raise PartsMissing(missing)
    Upload.objects.filter(pk=upload.pk, state=State.OPEN).update(state=State.VERIFYING, touched_at=now)


def verify_upload(upload_id: int, *, now: datetime) -> Upload.State:
    """The state the upload is in now: done and placed, or refused with the reason; verifying if it must wait.

    The parts are joined and read once through SHA-256; the bytes, not the browser, say what they are and how
    many. Content the creator has already is stored once. Twice, or by two workers: one holds the lease, the
    other changes nothing; a killed worker's check is taken over from the start.
    """
    upload = Upload.objects.select_related("bundle").get(pk=upload_id)
    if upload.state != State.VERIFYING or take_lease(upload, seconds=VERIFY_LEASE_SECONDS) is None:
        return State(upload.state)
    try:
        digest, finding = _examine(upload)
        kept_key = _place(upload, digest, finding, now=now)
    except _LeaseLost:
        return State.VERIFYING
    except StorageDown as error:
        log.warning("upload %s waits: %s", upload.pk, type(error).__name__)
        put_off(upload, error)
        return State.VERIFYING
    except (FileRefused, NameTaken, BundleArchived, PartsDiffer, UploadGone) as refusal:
        if not _finish(upload, State.REFUSED, reason=str(refusal)[:300], now=now):
            return State.VERIFYING
        _drop_bytes(upload)
        return State.REFUSED
    if kept_key != upload.storage_key:
        _drop_bytes(upload)
    return State.DONE


def give_up_upload(upload: Upload, *, now: datetime) -> bool:
    """An upload whose check keeps going wrong is refused, in words, and its bytes are gone.

    Returns whether this call did that; twice, or when it was checked meanwhile: False, nothing changes.
    """
    waiting = Upload.objects.filter(pk=upload.pk, state=State.VERIFYING, epoch=upload.epoch)
    reason = _("We could not check this file: something on our side went wrong each time. Upload it again.")
    if not waiting.update(
        state=State.REFUSED, reason=reason, touched_at=now, lease_until=None, epoch=F("epoch") + 1
    ):
        return False
    _drop_bytes(upload)
    return True


def cancel_upload(upload: Upload, *, now: datetime) -> None:
    """The upload is cancelled and its bytes are gone. Twice: nothing changes.

    Raises UploadOver once it was completed: then it is a file, and files are removed.
    """
    if upload.state == State.CANCELLED:
        return
    if not Upload.objects.filter(pk=upload.pk, state=State.OPEN).update(
        state=State.CANCELLED, touched_at=now
    ):
        raise UploadOver
    _drop_bytes(upload)


def forget_abandoned_uploads(*, now: datetime) -> int:
    """Uploads untouched for a day are cancelled; those that ended a day ago are forgotten, and bytes they left.

    A row whose bytes cannot be deleted now stays another day: it alone knows where they lie. Returns how many rows
    it changed. Twice: the second finds nothing.
    """
    old = Upload.objects.filter(touched_at__lt=now - ABANDONED_AFTER).order_by("touched_at")
    abandoned = list(old.filter(state=State.OPEN)[:200])
    for upload in abandoned:
        try:
            cancel_upload(upload, now=now)
        except UploadOver:
            continue
    ended = list(old.filter(state__in=[State.DONE, State.REFUSED, State.CANCELLED])[:200])
    for upload in ended:
        # A worker killed between its commit and its tidying left a copy nobody names.
        kept = Blob.objects.filter(storage_key=upload.storage_key).exists()
        if kept or _drop_bytes(upload):
            upload.delete()
        else:
            Upload.objects.filter(pk=upload.pk).update(touched_at=now)
    return len(abandoned) + len(ended)


def forget_orphaned_blobs(*, now: datetime) -> int:
    """Bytes that no version names any more, a day after they came, are deleted. Returns how many blobs.

    The row is marked, the bytes go, the row goes: a store that is down, or a kill, at any point leaves a row that
    the next sweep goes on with.
    """
    orphans = Blob.objects.filter(files=None, dropped_at=None, created_at__lt=now - ABANDONED_AFTER)
    for blob in orphans.order_by("created_at")[:200]:
        with transaction.atomic():
            # The lock an upload of the same content takes before it names the blob.
            locked = Blob.objects.select_for_update().filter(pk=blob.pk, dropped_at=None).first()
            if locked is None or locked.files.exists():
                continue
            Blob.objects.filter(pk=blob.pk).update(dropped_at=now)
    forgotten = 0
    for blob in Blob.objects.exclude(dropped_at=None)[:200]:
        try:
            storage().delete(blob.storage_key)
        except StorageDown:
            log.warning("the bytes of blob %s stay for now", blob.pk)
            continue
        blob.delete()
        forgotten += 1
    return forgotten


@dataclass(frozen=True)
class _Digest:
    sha256: str
    crc32: int


def _examine(upload: Upload) -> tuple[_Digest, Finding]:
    """Join the parts and read them all: their digests, and what they are. Raises FileRefused and the storage's."""
    store = storage()
    parts = [Part(row.number, row.size, row.etag) for row in upload.parts.all()]
    store.complete(upload.storage_key, upload.storage_upload_id, parts)
    if store.size(upload.storage_key) != upload.size:
        raise FileRefused(_("“%(path)s” did not arrive whole. Upload it again.") % {"path": upload.path})
    sha256, crc32 = hashlib.sha256(), 0
    renewed = time.monotonic()
    with closing(store.open(upload.storage_key)) as chunks:
        for chunk in chunks:
            sha256.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            if time.monotonic() - renewed > VERIFY_LEASE_SECONDS / 4:
                if not keep_lease(upload, seconds=VERIFY_LEASE_SECONDS):
                    raise _LeaseLost
                renewed = time.monotonic()
    finding = identify(upload.path, upload.size, _reader(upload.storage_key))
    return _Digest(sha256.hexdigest(), crc32), finding


def _reader(key: str) -> Reader:
    return lambda start, length: b"".join(storage().open(key, start, start + length))


def _place(upload: Upload, digest: _Digest, finding: Finding, *, now: datetime) -> str:
    """In one transaction: the blob (the creator's first of this content, or ours), the file, the upload done.

    Returns the key of the bytes that are kept. The bundle is locked before the blob, as by whoever copies a
    version: rows that name a blob hold on to it.
    """
    with transaction.atomic():
        open_version(upload.bundle, now=now)
        blob = _blob_of(upload, digest, now=now)
        file = place_file(
            upload.bundle, upload.path, blob, kind=finding.kind, warning=finding.warning, now=now
        )
        if not _finish(upload, State.DONE, file=file, now=now):
            raise _LeaseLost
    return blob.storage_key


def _blob_of(upload: Upload, digest: _Digest, *, now: datetime) -> Blob:
    """The creator's one blob of this content, locked, so that nobody drops it before a file names it."""
    ours = Blob(
        creator_id=upload.bundle.creator_id,
        sha256=digest.sha256,
        crc32=digest.crc32,
        size=upload.size,
        storage_key=upload.storage_key,
        created_at=now,
    )
    same = Blob.objects.filter(creator_id=upload.bundle.creator_id, sha256=digest.sha256, dropped_at=None)
    while True:
        Blob.objects.bulk_create([ours], ignore_conflicts=True)
        # None if the one that was in our way is being dropped meanwhile: then there is room for ours.
        if blob := same.select_for_update().first():
            return blob


def _finish(
    upload: Upload, state: Upload.State, *, reason: str = "", file: File | None = None, now: datetime
) -> bool:
    """Whether it was still ours to finish."""
    ours = Upload.objects.filter(pk=upload.pk, epoch=upload.epoch, state=State.VERIFYING)
    return bool(ours.update(state=state, reason=reason, file=file, touched_at=now, lease_until=None))


def _drop_bytes(upload: Upload) -> bool:
    """Whether all it brought is gone; what stays is found again by `forget_abandoned_uploads`."""
    try:
        storage().abort(upload.storage_key, upload.storage_upload_id)
        storage().delete(upload.storage_key)
    except StorageDown:
        log.warning("the bytes of upload %s stay for now", upload.pk)
        return False
    return True
