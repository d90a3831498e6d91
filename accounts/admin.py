"""What the installation's people see of the ground: accounts may be edited, what a service owns is read-only."""

from allauth.account.models import EmailAddress
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import services
from accounts.models import AuditEvent, Letter, Suppression, User


class GuardedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that are filtered by what the page offers, by what they belong to, and by nothing else.

    Django takes any look-up at a row's own fields from the address: `password__startswith=` would spell out a hash, or
    the code in a letter, sign by sign, and a pattern that is none (`state__regex=((`) is an error of the database. What
    is refused is answered with 400.
    """

    ASKED_BY_FILTERS = ("", "__exact", "__isnull", "__isempty", "__gte", "__lt")

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        offered = {item[0] if isinstance(item, tuple) else str(item) for item in self.list_filter}
        belongs_to = {field.name for field in self.opts.get_fields() if field.many_to_one}
        whose = lookup.removesuffix("__exact").removesuffix("__id")
        return whose in belongs_to or any(
            lookup == f"{name}{how}" for name in offered for how in self.ASKED_BY_FILTERS
        )


class ReadOnlyAdmin(GuardedAdmin):
    """Rows that a service owns: to be looked at, changed only by actions that call the service."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class EmailAddressInline(admin.TabularInline):  # type: ignore[type-arg]
    model = EmailAddress
    extra = 0
    can_delete = False
    fields = ["email", "verified", "primary"]
    readonly_fields = ["email", "verified", "primary"]

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(GuardedAdmin):
    list_display = ["email", "name", "is_active", "is_staff", "date_joined", "last_login"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "is_active", "is_staff", "is_superuser", "date_joined", "last_login"]
    readonly_fields = ["email", "date_joined", "last_login"]
    inlines = [EmailAddressInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Letter)
class LetterAdmin(ReadOnlyAdmin):
    list_display = ["kind", "address_key", "state", "attempts", "created_at", "sent_at", "reason"]
    list_filter = ["state", "kind"]
    search_fields = ["address_key"]
    fields = ["kind", "address_key", "state", "attempts", "created_at", "sent_at", "not_before", "reason"]


@admin.register(Suppression)
class SuppressionAdmin(ReadOnlyAdmin):
    list_display = ["address_key", "reason", "created_at", "lifted_at"]
    list_filter = ["reason"]
    search_fields = ["address_key"]
    actions = ["lift"]

    @admin.action(description=_("Lift: this address may be written to again"))
    def lift(self, request: HttpRequest, chosen: QuerySet[Suppression]) -> None:
        now = timezone.now()
        for suppression in chosen:
            if services.lift(suppression.address_key, now=now):
                assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
                services.record(request.user, "lifted suppression", suppression.address_key, now=now)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor", "verb", "subject", "creator_id"]
    list_filter = ["verb"]
    search_fields = ["subject", "actor__email"]
    list_select_related = ["actor"]
