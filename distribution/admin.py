"""What was given, for the installation's people to read. A service owns every row: nothing is changed here."""

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin
from distribution.models import Grant, Release, ReleaseAudience, ReleaseItem


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class ReleaseItemInline(ReadOnlyInline):
    model = ReleaseItem
    fields = ["bundle", "version"]


class ReleaseAudienceInline(ReadOnlyInline):
    model = ReleaseAudience
    fields = ["group", "version_seen"]


@admin.register(Release)
class ReleaseAdmin(ReadOnlyAdmin):
    list_display = [
        "title",
        "creator",
        "state",
        "rule",
        "publish_at",
        "granted",
        "held",
        "recalled_at",
        "attempts",
        "last_error",
    ]
    list_filter = ["state", "rule"]
    search_fields = ["title", "creator__name"]
    list_select_related = ["creator"]
    inlines = [ReleaseItemInline, ReleaseAudienceInline]


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ["id", "release", "contact", "granted_at", "redeemed_at", "redeemed_by", "revoked_at"]
    search_fields = ["contact__address_key"]
    list_select_related = ["release", "contact", "redeemed_by"]
    ordering = ["-id"]
