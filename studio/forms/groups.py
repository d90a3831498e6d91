from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from groups.imports.values import ValueRefused, read_address, read_name
from groups.models import Group
from studio.forms.opened import Opened


class GroupForm(forms.Form):
    """A new main group."""

    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("Members see it in their library and mail.")
    )
    kind = forms.ChoiceField(
        label=_("Who they are"), choices=Group.Kind.choices, help_text=_("It sets the wording, nothing else.")
    )


class NameForm(forms.Form):
    """The name of a sub group."""

    name = forms.CharField(label=_("Name"), max_length=80)


class RenameForm(Opened, NameForm):
    """A new name for any group."""


class MemberForm(forms.Form):
    """One person, written in by hand."""

    address = forms.CharField(
        label=_("E-mail address"),
        max_length=300,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "inputmode": "email"}),
    )
    name = forms.CharField(
        label=_("Name"), max_length=200, required=False, help_text=_("For the greeting in mails.")
    )

    def clean_address(self) -> str:
        try:
            return read_address(self.cleaned_data["address"]).key
        except ValueRefused as refused:
            raise forms.ValidationError(str(refused)) from refused

    def clean_name(self) -> str:
        try:
            return read_name(self.cleaned_data["name"]).text
        except ValueRefused as refused:
            raise forms.ValidationError(str(refused)) from refused


class PasteForm(forms.Form):
    """A list of addresses out of a spreadsheet or a mail; it becomes an import like any file."""

    people = forms.CharField(
        label=_("Addresses"),
        max_length=1_000_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "autocomplete": "off"}),
        help_text=_(
            "One person a line. Headings, names and other columns are fine: you see what becomes of each line before anything is saved."
        ),
    )


class MemberFilter(forms.Form):
    """Which members of a group are listed. Nonsense in the address bar means no filter."""

    q = forms.CharField(required=False, max_length=100)
    group = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    ended = forms.BooleanField(required=False)
    # The membership that was just ended, and can be taken back.
    left = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)

    @property
    def chosen(self) -> dict[str, Any]:
        self.is_valid()
        return {"q": "", "group": None, "ended": False, "left": None, **self.cleaned_data}
