from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from groups.models import Creator
from rows.work import Work, WorkQuerySet


class BundleQuerySet(models.QuerySet["Bundle"]):
    def live(self) -> Self:
        return self.filter(archived_at=None)

    def seen_by(self, user: User) -> Self:
        """What `user` runs, and what is in their library: whose covers they may see."""
        held = LibraryEntry.objects.filter(bundle=OuterRef("pk"), user=user)
        return self.filter(Q(Exists(held)) | Q(creator__in=Creator.objects.run_by(user)))


class Bundle(models.Model):
    """Files given together, private by nature: no shop, no public path."""

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="bundles")
    title = models.CharField(_("title"), max_length=120)
    description = models.TextField(_("description"), max_length=20_000, blank=True)
    licence = models.TextField(_("licence"), max_length=20_000, blank=True)
    cover = models.ImageField(upload_to="covers/", blank=True, max_length=200)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)
    # In how many libraries it was at `holders_at`; null: few enough to be counted anew whenever somebody asks.
    holders = models.PositiveBigIntegerField(null=True, editable=False)
    holders_at = models.DateTimeField(null=True, editable=False)

    objects = BundleQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.title

    @property
    def cover_url(self) -> str:
        """Where its picture is for those who may see it, another address for another picture; empty without one."""
        if not self.cover.name:
            return ""
        return f"{reverse('library:cover', args=[self.pk])}?v={self.cover.name[-13:-5]}"


class BundleVersionQuerySet(models.QuerySet["BundleVersion"]):
    def sealed(self) -> Self:
        return self.filter(sealed_at__isnull=False)

    def newest_of(self, bundle: OuterRef) -> Self:
        """What sealing the outer row's `bundle` would give now: its newest version that has a file."""
        return self.filter(bundle=bundle, files__isnull=False).order_by("-number")[:1]


class BundleVersion(models.Model):
    """One state of a bundle's files. While `sealed_at` is null it is being put together; sealed it never changes."""

    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    sealed_at = models.DateTimeField(null=True, blank=True)

    objects = BundleVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["bundle", "number"], name="version_number_once_a_bundle"),
            models.UniqueConstraint(
                fields=["bundle"], condition=Q(sealed_at=None), name="one_open_version_a_bundle"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.bundle} v{self.number}"


class Blob(models.Model):
    """The bytes of a file, stored once for each creator, named by their SHA-256.

    Once `dropped_at` is set no file may name it any more: its bytes are being deleted, and then the row.
    """

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    # What a ZIP says of each file: with it a ZIP's every byte is known before a blob is read.
    crc32 = models.PositiveBigIntegerField()
    # Random: a key that told the content would tell who else has it.
    storage_key = models.CharField(max_length=80, unique=True)
    created_at = models.DateTimeField()
    dropped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["creator", "sha256"], condition=Q(dropped_at=None), name="blob_once_a_creator"
            )
        ]

    def __str__(self) -> str:
        return self.sha256[:12]


class File(models.Model):
    """A name in a version: a safe relative path and the blob behind it."""

    version = models.ForeignKey(BundleVersion, on_delete=models.CASCADE, related_name="files")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="files")
    path = models.CharField(max_length=500)
    # Case-folded: two names that differ by case only overwrite one another on most people's disks.
    path_key = models.CharField(max_length=500)
    kind = models.CharField(max_length=10)
    warning = models.CharField(max_length=300, blank=True)
    added_at = models.DateTimeField()

    class Meta:
        ordering = ["path_key"]
        constraints = [
            models.UniqueConstraint(fields=["version", "path_key"], name="file_path_once_a_version")
        ]

    def __str__(self) -> str:
        return self.path


class UploadQuerySet(WorkQuerySet["Upload"]):
    def running(self) -> Self:
        """Neither placed nor given up: what keeps a version from being sealed."""
        return self.filter(state__in=[Upload.State.OPEN, Upload.State.VERIFYING])

    def to_check(self) -> Self:
        """Those that wait for a worker, oldest first."""
        return self.filter(state=Upload.State.VERIFYING).order_by("touched_at")


