"""A release as it is put together: what, to whom, in which words; and when."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from distribution.models import Release
from groups.models import Group
from library.models import Bundle
from messaging.models import Message
from messaging.services import Parts, Seen, save_draft
from studio.forms.moments import FURTHEST, LocalMoment
from studio.scope import row_number


class RowsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """Ticked rows; a number that no row can have is one of a row that is not there."""

    def clean(self, value: Any) -> Any:
        return super().clean([row_number(str(each)) for each in value or []])


class ComposeForm(forms.Form):
    """The draft. Nothing is required: it is saved all the time, and the check says what is missing."""

    title = forms.CharField(
        label=gettext_lazy("Title"),
        max_length=120,
        required=False,
        help_text=gettext_lazy("What members see in their library, “November: Dragon” for example."),
    )
    bundles = RowsField(Bundle.objects.none(), required=False)
    groups = RowsField(Group.objects.none(), required=False)
    rule = forms.ChoiceField(choices=Release.Rule.choices, required=False)
    subject = forms.CharField(
        label=gettext_lazy("Subject"),
        max_length=150,
        required=False,
        help_text=gettext_lazy("Left empty, it is the title."),
    )
    body = forms.CharField(
        label=gettext_lazy("Your words"),
        max_length=20_000,
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 10}),
        help_text=gettext_lazy("Markdown: **bold**, *slanted*, lists with a hyphen, [words](https://…)."),
    )

    def __init__(self, data: QueryDict | None = None, *, message: Message) -> None:
        release = message.release
        initial = {
            "title": release.title,
            "bundles": [item.bundle_id for item in release.items.all()],
            "groups": [row.group_id for row in release.audience_rows.all()],
            "rule": release.rule,
            "subject": message.subject,
            "body": message.body,
        }
        super().__init__(data, initial=initial)
        self.message = message
        self._choose_from("bundles", release.creator.bundles.live())
        self._choose_from("groups", release.creator.groups.live())

    def save(self, *, by: User, now: datetime) -> int:
        """The draft is as the form says; returns its revision. Raises `AlreadyConfirmed` and `DraftChanged`."""
        chosen = self.cleaned_data
        return save_draft(
            self.message,
            subject=chosen["subject"] or chosen["title"],
            body=chosen["body"],
            parts=Parts(
                title=chosen["title"],
                bundles=list(chosen["bundles"]),
                groups=list(chosen["groups"]),
                rule=chosen["rule"] or Release.Rule.AT_PUBLISHING,
            ),
            seen=seen_by(self.data),
            by=by,
            now=now,
        )

    def typed(self) -> dict[str, object]:
        """What the form says, to be held against what is saved."""
        said = self.cleaned_data
        return {
            **{name: said.get(name, "") for name in ("title", "rule")},
            "subject": said.get("subject") or said.get("title", ""),
            "body": str(said.get("body", "")).replace("\r\n", "\n"),
            **{name: {row.pk for row in said.get(name, [])} for name in ("bundles", "groups")},
        }

    def chosen(self, name: str) -> set[str]:
        """The values that are ticked, whether saved or just sent."""
        return {str(getattr(value, "pk", value)) for value in self[name].value() or []}

    def _choose_from(self, name: str, found: QuerySet[Any]) -> None:
        field = cast("forms.ModelMultipleChoiceField[Any]", self.fields[name])
        field.queryset = found
        field.error_messages = {
            **field.error_messages,
            "invalid_choice": _("One of these is no longer there. Look at the list again."),
        }


def seen_by(data: Mapping[str, Any]) -> Seen:
    """Which state of the draft the page had before it; pressing *take over* says: the other one, which it showed."""
    text = str(data.get("take_over") or data.get("revision") or "")
    revision = int(text) if text.isdecimal() and len(text) < 10 else None
    try:
        return Seen(revision=revision, page=UUID(str(data.get("request_id", ""))))
    except ValueError:
        return Seen(revision=revision, page=None)


class TimingForm(forms.Form):
    """When it goes: now, at a time, or at the time a refusal offered."""

    request_id = forms.UUIDField()
    when = forms.ChoiceField(choices=[("now", "now"), ("at", "at")], required=False)
    at = LocalMoment(label=gettext_lazy("Day and time"), required=False)
    offer = forms.CharField(required=False, max_length=40)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("offer"):
            cleaned["at"] = _offered(cleaned["offer"])
        elif cleaned.get("when") != "at":
            cleaned["at"] = None
            self.errors.pop("at", None)
        elif "at" in cleaned and not cleaned["at"]:
            self.add_error("at", _("Choose a day and a time."))
        if cleaned.get("at") and cleaned["at"] <= timezone.now():
            self.add_error("at", _("This time is past. Choose a later one, or send it now."))
        return cleaned

    @property
    def due_at(self) -> datetime | None:
        """The time that was asked for; None is now, or nothing that could be read."""
        return self.cleaned_data.get("at") if self.is_bound and self.is_valid() else None

    @property
    def request(self) -> UUID:
        """Which press this is: the same one twice is one message."""
        request_id: UUID = self.cleaned_data["request_id"]
        return request_id


def _offered(text: str) -> datetime:
    """The instant of a button we made. Anything else was not pressed by a person."""
    try:
        offered = datetime.fromisoformat(text)
    except ValueError:
        raise forms.ValidationError(_("Choose a day and a time.")) from None
    if offered.tzinfo is None or abs(offered - timezone.now()) > FURTHEST:
        raise forms.ValidationError(_("Choose a time within a year from now."))
    # PostgreSQL knows no zone a day away, which Python takes.
    return offered.astimezone(UTC)
