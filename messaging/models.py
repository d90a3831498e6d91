from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Count, F, Q
from django.utils.translation import gettext_lazy as _

from distribution.models import Grant, Release
from groups.models import Contact, Creator, Group
from rows.lease import Lease, LeaseQuerySet


class MessageQuerySet(LeaseQuerySet["Message"]):
    def due(self, now: datetime) -> Self:
        """Those with work left whose time has come and whose creator may send."""
        open_states = [Message.State.CONFIRMED, Message.State.RUNNING]
        return self.filter(state__in=open_states, due_at__lte=now, release__creator__paused_at=None)

    def running(self) -> Self:
        return self.filter(state=Message.State.RUNNING)


class Message(Lease):
    """The words that announce a release to its audience."""

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        # Its slot is charged; its deliveries are planned once the release's grants are there.
        CONFIRMED = "confirmed", _("scheduled")
        RUNNING = "running", _("being sent")
        DONE = "done", _("sent")

    release = models.OneToOneField(Release, on_delete=models.PROTECT, related_name="message")
    # Carried by the form that confirms: a double click is one message.
    request_id = models.UUIDField(null=True, blank=True, unique=True)
    subject = models.CharField(_("subject"), max_length=150, blank=True)
    body = models.TextField(_("your words"), max_length=20_000, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    # When there is next something to do for it: the scheduled time, or later when it has to wait.
    due_at = models.DateTimeField(null=True, blank=True)
    # Why it has to wait, in words for the creator.
    waits_because = models.CharField(max_length=300, blank=True)
    # The contact up to whom deliveries are planned, how many there are, and when planning was complete.
    cursor = models.PositiveBigIntegerField(default=0, editable=False)
    planned = models.PositiveBigIntegerField(default=0, editable=False)
    planned_at = models.DateTimeField(null=True, editable=False)
    # When its slots were used: from here on mails may be offered.
    started_at = models.DateTimeField(null=True, editable=False)
    done_at = models.DateTimeField(null=True, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="draft") | Q(due_at__isnull=False, request_id__isnull=False),
                name="confirmed_message_has_its_time",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "confirmed"], started_at=None)
                | Q(state__in=["running", "done"], planned_at__isnull=False, started_at__isnull=False),
                name="started_message_is_planned",
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

    # The key itself, so that locking in id order is locking in the groups' order.
    group = models.OneToOneField(Group, on_delete=models.CASCADE, primary_key=True, related_name="cadence")
    ceiling_week = models.PositiveSmallIntegerField(_("ceiling in any 7 days"))
    ceiling_month = models.PositiveSmallIntegerField(_("ceiling in any 30 days"))
    chosen_week = models.PositiveSmallIntegerField(_("at most in any 7 days"))
    chosen_month = models.PositiveSmallIntegerField(_("at most in any 30 days"))

    class Meta:
        verbose_name_plural = "cadences"
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    chosen_week__gte=1,
                    chosen_month__gte=1,
                    chosen_week__lte=F("ceiling_week"),
                    chosen_month__lte=F("ceiling_month"),
                ),
                name="cadence_within_its_ceiling",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.chosen_week} in 7 days, {self.chosen_month} in 30"


class SendSlot(models.Model):
    """One use of a group's cap by one message, at the time it is or was sent; given back when `released_at` is set."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="slots")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="send_slots", db_index=False)
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
    """About 500 deliveries of a message, those to a range of contacts, that one worker works through under a lease.

    A range and not a column on each delivery: `delivery_once_a_contact` then serves everything a chunk asks, and
    a delivery that changes its state touches no index.
    """

    class State(models.TextChoices):
        OPEN = "open", _("open")
        DONE = "done", _("done")

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    # Its contacts: after < id <= until.
    after = models.PositiveBigIntegerField()
    until = models.PositiveBigIntegerField()
    state = models.CharField(max_length=4, choices=State, default=State.OPEN)
    owner = models.CharField(max_length=120, blank=True)
    not_before = models.DateTimeField(null=True)
    # Deliveries by state, as of planning and of every time a worker lets go of it.
    tally = models.JSONField(default=dict)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="chunk_once_a_message")]
        indexes = [
            # Read by whoever looks for work.
            models.Index(fields=["number", "message"], condition=Q(state="open"), name="chunk_open"),
        ]

    def __str__(self) -> str:
        return f"{self.message} chunk {self.number}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def of(self, chunk: Chunk) -> Self:
        """The deliveries of a chunk, in its order."""
        return self.filter(
            message=chunk.message_id, contact_id__gt=chunk.after, contact_id__lte=chunk.until
        ).order_by("contact_id")

    def tally(self) -> dict[str, int]:
        """How many there are in each state."""
        return dict(self.order_by().values_list("state").annotate(number=Count("pk")))


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

    class Reason(models.TextChoices):
        """Why, in our own words. Other reasons are what a mail system said, kept as it said it."""

        SUPPRESSED = "suppressed", _("mail to this address came back, or its owner complained")
        NO_MAIL = "no_mail", _("asked for no mail")
        HOLDS_ALL = "holds_all", _("holds all of it already")
        SAME_ADDRESS = "same_address", _("this message goes to the same address already")
        WORKER_LOST = "worker_lost", _("a worker was stopped while handing it over: it may have arrived")

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
    address_key = models.CharField(max_length=254)
    state = models.CharField(max_length=10, choices=State)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Not tried again before this.
    not_before = models.DateTimeField(null=True)
    # When it was offered for the first time: the mail's Date, the same on every attempt.
    offered_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=300, blank=True, db_default="")
    provider_id = models.CharField(max_length=200, blank=True, db_default="")
    smtp_code = models.PositiveSmallIntegerField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["message", "contact"], name="delivery_once_a_contact"),
            models.UniqueConstraint(fields=["message", "address_key"], name="delivery_once_an_address"),
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.address_key}"

    @property
    def said(self) -> str:
        """The reason in words."""
        return str(Delivery.Reason(self.reason).label) if self.reason in Delivery.Reason else self.reason


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