class Upload(Work):
    """A file on its way into a bundle, in parts (S3 multipart semantics), until it is verified and becomes a File."""

    class State(models.TextChoices):
        OPEN = "open", _("uploading")
        VERIFYING = "verifying", _("being checked")
        DONE = "done", _("done")
        REFUSED = "refused", _("refused")
        CANCELLED = "cancelled", _("cancelled")

    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="uploads")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    path = models.CharField(max_length=500)
    size = models.PositiveBigIntegerField()
    part_size = models.PositiveBigIntegerField()
    storage_key = models.CharField(max_length=80, unique=True)
    # Empty until the storage has said that it began.
    storage_upload_id = models.CharField(max_length=1100, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    reason = models.CharField(max_length=300, blank=True)
    file = models.ForeignKey(File, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    touched_at = models.DateTimeField()

    objects = UploadQuerySet.as_manager()

    class Meta:
        indexes = [
            # Read by the sweep: what waits for its check, what was abandoned.
            models.Index(
                fields=["state", "touched_at"],
                condition=Q(state__in=["open", "verifying"]),
                name="upload_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return self.path

    @property
    def part_count(self) -> int:
        return -(-self.size // self.part_size)

    def size_of_part(self, number: int) -> int:
        """Every part is full but the last; 0 for a number that no part of this upload has."""
        if not 1 <= number <= self.part_count:
            return 0
        return min(self.part_size, self.size - (number - 1) * self.part_size)


class UploadPart(models.Model):
    """One part of an upload that the storage has."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    size = models.PositiveBigIntegerField()
    etag = models.CharField(max_length=100)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["upload", "number"], name="part_once_an_upload")]

    def __str__(self) -> str:
        return f"{self.upload} part {self.number}"


class LibraryEntryQuerySet(models.QuerySet["LibraryEntry"]):
    def of(self, user: User) -> Self:
        return self.filter(user=user)

    def live(self) -> Self:
        """Entries that give a right: at least one holding has not ended."""
        return self.by(Holding.objects.live())

    def by(self, ways: "HoldingQuerySet") -> Self:
        """Entries that came by one of these `ways`."""
        # A value and not EXISTS: that may be made a join that begins with the holdings of everybody.
        way = ways.filter(entry=OuterRef("pk")).values("pk")
        return self.alias(way=Subquery(way[:1])).filter(way__isnull=False)

    def newest_first(self) -> Self:
        """By the last time it was given (`given_at`), through holdings that are live; together, in their order."""
        ways = Holding.objects.live().filter(entry=OuterRef("pk")).order_by("-given_at")
        return self.annotate(given_at=Subquery(ways.values("given_at")[:1])).order_by(
            F("given_at").desc(nulls_last=True), "pk"
        )


class LibraryEntry(models.Model):
    """A bundle in a person's library, however many ways it came."""

    # The unique pair serves whoever comes from a person; each index more slows the fan-out for all. So does each constraint: the key
    # to a person, who may go, has one; all rows of a fan-out name one bundle, which its release keeps.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="library", db_index=False
    )
    bundle = models.ForeignKey(
        Bundle, on_delete=models.PROTECT, related_name="entries", db_index=False, db_constraint=False
    )
    added_at = models.DateTimeField()

    objects = LibraryEntryQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "bundle"], name="entry_once_a_person")]
        indexes = [
            # Read by a bundle's page: how many hold it. Entries come bundle by bundle, so it grows at its end.
            models.Index(fields=["bundle"], name="entry_by_bundle"),
        ]
        verbose_name_plural = "library entries"

    def __str__(self) -> str:
        return f"{self.bundle} of {self.user}"


class HoldingQuerySet(models.QuerySet["Holding"]):
    def live(self) -> Self:
        return self.filter(ended_at=None)


class Holding(models.Model):
    """One way by which an entry came (`release:42`), live until ended: the right to download that version."""

    # The unique pair serves whoever comes from an entry; nobody comes from a version. No constraints: a holding is
    # written from its entry by one statement, of a version that its release keeps; a test's SQL looks for orphans.
    entry = models.ForeignKey(
        LibraryEntry,
        on_delete=models.CASCADE,
        related_name="holdings",
        db_index=False,
        db_constraint=False,
    )
    version = models.ForeignKey(
        BundleVersion,
        on_delete=models.PROTECT,
        related_name="holdings",
        db_index=False,
        db_constraint=False,
    )
    origin_key = models.CharField(max_length=40)
    title = models.CharField(max_length=120)
    group_name = models.CharField(max_length=200)
    given_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, blank=True, db_default="")

    objects = HoldingQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "origin_key"], name="holding_once_an_origin")]

    def __str__(self) -> str:
        return f"{self.entry} by {self.origin_key}"


class Download(models.Model):
    """Somebody took a version, whole as a ZIP or one file of it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    version = models.ForeignKey(
        BundleVersion, on_delete=models.PROTECT, related_name="downloads", db_index=False
    )
    file = models.ForeignKey(File, null=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField()

    class Meta:
        # Read by a release's page: who took it since they were last counted.
        indexes = [models.Index(fields=["version", "at"], name="download_by_version")]

    def __str__(self) -> str:
        return f"{self.user} took {self.version}"
