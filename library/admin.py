"""What the library holds, for the installation's people to read. A service owns every row: nothing is changed here."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin
from library.models import Blob, Bundle, BundleVersion, Download, File, Holding, LibraryEntry, Upload


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class VersionInline(ReadOnlyInline):
    model = BundleVersion
    fields = ["number", "sealed_at"]
    show_change_link = True


class FileInline(ReadOnlyInline):
    model = File
    fields = ["path", "kind", "warning", "blob", "added_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        return File.objects.select_related("blob")


class HoldingInline(ReadOnlyInline):
    model = Holding
    fields = ["title", "group_name", "version", "given_at", "ended_at", "reason", "origin_key"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Holding]:
        return Holding.objects.select_related("version__bundle")


@admin.register(Bundle)
class BundleAdmin(ReadOnlyAdmin):
    list_display = ["title", "creator", "created_at", "archived_at"]
    search_fields = ["title", "creator__name"]
    list_select_related = ["creator"]
    fields = ["creator", "title", "description", "licence", "created_at", "archived_at"]
    inlines = [VersionInline]


@admin.register(BundleVersion)
class BundleVersionAdmin(ReadOnlyAdmin):
    list_display = ["bundle", "number", "sealed_at"]
    search_fields = ["bundle__title"]
    list_select_related = ["bundle"]
    fields = ["bundle", "number", "sealed_at"]
    inlines = [FileInline]


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    list_display = ["sha256", "creator", "size", "created_at"]
    search_fields = ["sha256", "creator__name"]
    list_select_related = ["creator"]
    fields = ["creator", "sha256", "size", "storage_key", "created_at"]


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    list_display = ["path", "bundle", "size", "state", "reason", "touched_at", "attempts", "last_error"]
    list_filter = ["state"]
    search_fields = ["path", "bundle__title"]
    list_select_related = ["bundle"]
    fields = [
        "bundle",
        "by",
        "path",
        "size",
        "state",
        "reason",
        "created_at",
        "touched_at",
        "lease_until",
        "epoch",
    ]


@admin.register(LibraryEntry)
class LibraryEntryAdmin(ReadOnlyAdmin):
    list_display = ["user", "bundle", "added_at"]
    search_fields = ["user__email", "bundle__title"]
    list_select_related = ["user", "bundle"]
    fields = ["user", "bundle", "added_at"]
    inlines = [HoldingInline]


@admin.register(Download)
class DownloadAdmin(ReadOnlyAdmin):
    list_display = ["at", "user", "version", "file"]
    search_fields = ["user__email", "version__bundle__title"]
    list_select_related = ["user", "version__bundle", "file"]
    fields = ["user", "version", "file", "at"]
