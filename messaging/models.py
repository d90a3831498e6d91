from collections.abc import Iterable
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from distribution.models import Grant, Release
from groups.models import Contact, Creator, Group
from rows.lease import Lease, LeaseQuerySet
from rows.work import Work, WorkQuerySet


class MessageQuerySet(LeaseQuerySet["Message"]):
    def due(self, now: datetime) -> Self:
        """Those with work left whose time has come and whose creator may send."""
        open_states = [Message.State.CONFIRMED, Message.State.RUNNING]
        not_recalled = Q(release__recalled_at=None) | Q(kind=Message.Kind.DIGEST)
        return self.filter(
            not_recalled, state__in=open_states, due_at__lte=now, release__creator__paused_at=None
        )

    def running(self) -> Self:
        return self.filter(state=Message.State.RUNNING)

    def to_clear(self) -> Self:
        """Cancelled ones with a chunk still open, or with somebody still held for a digest."""
        still_open = Q(Exists(Chunk.objects.filter(message=OuterRef("pk"), state=Chunk.State.OPEN)))
        return self.filter(still_open | Q(held__gt=0), state=Message.State.CANCELLED)

    def announcing(self, releases: Iterable[Release]) -> Self:
        return self.filter(kind=Message.Kind.ANNOUNCEMENT, release__in=releases)


class Message(Lease):
    """The words that tell of a release.

    A digest tells each person of all that waits for them; it belongs to the newest of those releases (M1).
    """

    class Kind(models.TextChoices):
        ANNOUNCEMENT = "announcement", _("announcement")
        REMINDER = "reminder", _("reminder")
        DIGEST = "digest", _("digest")

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        # Its slot is charged; its deliveries are planned once the release's grants are there.
        CONFIRMED = "confirmed", _("scheduled")
        RUNNING = "running", _("being sent")
        PAUSED = "paused", _("paused")
        DONE = "done", _("sent")
        CANCELLED = "cancelled", _("cancelled")

    kind = models.CharField(max_length=12, choices=Kind, default=Kind.ANNOUNCEMENT)
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="messages")
    # Carried by the form that confirms: a double click is one message.
    request_id = models.UUIDField(null=True, blank=True, unique=True)
    subject = models.CharField(_("subject"), max_length=150, blank=True)
    body = models.TextField(_("your words"), max_length=20_000, blank=True)
    # Raised with every save of the draft, its files and its audience too; who saved it last, and on which open page.
    revision = models.PositiveIntegerField(default=0, editable=False)
    saved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    saved_at = models.DateTimeField(null=True, editable=False)
    saved_from = models.UUIDField(null=True, editable=False)
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
    # When a chunk of it was last opened or let go.
    moved_at = models.DateTimeField(null=True, editable=False)
    # When it last got further, or was not meant to; and since when it is known to stand still (the stall monitor).
    progress_at = models.DateTimeField(null=True, editable=False)
    stalled_at = models.DateTimeField(null=True, editable=False)
    # How many of its deliveries wait for a digest; came back for good; were complained about (the breakers, M7).
    held = models.PositiveBigIntegerField(default=0, editable=False)
    bounced = models.PositiveBigIntegerField(default=0, editable=False)
    complained = models.PositiveBigIntegerField(default=0, editable=False)
    # When a breaker stopped its creator over it. Once: whoever resumes them has seen it.
    tripped_at = models.DateTimeField(null=True, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["release", "kind"],
                condition=Q(kind__in=["announcement", "reminder"]),
                name="message_once_a_release_and_kind",
            ),
            models.CheckConstraint(
                condition=Q(state="draft") | Q(due_at__isnull=False, request_id__isnull=False),
                name="confirmed_message_has_its_time",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "confirmed"], started_at=None)
                | Q(state__in=["running", "done"], planned_at__isnull=False, started_at__isnull=False)
                | Q(state__in=["paused", "cancelled"]),
                name="started_message_is_planned",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["done", "cancelled"], done_at__isnull=False)
                | (~Q(state__in=["done", "cancelled"]) & Q(done_at=None)),
                name="ended_message_says_when",
            ),
            models.CheckConstraint(
                condition=~Q(state="draft")
                | Q(planned_at=None, moved_at=None, progress_at=None, stalled_at=None, waits_because=""),
                name="draft_message_has_no_past",
            ),
        ]
        indexes = [
            # Read by the sweep.
            models.Index(
                fields=["due_at"], condition=Q(state__in=["confirmed", "running"]), name="message_open"
            ),
            # Read by whoever plans a digest.
            models.Index(fields=["release"], condition=Q(held__gt=0), name="message_holding"),
        ]

    def __str__(self) -> str:
        return self.subject or str(_("Message without a subject"))


class DryRunQuerySet(WorkQuerySet["DryRun"]):
    def asked(self) -> Self:
        """Those of a draft that are not counted yet, first asked first."""
        return self.filter(done_at=None, message__state=Message.State.DRAFT).order_by("asked_at")


