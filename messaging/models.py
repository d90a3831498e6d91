from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from distribution.models import Grant, Release
from groups.models import Contact, Creator, Group
from rows.lease import Lease, LeaseQuerySet


class Message(Lease):
    """The words that announce a release to its audience."""

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        CONFIRMED = "confirmed", _("scheduled")
        RUNNING = "running", _("being sent")
        DONE = "done", _("sent")

    release = models.OneToOneField(Release, on_delete=models.PROTECT, related_name="message")
    # Carried by the form that confirms: a double click is one message.
    request_id = models.UUIDField(null=True, unique=True)
    subject = models.CharField(_("subject"), max_length=150, blank=True)
    body = models.TextField(_("your words"), max_length=20_000, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    due_at = models.DateTimeField(null=True)
    # The keyset page of grants that deliveries were planned up to, and whether planning is complete.
    cursor = models.PositiveBigIntegerField(default=0)
    planned = models.PositiveBigIntegerField(default=0)
    planned_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    # Why it waits, in words for the creator (paused, the cap).
    waits_because = models.CharField(max_length=300, blank=True)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="draft") | Q(due_at__isnull=False, request_id__isnull=False),
                name="confirmed_message_has_its_time",
            ),
        ]
        indexes = [
            # Read by the sweep.
            models.Index(
                fields=["due_at"], condition=Q(state__in=["confirmed", "running"]), name="message_open"
            ),
        ]

    def __str__(self) -> str:
        return self.subject or str(_("Message without a subject"))


class Cadence(models.Model):
    """How often a group may be written to: the ceiling an admin set and the lower number its creator chose (M3)."""

    group = models.OneToOneField(Group, on_delete=models.CASCADE, related_name="cadence")
    ceiling_week = models.PositiveSmallIntegerField(_("ceiling in any 7 days"))
    ceiling_month = models.PositiveSmallIntegerField(_("ceiling in any 30 days"))
    chosen_week = models.PositiveSmallIntegerField(_("at most in any 7 days"))
    chosen_month = models.PositiveSmallIntegerField(_("at most in any 30 days"))

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(chosen_week__lte=F("ceiling_week"), chosen_month__lte=F("ceiling_month")),
                name="cadence_within_its_ceiling",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.chosen_week} in 7 days, {self.chosen_month} in 30"


class SendSlot(models.Model):
    """One use of a group's cap by one message, at the time it is or was sent; given back when `released_at` is set."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="slots")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="send_slots")
    at = models.DateTimeField()
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["message", "group"],
                condition=Q(released_at=None),
                name="slot_once_a_message_and_group",
            ),
        ]
        indexes = [
            # Read by the throttle: a group's slots around a time.
            models.Index(fields=["group", "at"], condition=Q(released_at=None), name="slot_by_group"),
        ]

    def __str__(self) -> str:
        return f"{self.message} in {self.group} at {self.at:%Y-%m-%d %H:%M}"


class Chunk(Lease):
    """Up to 500 deliveries of a message that one worker works through under a lease."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        DONE = "done", _("done")

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=4, choices=State, default=State.OPEN, db_default=State.OPEN)
    owner = models.CharField(max_length=120, blank=True, db_default="")
    not_before = models.DateTimeField(null=True)
    # Deliveries by state when the chunk was closed: the release page adds these up.
    tally = models.JSONField(default=dict)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="chunk_once_a_message")]
        indexes = [
            # Read by the sweep.
            models.Index(fields=["message", "not_before"], condition=Q(state="open"), name="chunk_open"),
        ]

    def __str__(self) -> str:
        return f"{self.message} chunk {self.number}"


class Delivery(models.Model):
    """One message to one address, and what became of it."""

    class State(models.TextChoices):
        PLANNED = "planned", _("waiting to be sent")
        SENDING = "sending", _("being handed over")
        ACCEPTED = "accepted", _("accepted by the mail system")
        FAILED = "failed", _("refused")
        UNKNOWN = "unknown", _("in doubt")
        SUPPRESSED = "suppressed", _("not sent: the address must not be written to")
        SKIPPED = "skipped", _("not sent")

    # A million rows a release: constraints that the judge's SQL checks instead, and no index without a reader.
    message = models.ForeignKey(
        Message, on_delete=models.PROTECT, related_name="deliveries", db_index=False, db_constraint=False
    )
    grant = models.ForeignKey(
        Grant, on_delete=models.PROTECT, related_name="deliveries", db_index=False, db_constraint=False
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.PROTECT, related_name="deliveries", db_index=False, db_constraint=False
    )
    # The chunk's number within the message.
    chunk = models.PositiveIntegerField()
    address_key = models.CharField(max_length=254)
    state = models.CharField(max_length=10, choices=State)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    not_before = models.DateTimeField(null=True)
    reason = models.CharField(max_length=300, blank=True, db_default="")
    provider_id = models.CharField(max_length=200, blank=True, db_default="")
    smtp_code = models.PositiveSmallIntegerField(null=True)
    changed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["message", "contact"], name="delivery_once_a_contact"),
            models.UniqueConstraint(fields=["message", "address_key"], name="delivery_once_an_address"),
        ]
        indexes = [
            # Read when a chunk opens and by every mail of it.
            models.Index(
                fields=["message", "chunk"],
                condition=Q(state__in=["planned", "sending"]),
                name="delivery_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.address_key}"


class Preference(models.Model):
    """What a contact wants to hear from a creator. No row means each release."""

    class Choice(models.TextChoices):
        EACH = "each", _("each release")
        NOTHING = "nothing", _("nothing")

    creator = models.ForeignKey(Creator, on_delete=models.CASCADE, related_name="+")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="+", db_index=False)
    choice = models.CharField(max_length=8, choices=Choice)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["contact", "creator"], name="preference_once_a_contact")
        ]

    def __str__(self) -> str:
        return f"{self.contact}: {self.choice}"
