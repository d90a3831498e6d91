from datetime import datetime
from typing import Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.validators import validate_slug
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from rows.lease import Lease, LeaseQuerySet


class CreatorQuerySet(models.QuerySet["Creator"]):
    def run_by(self, user: User) -> Self:
        return self.filter(staff__user=user)


class Creator(models.Model):
    """A brand people follow; run by its staff."""

    name = models.CharField(_("name"), max_length=80)
    slug = models.SlugField(
        _("address of your studio"), max_length=60, unique=True, validators=[validate_slug]
    )
    time_zone = models.CharField(_("time zone"), max_length=60, default="UTC")
    reply_to = models.EmailField(_("reply-to address"), max_length=254)
    postal_address = models.TextField(_("postal address"), max_length=500)
    created_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)

    objects = CreatorQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class Staff(models.Model):
    """A person who runs a creator. For now everybody here is an owner."""

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="staff")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="staff_of")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["creator", "user"], name="staff_once_a_creator")]

    def __str__(self) -> str:
        return f"{self.user} at {self.creator}"


class GroupQuerySet(models.QuerySet["Group"]):
    def run_by(self, user: User) -> Self:
        return self.filter(creator__staff__user=user)

    def live(self) -> Self:
        return self.filter(archived_at=None)

    def main(self) -> Self:
        return self.filter(parent=None)


class Group(models.Model):
    """An audience of a creator. A group without a parent is a main group; a sub group has one, never deeper."""

    class Kind(models.TextChoices):
        PATRONS = "patrons", _("Patrons")
        TRIBERS = "tribers", _("Tribers")
        PIONEERS = "pioneers", _("Pioneers")
        BACKERS = "backers", _("Backers")
        OTHER = "other", _("Other")

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="groups")
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="sub_groups"
    )
    name = models.CharField(_("name"), max_length=80)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.PATRONS)
    # Raised by everyone who changes a membership; releases that also go to late joiners compare it.
    roster_version = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = GroupQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["creator", "name"], condition=Q(parent=None), name="main_group_name_once_a_creator"
            ),
            models.UniqueConstraint(
                fields=["parent", "name"],
                condition=Q(parent__isnull=False),
                name="sub_group_name_once_a_group",
            ),
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("id")), name="group_is_not_its_own_parent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.parent.name} · {self.name}" if self.parent else self.name


class ContactQuerySet(models.QuerySet["Contact"]):
    def run_by(self, user: User) -> Self:
        return self.filter(creator__staff__user=user)


class Contact(models.Model):
    """A person as one creator knows them: an address, a name, outside ids, perhaps an account."""

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="contacts")
    address_key = models.CharField(_("e-mail address"), max_length=254)
    name = models.CharField(_("name"), max_length=200, blank=True)
    # The remembered pair (L2): set by redeeming or by a verified address; survives a change of address.
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="contacts"
    )
    created_at = models.DateTimeField()

    objects = ContactQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "address_key"], name="contact_address_once_a_creator"),
        ]
        indexes = [
            # Read when an address is verified: which contacts of any creator wait for it.
            models.Index(fields=["address_key"], name="contact_by_address"),
        ]

    def __str__(self) -> str:
        return self.name or self.address_key


class OutsideId(models.Model):
    """What another platform calls a contact: Patreon's `User ID` and the like. Matched before the address (P4)."""

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="+")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="outside_ids")
    source = models.CharField(max_length=20)
    value = models.CharField(max_length=120)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "source", "value"], name="outside_id_once_a_creator"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.value}"


class Import(Lease):
    """One file of members for one main group: read, checked (the dry run), then applied in pages."""

    class State(models.TextChoices):
        OPENED = "opened", _("waiting for your choices")
        CHECKING = "checking", _("being checked")
        CHECKED = "checked", _("checked")
        APPLYING = "applying", _("being applied")
        DONE = "done", _("done")
        REFUSED = "refused", _("refused")

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="imports")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    file_name = models.CharField(max_length=200)
    # The name in the default storage.
    stored_as = models.CharField(max_length=200)
    file_sha256 = models.CharField(max_length=64)
    # What was recognised and what the person chose: format, encoding, delimiter, columns, tiers, statuses, gone.
    mapping = models.JSONField(default=dict)
    as_of = models.DateTimeField(null=True)
    state = models.CharField(max_length=10, choices=State, default=State.OPENED)
    # Why it was refused, in words for the person.
    reason = models.TextField(blank=True)
    counts = models.JSONField(default=dict)
    cursor = models.PositiveBigIntegerField(default=0)
    consented_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group"], condition=Q(state="applying"), name="one_import_running_a_main_group"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} → {self.group}"


class ImportRow(models.Model):
    """One line of an imported file and what it comes to."""

    import_run = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="rows")
    number = models.PositiveBigIntegerField()
    verdict = models.CharField(max_length=12)
    reason = models.CharField(max_length=300, blank=True)
    column = models.CharField(max_length=120, blank=True)
    address_key = models.CharField(max_length=254, blank=True)
    name = models.CharField(max_length=200, blank=True)
    outside_id = models.CharField(max_length=120, blank=True)
    tier = models.CharField(max_length=200, blank=True)
    target = models.ForeignKey(Group, null=True, on_delete=models.SET_NULL, related_name="+")
    contact = models.ForeignKey(Contact, null=True, on_delete=models.SET_NULL, related_name="+")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["import_run", "number"], name="import_row_once")]

    def __str__(self) -> str:
        return f"line {self.number}: {self.verdict}"


class MembershipQuerySet(models.QuerySet["Membership"]):
    def live(self, now: datetime) -> Self:
        """Those who belong at `now`: begun, and not ended or ending later."""
        return self.filter(Q(ended_at=None) | Q(ended_at__gt=now), started_at__lte=now)


class Membership(models.Model):
    """A contact's dated time in a group, kept after it ends. An `ended_at` in the future is a planned end."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="memberships")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="memberships")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField()
    brought_by = models.ForeignKey(
        Import, null=True, blank=True, on_delete=models.SET_NULL, related_name="memberships"
    )

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group", "contact"], condition=Q(ended_at=None), name="one_open_membership_a_group"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(started_at__lt=F("ended_at")),
                name="membership_starts_before_it_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contact} in {self.group}"
