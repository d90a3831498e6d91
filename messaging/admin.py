"""Messages and mails, for the installation's people to read; a group's ceiling is theirs to raise, and that is logged."""

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin
from accounts.models import User
from messaging import throttle
from messaging.models import Cadence, Chunk, Delivery, Message, Preference, SendSlot


class CeilingForm(forms.ModelForm):  # type: ignore[type-arg]
    ceiling_week = forms.IntegerField(label=_("At most in any 7 days"), min_value=1, max_value=1000)
    ceiling_month = forms.IntegerField(label=_("At most in any 30 days"), min_value=1, max_value=1000)

    class Meta:
        model = Cadence
        fields = ["group", "ceiling_week", "ceiling_month"]


@admin.register(Cadence)
class CadenceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
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
        "state",
        "due_at",
        "waits_because",
        "planned",
        "started_at",
        "done_at",
    ]
    list_filter = ["state"]
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
