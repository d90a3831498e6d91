from collections.abc import Iterable
from datetime import datetime
from typing import Final, Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.validators import validate_slug
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from groups.rights import RIGHTS, Right
from rows.work import Work, WorkQuerySet


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
    # Why, in words for the creator.
    paused_because = models.CharField(max_length=300, blank=True)

    objects = CreatorQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class Staff(models.Model):
    """A person who runs a creator, and how much of it is theirs to do (P2)."""

    class Role(models.TextChoices):
        OWNER = "owner", _("owner")
        MANAGER = "manager", _("manager")
        HELPER = "helper", _("helper")
        VIEWER = "viewer", _("viewer")

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="staff")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="staff_of")
    role = models.CharField(max_length=8, choices=Role, default=Role.OWNER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["creator", "user"], name="staff_once_a_creator")]
        verbose_name_plural = "staff"

    def __str__(self) -> str:
        return f"{self.user} at {self.creator}"

    def may(self, right: Right) -> bool:
        return right in RIGHTS[self.role]


class GroupQuerySet(models.QuerySet["Group"]):
    def run_by(self, user: User) -> Self:
        return self.filter(creator__staff__user=user)

    def live(self) -> Self:
        return self.filter(archived_at=None)

    def main(self) -> Self:
        return self.filter(parent=None)

    def reaching(self, groups: Iterable["Group"]) -> Self:
        """The live groups whose members receive what is shared with `groups` (P3).

        For a main group: itself and its sub groups; for a sub group: itself and its main group. So it is also
        the other way round: the groups whose releases a member of one of `groups` receives.
        """
        named = list(groups)
        ids = [group.pk for group in named]
        parents = [group.parent_id for group in named if group.parent_id]
        return self.live().filter(Q(pk__in=[*ids, *parents]) | Q(parent__in=ids))

    def tree_of(self, group: "Group") -> Self:
        """The main group of `group` and all its sub groups, archived ones too."""
        main_id = group.parent_id or group.pk
        return self.filter(Q(pk=main_id) | Q(parent=main_id))


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
    # How many of its own belonged when that was last counted, at which version; null: few enough to be counted anew
    # whenever somebody asks.
    people = models.PositiveBigIntegerField(null=True, editable=False)
    counted_version = models.PositiveBigIntegerField(default=0, editable=False)
    counted_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = GroupQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            # Without case: an import matches a tier's name to a group, and must not have to choose between two.
            models.UniqueConstraint(
                "creator",
                Lower("name"),
                condition=Q(parent=None, archived_at=None),
                name="main_group_name_once_a_creator",
            ),
            models.UniqueConstraint(
                "parent",
                Lower("name"),
                condition=Q(parent__isnull=False, archived_at=None),
                name="sub_group_name_once_a_group",
            ),
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("id")), name="group_is_not_its_own_parent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.parent.name} · {self.name}" if self.parent else self.name

    @property
    def main(self) -> "Group":
        return self.parent or self


class Said(models.Func):
    """What a contact is searched by: its address and its name, as `contact_by_words` holds them (migration 0006)."""

    template = "(%(expressions)s)"
    arg_joiner = " || ' ' || "
    output_field = models.TextField()


class ContactQuerySet(models.QuerySet["Contact"]):
    def run_by(self, user: User) -> Self:
        return self.filter(creator__staff__user=user)

    def called(self, words: str) -> Self:
        """Those with `words` in the address or in the name, whatever the case."""
        return self.alias(said=Said("address_key", "name")).filter(said__icontains=words)


