from datetime import datetime, timedelta
from typing import Final, Self

from django.conf import settings
from django.db import models
from django.db.models import CharField, Exists, F, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Cast, Coalesce, Concat
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from groups.models import Contact, Creator, Group
from library.models import Bundle, BundleVersion
from rows.work import Work, WorkQuerySet


class ReleaseQuerySet(WorkQuerySet["Release"]):
    def run_by(self, user: User) -> Self:
        return self.filter(creator__staff__user=user)

    def due(self, now: datetime) -> Self:
        """Confirmed releases whose time has come and those a worker began and did not finish."""
        return self.filter(state__in=[Release.State.CONFIRMED, Release.State.GRANTING], publish_at__lte=now)

    def being_taken_back(self) -> Self:
        """Recalled ones that somebody's library may still hold."""
        return self.filter(state=Release.State.RECALLING)

    def to_count(self, now: datetime) -> Self:
        """Large ones that were given, and of which nobody counted for some time who redeemed and who downloaded."""
        young = Q(as_of__gt=now - timedelta(days=30), counted_at__lte=now - timedelta(minutes=20))
        due = Q(counted_at=None) | young | Q(counted_at__lte=now - timedelta(hours=6))
        given = [Release.State.PUBLISHED, Release.State.RECALLED]
        return self.filter(due, state__in=given, granted__gt=Release.FEW)

    def under_lease(self) -> Self:
        """Those that a worker is giving, or died giving."""
        return self.filter(lease_until__isnull=False)

    def behind(self) -> Self:
        """Published releases for late joiners, one of whose groups changed since that was last looked for."""
        changed = ReleaseAudience.objects.with_version().filter(~Q(version=F("version_seen")))
        return self.filter(
            Exists(changed.filter(release=OuterRef("pk"))),
            state=Release.State.PUBLISHED,
            rule=Release.Rule.LATE_JOINERS,
        )


class Release(Work):
    """Bundles for an audience at a time."""

    class Rule(models.TextChoices):
        AT_PUBLISHING = "at_publishing", _("members at the moment of publishing")
        LATE_JOINERS = "late_joiners", _("also whoever joins later")

    # Of a release for no more, all is counted whenever somebody asks: some milliseconds.
    FEW: Final = 10_000

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        CONFIRMED = "confirmed", _("scheduled")
        GRANTING = "granting", _("being given")
        PUBLISHED = "published", _("published")
        # Nobody gets it any more; it is taken out of the libraries, page by page.
        RECALLING = "recalling", _("being taken back")
        RECALLED = "recalled", _("recalled")

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="releases")
    title = models.CharField(_("title"), max_length=120, blank=True)
    rule = models.CharField(_("who gets it"), max_length=14, choices=Rule, default=Rule.AT_PUBLISHING)
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    publish_at = models.DateTimeField(null=True, blank=True)
    # The moment the audience was taken: set once, when granting begins.
    as_of = models.DateTimeField(null=True, editable=False)
    cursor = models.PositiveBigIntegerField(default=0, editable=False)
    # How many grants there are, and in how many libraries it was at once.
    granted = models.PositiveBigIntegerField(default=0, editable=False)
    held = models.PositiveBigIntegerField(default=0, editable=False)
    # How many had redeemed it and how many had downloaded it up to `counted_at`; null: nobody has counted yet.
    redeemed = models.PositiveBigIntegerField(default=0, editable=False)
    downloaded = models.PositiveBigIntegerField(default=0, editable=False)
    counted_at = models.DateTimeField(null=True, editable=False)
    # Taken back from everybody, and what the library says about that.
    recalled_at = models.DateTimeField(null=True, editable=False)
    recalled_because = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="draft") | Q(publish_at__isnull=False),
                name="confirmed_release_has_its_time",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "confirmed"]) | Q(as_of__isnull=False),
                name="granting_release_has_its_moment",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["recalling", "recalled"]) | Q(recalled_at__isnull=False),
                name="recalled_release_has_its_moment",
            ),
        ]
        indexes = [
            # Read by the sweep.
            models.Index(
                fields=["publish_at"],
                condition=Q(state__in=["confirmed", "granting", "recalling"]),
                name="release_due",
            ),
        ]

    def __str__(self) -> str:
        return self.title or str(_("Untitled release"))

    @property
    def origin_key(self) -> str:
        """What the library calls this way of coming by something."""
        return f"release:{self.pk}"

    @staticmethod
    def origin_key_of(release_id: OuterRef) -> Concat:
        """The same of the release that an outer row names."""
        return Concat(Value("release:"), Cast(release_id, CharField()), output_field=CharField())


class ReleaseItemQuerySet(models.QuerySet["ReleaseItem"]):
    def with_newest(self) -> Self:
        """`newest`: the number of the bundle's newest version that has a file."""
        newest = BundleVersion.objects.newest_of(OuterRef("bundle"))
        return self.annotate(newest=Subquery(newest.values("number")))


class ReleaseItem(models.Model):
    """A bundle in a release, and from confirming on the version of it that is given."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="items")
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, related_name="release_items")
    version = models.ForeignKey(
        BundleVersion, null=True, on_delete=models.PROTECT, related_name="release_items"
    )
    # Only on rows that `with_newest` found.
    newest: int | None

    objects = ReleaseItemQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["release", "bundle"], name="bundle_once_a_release")]

    def __str__(self) -> str:
        return f"{self.bundle} in {self.release}"


class ReleaseAudienceQuerySet(models.QuerySet["ReleaseAudience"]):
    def with_version(self) -> Self:
        """`version`: the sum of the roster versions of every group the named one reaches, now."""
        reached = Group.objects.live().filter(
            Q(pk=OuterRef("group")) | Q(parent=OuterRef("group")) | Q(pk=OuterRef("group__parent"))
        )
        total = reached.order_by().values(all=Value(1)).annotate(total=Sum("roster_version"))
        return self.annotate(version=Coalesce(Subquery(total.values("total")), 0))


class ReleaseAudience(models.Model):
    """A group that a release names."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="audience_rows")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="release_rows")
    # The sum of the roster versions of every group this one reaches, when late joiners were last looked for.
    version_seen = models.PositiveBigIntegerField(default=0)
    # Only on rows that `with_version` found.
    version: int

    objects = ReleaseAudienceQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["release", "group"], name="group_once_a_release")]

    def __str__(self) -> str:
        return f"{self.release} for {self.group}"


class Grant(models.Model):
    """A contact's right to a release. Never deleted."""

    # No index of their own: the unique pair serves both readers, and each more costs the fan-out 20–45 %. The key to
    # the release has no constraint either: a million rows name one release, which is never deleted once confirmed,
    # and checking that costs 15 %. A test's SQL looks for orphans.
    release = models.ForeignKey(
        Release, on_delete=models.PROTECT, related_name="grants", db_index=False, db_constraint=False
    )
    contact = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="grants", db_index=False)
    generation = models.PositiveSmallIntegerField(default=1, db_default=1)
    granted_at = models.DateTimeField()
    redeemed_at = models.DateTimeField(null=True)
    redeemed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    # Taken back from this one person.
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["release", "contact"], name="grant_once_a_contact")]
        indexes = [
            # Read by the release's pages: how many redeemed since they were last counted, and who.
            models.Index(
                fields=["release", "redeemed_at", "id"],
                condition=Q(redeemed_at__isnull=False),
                name="grant_redeemed",
            ),
            # Read by the list of those it was taken back from.
            models.Index(
                fields=["release", "contact"], condition=Q(revoked_at__isnull=False), name="grant_revoked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} for {self.contact}"
