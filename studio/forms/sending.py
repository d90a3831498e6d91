"""What is asked before a send is moved, taken back or sent to somebody else."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.forms.moments import LocalMoment
from studio.forms.opened import Opened


class RecallForm(forms.Form):
    """Why, for everybody who had it, and a typed word: there is no way back."""

    because = forms.CharField(
        label=gettext_lazy("Why?"),
        max_length=200,
        help_text=gettext_lazy("Everybody who had it reads this in their library."),
        error_messages={"required": gettext_lazy("Say why: everybody who had it will want to know.")},
    )
    typed = forms.CharField(max_length=40, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.word = _("recall")
        typed, word = self.fields["typed"], {"word": self.word}
        typed.label = _("To confirm, type “%(word)s”") % word
        typed.error_messages["required"] = _("Type “%(word)s” if you mean it.") % word

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if typed.strip().casefold() != self.word.casefold():
            raise forms.ValidationError(_("Type “%(word)s” if you mean it.") % {"word": self.word})
        return typed


class RescheduleForm(Opened, forms.Form):
    """Another day and time for what is scheduled."""

    at = LocalMoment(label=gettext_lazy("Day and time"))


class AddressForm(forms.Form):
    """Where somebody is written to from now on."""

    address = forms.CharField(
        label=gettext_lazy("New e-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )


class ReminderForm(forms.Form):
    """The words of a reminder."""

    subject = forms.CharField(label=gettext_lazy("Subject"), max_length=150)
    body = forms.CharField(
        label=gettext_lazy("Your words"),
        max_length=20_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text=gettext_lazy("Markdown, and {first_name|there} where their first name belongs."),
    )

    def typed(self) -> dict[str, object]:
        """What the form says, to be held against what is saved."""
        words = self.cleaned_data
        return {
            "subject": words.get("subject", ""),
            "body": str(words.get("body", "")).replace("\r\n", "\n"),
        }
