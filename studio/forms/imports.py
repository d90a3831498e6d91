"""The choices of an import: columns, statuses, tiers; then consent and what becomes of the gone."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from groups.imports.formats import FORMATS, Field, plain
from groups.imports.mapping import Mapping
from groups.imports.people import Survey
from groups.imports.reading import Layout
from groups.models import Group, Import
from groups.services.imports import Summary
from studio.forms.moments import LocalMoment, start_of

FIELD_NAMES = {
    Field.ADDRESS: gettext_lazy("E-mail address"),
    Field.NAME: gettext_lazy("Name"),
    Field.OUTSIDE_ID: gettext_lazy("Their number on the platform"),
    Field.TIER: gettext_lazy("Tier"),
    Field.STATUS: gettext_lazy("Status"),
    Field.FREE: gettext_lazy("Free member, yes or no"),
    Field.SINCE: gettext_lazy("Member since"),
    Field.UNTIL: gettext_lazy("Access until"),
    Field.UPDATED: gettext_lazy("Last updated"),
    Field.MAIL: gettext_lazy("Wants mail, yes or no"),
}


# The tier that goes nowhere, and the one that gets a sub group of its own.
SKIP, OWN = "skip", "own"
# The button that gives one to every tier that has no group.
ALL_OWN = "all_own"


_OWN = gettext_lazy("Make a sub group of this tier")


class FileForm(forms.Form):
    """The export, as it was downloaded."""

    file = forms.FileField(
        label=gettext_lazy("The export"),
        allow_empty_file=True,  # the service says it in its own words
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.txt,text/csv,text/plain"}),
        help_text=gettext_lazy(
            "A members export from Patreon as it is, or any CSV with a column of e-mail addresses. Nothing is changed until you say so."
        ),
    )


class ColumnsForm(forms.Form):
    """Which column of the file each thing is read from."""

    def __init__(self, *args: Any, import_run: Import, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = Layout.from_json(import_run.layout).columns
        chosen = Mapping.from_json(import_run.mapping).columns
        usable = FORMATS[import_run.format].fields
        for field in (field for field in Field if field in usable):
            choices = [(label, label) for label in labels]
            self.fields[field.value] = forms.ChoiceField(
                label=FIELD_NAMES[field],
                choices=choices if field is Field.ADDRESS else [("", _("not in this file")), *choices],
                required=field is Field.ADDRESS,
                initial=chosen.get(field, ""),
            )

    @property
    def columns(self) -> dict[Field, str]:
        return {Field(name): column for name, column in self.cleaned_data.items() if column}


class MappingForm(forms.Form):
    """Who counts as a member, and into which group each tier goes."""

    def __init__(self, *args: Any, import_run: Import, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        survey = Survey.from_json(import_run.survey)
        self.mapping = Mapping.from_json(import_run.mapping)
        if survey.statuses:
            self.fields["statuses"] = forms.MultipleChoiceField(
                label=_("Who is a member"),
                choices=_with_numbers(survey.statuses),
                initial=sorted(self.mapping.statuses),
                widget=forms.CheckboxSelectMultiple,
                error_messages={"required": _("Choose at least one status that makes a member.")},
                help_text=_(
                    "People with another status are skipped; an access that has not run out counts all the same."
                ),
            )
        live = (
            Group.objects.tree_of(import_run.group)
            .live()
            .order_by("parent_id", "name")
            .select_related("parent")
        )
        groups = [(str(group.pk), str(group)) for group in live]
        groups.sort(key=lambda choice: choice[0] != str(import_run.group_id))
        self.tiers = [(f"tier-{number}", plain(tier)) for number, tier in enumerate(survey.tiers)]
        self.written = {plain(tier): tier for tier in reversed(list(survey.tiers))}
        for (name, tier), (written, people) in zip(self.tiers, survey.tiers.items(), strict=True):
            self.fields[name] = forms.ChoiceField(
                label=_with_number(written or _("No tier"), people),
                choices=[(SKIP, _("Skip these people")), *([(OWN, _OWN)] if tier else []), *groups],
                initial=str(self.mapping.tiers.get(tier, SKIP)),
            )
        if not self.tiers:
            self.fields["target"] = forms.ChoiceField(
                label=_("Into which group"), choices=groups, initial=str(self.mapping.target)
            )
        self.fields["as_of"] = LocalMoment(
            label=_("The list is as of"),
            required=False,
            initial=import_run.as_of,
            help_text=_(
                "Left empty: the newest “Last Updated” in the file, otherwise the time of your upload."
            ),
        )

    @property
    def own(self) -> dict[str, str]:
        """The tiers that get a sub group of their own, each with its name as the file writes it."""
        wanted = {OWN, SKIP} if ALL_OWN in self.data else {OWN}
        return {
            tier: self.written[tier]
            for name, tier in self.tiers
            if tier and self.cleaned_data[name] in wanted
        }

    @property
    def without_group(self) -> int:
        """How many tiers go nowhere as it is proposed."""
        return sum(1 for _name, tier in self.tiers if tier and tier not in self.mapping.tiers)

    @property
    def chosen(self) -> Mapping:
        targets = [(tier, self.cleaned_data[name]) for name, tier in self.tiers]
        tiers = {tier: int(target) for tier, target in targets if target not in {SKIP, OWN}}
        return Mapping(
            columns=self.mapping.columns,
            target=int(self.cleaned_data.get("target", self.mapping.target)),
            statuses=frozenset(self.cleaned_data.get("statuses", self.mapping.statuses)),
            tiers=tiers,
        )


class ApplyForm(forms.Form):
    """The last word: consent, what becomes of those no longer listed, and a typed name when that is many."""

    consent = forms.BooleanField(
        label=gettext_lazy(
            "These people support me on this platform or asked to hear from me, and I may write to them."
        ),
        error_messages={
            "required": gettext_lazy("Tick this first: only people who expect it may be written to.")
        },
    )

    # What is asked only of those who end memberships must not hold back those who keep them.
    use_required_attribute = False

    def __init__(self, *args: Any, import_run: Import, summary: Summary, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not summary.gone:
            return
        self.fields["gone"] = forms.ChoiceField(
            label=ngettext(
                "%(count)s person is no longer listed", "%(count)s people are no longer listed", summary.gone
            )
            % {"count": summary.gone},
            choices=[("keep", _("Keep them as members")), ("end", _("End their membership on a day"))],
            initial="keep",
            widget=forms.RadioSelect,
        )
        ending = not self.is_bound or self.data.get("gone") == "end"
        self.fields["gone_on"] = forms.DateField(
            label=_("Their membership ends on"),
            required=ending,
            error_messages={"required": _("On which day does their membership end?")},
            initial=timezone.localdate,
            widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        )
        if summary.asks_for_word:
            self.fields["typed"] = forms.CharField(
                label=_("To confirm, type “%(word)s”") % {"word": import_run.group.name},
                required=ending,
                error_messages={"required": _("Type the name of the group if you mean it.")},
                help_text=_("That is more than a third of the group. Is the file complete?")
                if summary.gone * 3 > summary.members
                else ngettext(
                    "%(count)s row could not be read (look under “Problems”): its person may be among these. Better mend the "
                    "file and upload it again.",
                    "%(count)s rows could not be read (look under “Problems”): their people may be among these. Better mend "
                    "the file and upload it again.",
                    summary.unread,
                )
                % {"count": summary.unread},
                widget=forms.TextInput(attrs={"autocomplete": "off"}),
            )

    def clean_gone_on(self) -> Any:
        day = self.cleaned_data["gone_on"]
        if day and abs(day - timezone.localdate()).days > 366:
            raise forms.ValidationError(_("Choose a day within a year from today."))
        return day

    @property
    def gone_at(self) -> datetime | None:
        return start_of(self.cleaned_data["gone_on"]) if self.cleaned_data.get("gone") == "end" else None


def _with_numbers(values: Any) -> list[tuple[str, str]]:
    """One choice a value, however its spellings differ."""
    people: dict[str, int] = {}
    written: dict[str, str] = {}
    for value, number in values.items():
        people[plain(value)] = people.get(plain(value), 0) + number
        written.setdefault(plain(value), value or _("No status"))
    return [(key, _with_number(written[key], number)) for key, number in people.items()]


def _with_number(label: str, people: int) -> str:
    return ngettext("%(label)s (%(count)s person)", "%(label)s (%(count)s people)", people) % {
        "label": label,
        "count": people,
    }
