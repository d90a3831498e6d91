"""Messages and mails, for the installation's people to read; a group's ceiling is theirs to raise, and that is logged."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin import GuardedAdmin, ReadOnlyAdmin
from accounts.models import User
from messaging import (
    gate_admin,  # noqa: F401 – registers itself
    ramp,
    services,
    throttle,
)
from messaging.models import (
    Cadence,
    Chunk,
    Delivery,
    Message,
    Preference,
    ProviderEvent,
    Ramp,
    RecentMail,
    Report,
    SendSlot,
)


class CeilingForm(forms.ModelForm):  # type: ignore[type-arg]
    ceiling_week = forms.IntegerField(label=_("At most in any 7 days"), min_value=1, max_value=1000)
    ceiling_month = forms.IntegerField(label=_("At most in any 30 days"), min_value=1, max_value=1000)

    class Meta:
        model = Cadence
        fields = ["group", "ceiling_week", "ceiling_month"]

    def clean(self) -> dict[str, Any] | None:
        """What the service would refuse, said beside the field."""
        cleaned = super().clean()
        try:
            throttle.check_ceiling(
                week=self.cleaned_data.get("ceiling_week", 1),
                month=self.cleaned_data.get("ceiling_month", 1000),
            )
        except throttle.CeilingRefused as refused:
            self.add_error("ceiling_week", str(refused))
        return cleaned


@admin.register(Cadence)
class CadenceAdmin(GuardedAdmin):
    """A group without a row has the installation's numbers; adding one, like changing it, sets its ceiling."""

    form = CeilingForm
    list_display = ["group", "ceiling_week", "ceiling_month", "chosen_week", "chosen_month"]
    list_select_related = ["group__parent"]
    search_fields = ["group__name", "group__creator__name"]
    autocomplete_fields = ["group"]

    def get_readonly_fields(self, request: HttpRequest, obj: Cadence | None = None) -> list[str]:
        return ["group", "chosen_week", "chosen_month"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Cadence | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Cadence, form: CeilingForm, change: bool) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        throttle.set_ceiling(
            obj.group, week=obj.ceiling_week, month=obj.ceiling_month, by=request.user, now=timezone.now()
        )


class SlotInline(admin.TabularInline):  # type: ignore[type-arg]
    model = SendSlot
    extra = 0
    can_delete = False
    fields = ["group", "at", "released_at"]

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "subject",
        "release",
        "kind",
        "state",
        "due_at",
        "waits_because",
        "planned",
        "held",
        "bounced",
        "complained",
        "tripped_at",
        "stalled_at",
        "started_at",
        "done_at",
    ]
    list_filter = [
        "state",
        "kind",
        ("tripped_at", admin.EmptyFieldListFilter),
        ("stalled_at", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["release"]
    search_fields = ["subject", "release__title", "release__creator__name"]
    ordering = ["-id"]
    inlines = [SlotInline]


@admin.register(Chunk)
class ChunkAdmin(ReadOnlyAdmin):
    list_display = ["message", "number", "state", "owner", "lease_until", "not_before", "tally"]
    list_filter = ["state"]
    list_select_related = ["message"]
    ordering = ["-id"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = [
        "address_key",
        "message",
        "state",
        "said",
        "smtp_code",
        "attempts",
        "not_before",
        "offered_at",
    ]
    list_filter = ["state"]
    list_select_related = ["message"]
    search_fields = ["=address_key", "=provider_id"]
    ordering = ["-id"]


@admin.register(Preference)
class PreferenceAdmin(ReadOnlyAdmin):
    list_display = ["contact", "creator", "choice", "changed_at"]
    list_select_related = ["contact", "creator"]
    search_fields = ["=contact__address_key", "creator__name"]


@admin.register(ProviderEvent)
class ProviderEventAdmin(ReadOnlyAdmin):
    list_display = ["received_at", "provider", "kind", "address_key", "delivery", "said", "state"]
    list_filter = ["state", "kind", "provider"]
    search_fields = ["=address_key", "=event_id", "=delivery"]
    ordering = ["-id"]
    actions = ["release", "discard"]

    @admin.action(description=_("Release: apply those that are held back"))
    def release(self, request: HttpRequest, chosen: QuerySet[ProviderEvent]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        ids = chosen.values_list("pk", flat=True)
        done = services.release_events(ids, by=request.user, now=timezone.now())
        self.message_user(
            request, ngettext("%(n)s event was applied.", "%(n)s events were applied.", done) % {"n": done}
        )

    @admin.action(description=_("Discard: those that are held back never have an effect"))
    def discard(self, request: HttpRequest, chosen: QuerySet[ProviderEvent]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        ids = chosen.values_list("pk", flat=True)
        done = services.discard_events(ids, by=request.user, now=timezone.now())
        self.message_user(
            request,
            ngettext("%(n)s event was discarded.", "%(n)s events were discarded.", done) % {"n": done},
        )


@admin.register(RecentMail)
class RecentMailAdmin(ReadOnlyAdmin):
    list_display = ["address_key", "sender", "times"]
    search_fields = ["=address_key"]
    ordering = ["-id"]


@admin.register(Ramp)
class RampAdmin(ReadOnlyAdmin):
    """A creator without a row has not sent anything under it yet; adding one, like the action, lifts their ramp."""

    list_display = ["creator", "stage", "day_began_at", "used", "lifted_at"]
    list_filter = ["stage", ("lifted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["creator"]
    search_fields = ["creator__name"]
    ordering = ["creator"]
    autocomplete_fields = ["creator"]
    fields = ["creator"]
    actions = ["lift"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def save_model(
        self, request: HttpRequest, obj: Ramp, form: "forms.ModelForm[Ramp]", change: bool
    ) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        ramp.lift(obj.creator, by=request.user, now=timezone.now())

    @admin.action(description=_("Lift: they may write to as many as they like"))
    def lift(self, request: HttpRequest, chosen: QuerySet[Ramp]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        now = timezone.now()
        changed = sum(ramp.lift(row.creator, by=request.user, now=now) for row in chosen)
        self.message_user(request, _("Changed: %(number)s.") % {"number": changed})


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    """What members say should not have come; the creator's pause and its end are in the creator's own page."""

    list_display = ["at", "message", "creator", "contact", "words"]
    list_select_related = ["message__release__creator", "contact"]
    search_fields = ["message__release__creator__name", "=contact__address_key"]
    ordering = ["-id"]

    @admin.display(description=_("creator"))
    def creator(self, report: Report) -> str:
        return str(report.message.release.creator)