class DryRun(Work):
    """A draft's dry run (R3) that is too large to be counted while a page is made: a worker counts it, page by page."""

    message = models.OneToOneField(
        Message, on_delete=models.CASCADE, primary_key=True, related_name="dry_run"
    )
    # A digest of what the answer hangs on: other files, other groups or another time ask anew.
    question = models.CharField(max_length=64)
    # The rosters count as they stood then, and mails as sent at `at`.
    asked_at = models.DateTimeField()
    at = models.DateTimeField()
    # How many people there are, once that is known; how many are counted, by reason; and up to which contact.
    people = models.PositiveBigIntegerField(null=True)
    counts = models.JSONField(default=dict)
    cursor = models.PositiveBigIntegerField(default=0)
    done_at = models.DateTimeField(null=True)

    objects = DryRunQuerySet.as_manager()

    class Meta:
        indexes = [
            # Read by the sweep.
            models.Index(fields=["asked_at"], condition=Q(done_at=None), name="dry_run_open"),
        ]

    def __str__(self) -> str:
        return f"dry run of {self.message}"

    @property
    def counted(self) -> int:
        return sum(self.counts.values())


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
    """About 1,000 deliveries of a message, those to a range of contacts, that one worker works through under a lease.

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

    def due(self, now: datetime) -> Self:
        """Those to be offered now."""
        may = Q(not_before=None) | Q(not_before__lte=now)
        return self.filter(may, state=Delivery.State.PLANNED)

    def with_recipient(self) -> Self:
        """`to_name` and `generation`: what a mail says of its recipient. Whole rows of theirs would cost as much as it."""
        return self.annotate(to_name=F("contact__name"), generation=F("grant__generation"))

    def tally(self) -> dict[str, int]:
        """How many there are in each state."""
        return dict(self.order_by().values_list("state").annotate(number=Count("pk")))


class Delivery(models.Model):
    """One message to one address, and what became of it."""

    class State(models.TextChoices):
        PLANNED = "planned", _("waiting to be sent")
        SENDING = "sending", _("being handed over")
        ACCEPTED = "accepted", _("accepted by the mail system")
        DELIVERED = "delivered", _("delivered")
        BOUNCED = "bounced", _("came back")
        COMPLAINED = "complained", _("reported as spam")
        FAILED = "failed", _("refused")
        UNKNOWN = "unknown", _("in doubt")
        SUPPRESSED = "suppressed", _("not sent: the address must not be written to")
        SKIPPED = "skipped", _("not sent")
        CANCELLED = "cancelled", _("taken back before it was sent")
        HELD = "held", _("waiting for the digest")

    class Reason(models.TextChoices):
        """Why, in our own words. Other reasons are what a mail system said, kept as it said it."""

        SUPPRESSED = "suppressed", _("mail to this address came back, or its owner complained")
        NO_MAIL = "no_mail", _("asked for no mail")
        HOLDS_ALL = "holds_all", _("holds all of it already")
        SAME_ADDRESS = "same_address", _("this message goes to the same address already")
        WORKER_LOST = "worker_lost", _("a worker was stopped while handing it over: it may have arrived")
        RESTORED = "restored", _("the database was put back to an earlier day: it may have arrived")
        CAP = "cap", _("has had as many mails as anybody gets in 7 days")
        WEEKLY = "weekly", _("asked for one mail a week")
        MERGED = "merged", _("told in another mail of yours")
        REDEEMED = "redeemed", _("has redeemed it")
        LEFT = "left", _("is not a member any more")
        REVOKED = "revoked", _("the files were taken back")
        CANCELLED = "cancelled", _("the message was cancelled")
        UNWRITABLE = "unwritable", _("a mail to this person could not be written")

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
    # When its person's cap was charged for it (M4): once, however often its chunk is opened.
    charged_at = models.DateTimeField(null=True)
    # The delivery whose mail tells of this one too (M5).
    told_in = models.PositiveBigIntegerField(null=True)
    # Only on rows that `with_recipient` found.
    to_name: str
    generation: int
    # Of one that went in a call with others: the first of them. It and the order name the call's key.
    wave = models.PositiveBigIntegerField(null=True)
    # The way out by which it was offered last: what became of it is asked there and nowhere else.
    offered_by = models.CharField(max_length=12, blank=True, db_default="")
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
        indexes = [
            # Read when a mail is made: what else it tells of.
            models.Index(
                fields=["told_in"], condition=Q(told_in__isnull=False), name="delivery_told_elsewhere"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.address_key}"

    @property
    def written_to(self) -> str:
        """The address that its mail went to; until it is offered, that of its person now. Of one with its contact."""
        waits = self.state in {Delivery.State.PLANNED, Delivery.State.HELD} or "@" not in self.address_key
        return self.contact.address_key if waits else self.address_key

    @property
    def said(self) -> str:
        """The reason in words."""
        return str(Delivery.Reason(self.reason).label) if self.reason in Delivery.Reason else self.reason


class Preference(models.Model):
    """What a contact wants to hear from a creator. No row means each release."""

    class Choice(models.TextChoices):
        EACH = "each", _("each release")
        WEEKLY = "weekly", _("one mail a week")
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


class RecentMail(models.Model):
    """When one address was last written to by one creator, or by anybody here (M4)."""

    # The creator's id; 0: whoever it was.
    sender = models.PositiveBigIntegerField()
    address_key = models.CharField(max_length=254)
    # Newest first, each a space and thirteen digits: milliseconds since 1970. As many as the cap and no more.
    times = models.CharField(max_length=14 * 40)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["address_key", "sender"], name="recent_mail_once_a_sender")
        ]

    def __str__(self) -> str:
        return f"{self.address_key} from {self.sender or 'anybody'}"


class Ramp(models.Model):
    """How many a new creator may write to in a day, on an installation with several (M7)."""

    creator = models.OneToOneField(Creator, on_delete=models.CASCADE, primary_key=True, related_name="ramp")
    # How many clean days are behind them; with the last one the ramp ends.
    stage = models.PositiveSmallIntegerField(default=0)
    # The 24 hours that are counted now, and how many were written to in them.
    day_began_at = models.DateTimeField(null=True)
    used = models.PositiveIntegerField(default=0)
    # An admin said they need none.
    lifted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.creator}: stage {self.stage}"


class Gate(models.Model):
    """The one row that everything to be offered passes: whether this installation may send, and how fast."""

    # Which installation this database belongs to; compared with what the environment says.
    installation = models.CharField(max_length=64)
    # By what name its beat is kept outside the database: a new one for each database and after each unlocking.
    birth = models.CharField(max_length=32)
    # The server and the database in it, as PostgreSQL itself tells them apart; empty where it does not say.
    place = models.CharField(max_length=60, blank=True)
    # Grows whenever anybody looks for mails to send, and is kept outside the database too: a restored one is behind.
    beat = models.PositiveBigIntegerField(default=0)
    beaten_at = models.DateTimeField(null=True)
    # Closed until an operator opens it.
    locked_at = models.DateTimeField(null=True)
    locked_because = models.CharField(max_length=300, blank=True)
    # Closed until then: nobody is let in by the mail system now.
    rests_until = models.DateTimeField(null=True)
    rests_because = models.CharField(max_length=300, blank=True)
    # Before then no further mail is due by the mail system's rate.
    next_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_gate")]

    def __str__(self) -> str:
        return self.installation


class ProviderAnswer(models.Model):
    """How often a way out gave one kind of answer, for the metrics. A worker that is killed forgets its last chunk's."""

    provider = models.CharField(max_length=40)
    kind = models.CharField(max_length=20)
    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "kind"], name="answer_once_a_kind")]

    def __str__(self) -> str:
        return f"{self.provider} {self.kind}: {self.number}"


