"""What the installation's people see of creators and their members: read-only, changed by the services' actions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin
from accounts.models import User
from groups import services
from groups.models import Contact, Creator, Group, Import, ImportRow, Membership, OutsideId, Staff


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class StaffInline(ReadOnlyInline):
    model = Staff


class OutsideIdInline(ReadOnlyInline):
    model = OutsideId
    fields = ["source", "value"]


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ["group", "started_at", "ended_at", "recorded_at", "brought_by"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("group__parent", "brought_by__group")


@admin.register(Creator)
class CreatorAdmin(ReadOnlyAdmin):
    list_display = ["name", "slug", "reply_to", "created_at", "approved_at", "paused_at", "paused_because"]
    list_filter = [("approved_at", admin.EmptyFieldListFilter), ("paused_at", admin.EmptyFieldListFilter)]
    search_fields = ["name", "slug", "reply_to"]
    inlines = [StaffInline]
    actions = ["approve", "pause", "resume"]

    @admin.action(description=_("Approve: they may send"))
    def approve(self, request: HttpRequest, chosen: QuerySet[Creator]) -> None:
        self._each(request, chosen, services.approve_creator)

    @admin.action(description=_("Pause: nothing of theirs goes out until resumed"))
    def pause(self, request: HttpRequest, chosen: QuerySet[Creator]) -> None:
        self._each(request, chosen, services.pause_creator)

    @admin.action(description=_("Resume: they may send again"))
    def resume(self, request: HttpRequest, chosen: QuerySet[Creator]) -> None:
        self._each(request, chosen, services.resume_creator)

    def _each(self, request: HttpRequest, chosen: QuerySet[Creator], service: Callable[..., bool]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        now: datetime = timezone.now()
        changed = sum(service(creator, by=request.user, now=now) for creator in chosen)
        self.message_user(request, _("Changed: %(number)s.") % {"number": changed})


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ["name", "parent", "creator", "kind", "created_at", "archived_at"]
    list_filter = ["kind", ("archived_at", admin.EmptyFieldListFilter)]
    list_select_related = ["parent", "creator"]
    search_fields = ["name", "creator__name"]


@admin.register(Contact)
class ContactAdmin(ReadOnlyAdmin):
    list_display = ["address_key", "name", "creator", "account", "created_at"]
    list_select_related = ["creator", "account"]
    search_fields = ["address_key", "name", "outside_ids__value"]
    inlines = [OutsideIdInline, MembershipInline]


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ["contact", "group", "started_at", "ended_at", "recorded_at"]
    list_select_related = ["contact", "group__parent"]
    search_fields = ["contact__address_key"]


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin):
    list_display = [
        "file_name",
        "group",
        "format",
        "state",
        "as_of",
        "by",
        "created_at",
        "done_at",
        "attempts",
        "last_error",
    ]
    list_filter = ["state", "format"]
    list_select_related = ["group", "by"]
    search_fields = ["file_name", "group__creator__name"]


@admin.register(ImportRow)
class ImportRowAdmin(ReadOnlyAdmin):
    list_display = ["import_run", "line", "verdict", "flag", "address_key", "tier", "column", "reason"]
    list_filter = ["verdict", "flag"]
    list_select_related = ["import_run__group"]
    search_fields = ["address_key", "outside_id"]