class Contact(models.Model):
    """A person as one creator knows them: an address, a name, outside ids, perhaps an account."""

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="contacts")
    address_key = models.CharField(_("e-mail address"), max_length=254)
    name = models.CharField(_("name"), max_length=200, blank=True)
    # The remembered pair (L2): set by redeeming or by a verified address; survives a change of address.
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="contacts"
    )
    # Since when a list that was imported says that they want no mail. What they choose themselves outranks it.
    opted_out_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    objects = ContactQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "address_key"], name="contact_address_once_a_creator"),
        ]
        indexes = [
            # Read when an address is verified: which contacts of any creator wait for it.
            models.Index(fields=["address_key"], name="contact_by_address"),
            # Read by whoever plans and sends mail.
            models.Index(
                fields=["creator"], condition=Q(opted_out_at__isnull=False), name="contact_opted_out"
            ),
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


class ImportQuerySet(WorkQuerySet["Import"]):
    def run_by(self, user: User) -> Self:
        return self.filter(group__creator__staff__user=user)

    def underway(self) -> Self:
        """Those a worker has to bring on."""
        return self.filter(state__in=[Import.State.CHECKING, Import.State.APPLYING])

    def kept(self) -> Self:
        """Those whose file and rows are still there."""
        return self.exclude(stored_as="")


class Import(Work):
    """One file of members for one main group: recognised, checked (the dry run), then applied in pages."""

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
    # The name in the default storage; empty once file and rows are forgotten.
    stored_as = models.CharField(max_length=200, blank=True)
    # A key of groups.imports.formats.FORMATS.
    format = models.CharField(max_length=20)
    # How the bytes are read (groups.imports.reading.Layout), found once.
    layout = models.JSONField()
    # What the file holds, counted before anybody chose anything (groups.imports.survey.Survey).
    survey = models.JSONField()
    # What the person chose (groups.imports.mapping.Mapping); the next import of this group starts from it.
    mapping = models.JSONField()
    # The instant the file speaks of: who is listed belonged then.
    as_of = models.DateTimeField(null=True)
    # When those end who belong and are no longer listed; null keeps them.
    gone_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=10, choices=State, default=State.OPENED)
    # Why it was refused, in words for the person.
    reason = models.TextField(blank=True)
    # The verdicts in numbers (groups.services.imports.Summary).
    counts = models.JSONField(default=dict)
    # The line up to which the present state's work is committed.
    cursor = models.PositiveBigIntegerField(default=0)
    consented_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    objects = ImportQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group"], condition=Q(state="applying"), name="one_import_running_a_main_group"
            ),
        ]
        indexes = [
            # Read by the sweep.
            models.Index(
                fields=["lease_until"],
                condition=Q(state__in=["checking", "applying"]),
                name="import_underway",
            ),
            # Read by whoever forgets old ones.
            models.Index(fields=["created_at"], condition=~Q(stored_as=""), name="import_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} → {self.group}"


class ImportRowQuerySet(models.QuerySet["ImportRow"]):
    def accepted(self) -> Self:
        """Those that say that somebody is a member."""
        return self.filter(verdict__in=ImportRow.ACCEPTED)


class ImportRow(models.Model):
    """One row of an imported file and what it comes to."""

    class Verdict(models.TextChoices):
        NEW = "new", _("new")
        UNCHANGED = "unchanged", _("unchanged")
        CHANGED = "changed", _("name, address, end or wish for mail changed")
        MOVED = "moved", _("moves to another group")
        RETURNED = "returned", _("comes back")
        DUPLICATE = "duplicate", _("listed twice")
        SKIPPED = "skipped", _("not a member now")
        UNMAPPED = "unmapped", _("no group chosen for the tier")
        BAD = "bad", _("cannot be used")

    class Flag(models.TextChoices):
        NONE = "", _("nothing to note")
        SUPPRESSED = "suppressed", _("mail to this address has been stopped; they get the files all the same")
        TAKEN = "taken", _("the new address belongs to another contact of yours; the old one is kept")
        RELAY = "relay", _("a forwarding address, unlike the one they may sign in with")
        DISPOSABLE = "disposable", _("a throw-away address")
        ROLE = "role", _("an address that several people may read")
        CLEANED = "cleaned", _("invisible characters were taken out of the name, or it was cut")

    ACCEPTED: Final = (
        Verdict.NEW,
        Verdict.UNCHANGED,
        Verdict.CHANGED,
        Verdict.MOVED,
        Verdict.RETURNED,
    )

    # (import, line) below serves every reader that starts from the import.
    import_run = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="rows", db_index=False)
    # Where an editor shows the row in the file.
    line = models.PositiveBigIntegerField()
    verdict = models.CharField(max_length=10, choices=Verdict)
    flag = models.CharField(max_length=10, choices=Flag, blank=True)
    # Of a bad row: the column to blame, why, and the value, visible and cut. Skipped rows give their status.
    column = models.CharField(max_length=100, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    value = models.CharField(max_length=100, blank=True)
    address_key = models.CharField(max_length=254, blank=True)
    # The contact's address before this file, where the file brings a new one.
    former_address = models.CharField(max_length=254, blank=True)
    name = models.CharField(max_length=200, blank=True)
    outside_id = models.CharField(max_length=120, blank=True)
    tier = models.CharField(max_length=200, blank=True)
    # Whether the file says that they want mail; null: it does not say.
    wants_mail = models.BooleanField(null=True)
    target = models.ForeignKey(Group, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    contact = models.ForeignKey(
        Contact, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = ImportRowQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["import_run", "line"], name="import_row_once")]
        indexes = [
            # Read by the tabs of the dry run.
            models.Index(fields=["import_run", "verdict", "line"], name="import_row_by_verdict"),
            # Read while checking: is this person listed above already?
            models.Index(fields=["import_run", "address_key"], name="import_row_by_address"),
            models.Index(
                fields=["import_run", "outside_id"],
                condition=~Q(outside_id=""),
                name="import_row_by_outside_id",
            ),
            # Read by "no longer listed", contact by contact.
            models.Index(fields=["contact", "import_run"], name="import_row_by_contact"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.verdict}"


class MembershipQuerySet(models.QuerySet["Membership"]):
    def live(self, now: datetime) -> Self:
        """Those who belong at `now`: begun, and not ended or ending later."""
        return self.unended(now).filter(started_at__lte=now)

    def unended(self, now: datetime) -> Self:
        """Those that have not ended at `now`, whenever they began: what must end before another may begin."""
        return self.filter(Q(ended_at=None) | Q(ended_at__gt=now))

    def in_tree(self, group: Group) -> Self:
        """Those in the main group of `group` and in all its sub groups."""
        main_id = group.parent_id or group.pk
        return self.filter(Q(group=main_id) | Q(group__parent=main_id))


class Membership(models.Model):
    """A contact's dated time in a group, kept after it ends. An `ended_at` in the future is a planned end."""

    # membership_by_group below begins with it.
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="memberships", db_index=False)
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="memberships")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField()
    brought_by = models.ForeignKey(
        Import, null=True, blank=True, on_delete=models.SET_NULL, related_name="memberships", db_index=False
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
        indexes = [
            # Read by distribution's fan-out: a page of a group's contacts in their order.
            models.Index(fields=["group", "contact"], name="membership_by_group"),
            # Read by the group's page: who belongs, newest first; who left, the last first. Neither goes by `id` alone,
            # in whose order the database would walk back through everybody's.
            models.Index(fields=["group", "recorded_at", "id"], name="membership_newest"),
            models.Index(
                fields=["group", "ended_at", "id"],
                condition=Q(ended_at__isnull=False),
                name="membership_by_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contact} in {self.group}"