class ProviderEvent(models.Model):
    """What a provider said about a mail, as it said it, kept once."""

    class Kind(models.TextChoices):
        # Sent on, or late, or come back for now: nothing is decided, but the provider has it.
        ACCEPTED = "accepted", _("on its way")
        DELIVERED = "delivered", _("delivered")
        # By the provider or by the receiving side, for a reason that says nothing about the address.
        REFUSED = "refused", _("refused")
        # There is no such address.
        BOUNCED = "bounced", _("came back for good")
        COMPLAINED = "complained", _("reported as spam")
        OTHER = "other", _("of no consequence")

    class State(models.TextChoices):
        NEW = "new", _("to be applied")
        APPLIED = "applied", _("applied")
        # Too many at once: an operator looks first.
        HELD = "held", _("held back")
        DISCARDED = "discarded", _("discarded")

    provider = models.CharField(max_length=20)
    event_id = models.CharField(max_length=200)
    kind = models.CharField(max_length=12, choices=Kind)
    at = models.DateTimeField()
    address_key = models.CharField(max_length=254, blank=True)
    # What the mail said of itself: a delivery's id; null if it was none of ours.
    delivery = models.PositiveBigIntegerField(null=True)
    said = models.CharField(max_length=300, blank=True)
    raw = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.NEW)
    received_at = models.DateTimeField()
    # When it silenced its address.
    suppressed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "event_id"], name="event_once_a_provider")]
        indexes = [
            # Read by whoever applies them.
            models.Index(fields=["id"], condition=Q(state="new"), name="event_new"),
            # Read by the metrics, and by whoever lets them go.
            models.Index(fields=["id"], condition=Q(state="held"), name="event_held"),
            # Read by whoever applies them: how many addresses the last hour silenced.
            models.Index(
                fields=["suppressed_at"], condition=Q(suppressed_at__isnull=False), name="event_silencing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_id}: {self.kind}"


class Report(models.Model):
    """A member says that a message should not have come."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="reports")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="+", db_index=False)
    words = models.TextField(_("what is wrong with it"), max_length=2000, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["message", "contact"], name="report_once_a_member")]

    def __str__(self) -> str:
        return f"{self.contact} about {self.message}"
