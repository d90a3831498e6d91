from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from accounts.addresses import AddressRefused, address_key
from groups.imports.values import ValueRefused, read_name
from groups.models import Creator


@lru_cache(maxsize=1)
def zones() -> list[tuple[str, str]]:
    """The world's time zones as `Europe/Berlin`; the aliases without a place are left out."""
    named = (
        zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "posix/"))
    )
    return [("UTC", "UTC"), *((zone, zone.replace("_", " ")) for zone in sorted(named))]


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """What members and their mail see of a creator."""

    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        choices=zones,
        help_text=_("Schedules and every time in your studio are told in it."),
    )

    class Meta:
        model = Creator
        fields = ["name", "time_zone", "reply_to", "postal_address"]
        labels = {
            "name": _("Name"),
            "reply_to": _("Reply-to address"),
            "postal_address": _("Postal address"),
        }
        help_texts = {
            "name": _("As your supporters know you. It stands in every mail."),
            "reply_to": _("When a member answers your mail, the answer goes here."),
            "postal_address": _(
                "Mail law in most countries asks for one. It is shown at the foot of every mail; a post box will do."
            ),
        }
        widgets = {"postal_address": forms.Textarea(attrs={"rows": 3, "autocomplete": "street-address"})}

    def clean_name(self) -> str:
        try:
            name = read_name(self.cleaned_data["name"]).text
        except ValueRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        if not name:
            raise forms.ValidationError(_("Give the name people know you by."))
        return name

    def clean_reply_to(self) -> str:
        try:
            return address_key(self.cleaned_data["reply_to"])
        except AddressRefused as refused:
            raise forms.ValidationError(str(refused)) from refused


class CreatorForm(ProfileForm):
    """Becoming a creator: the profile and the address of the studio."""

    slug = forms.SlugField(
        label=_("Address of your studio"),
        required=False,
        max_length=60,
        help_text=_("Letters, digits and hyphens. Left empty, it is made from the name."),
    )

    class Meta(ProfileForm.Meta):
        fields = ["name", "slug", "time_zone", "reply_to", "postal_address"]

    field_order = ["name", "slug", "time_zone", "reply_to", "postal_address"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.is_bound:
            # studio.js proposes the browser's own zone; what somebody chose is never overwritten.
            self.fields["time_zone"].widget.attrs["data-propose-zone"] = ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "slug" in cleaned:
            cleaned["slug"] = slug = (cleaned["slug"] or slugify(cleaned.get("name", ""))[:60]).lower()
            if not slug and "name" in cleaned:
                self.add_error("slug", _("Choose an address of letters, digits and hyphens."))
            elif Creator.objects.filter(slug=slug).exists():
                self.add_error("slug", _("Somebody has this address already. Choose another one."))
        return cleaned
