from datetime import UTC, date, datetime, timedelta

from django import forms
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from messaging.throttle import full_minute

FURTHEST = timedelta(days=366)


class LocalMoment(forms.Field):
    """A day and a time as the clock on the wall shows it in the creator's zone (the active one)."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    default_error_messages = {
        "invalid": gettext_lazy("Give a day and a time, such as 2026-12-01 18:00."),
        "far": gettext_lazy("Choose a time within a year from now."),
    }

    def prepare_value(self, value: object) -> object:
        return timezone.localtime(value) if isinstance(value, datetime) else value

    def to_python(self, value: object) -> datetime | None:
        if value in self.empty_values:
            return None
        try:
            naive = datetime.fromisoformat(str(value).strip()).replace(tzinfo=None)
        except ValueError:
            raise forms.ValidationError(self.error_messages["invalid"], "invalid") from None
        # Before any conversion: a year of 1 or 9999 overflows on its way to UTC.
        if abs(naive - timezone.localtime().replace(tzinfo=None)) > FURTHEST:
            raise forms.ValidationError(self.error_messages["far"], "far")
        return on_the_clock(naive)


def on_the_clock(naive: datetime) -> datetime:
    """The instant when the active zone's clocks show `naive`, the first one where they show it twice.

    Raises `ValidationError` for a time that is left out when clocks go forward.
    """
    zone = timezone.get_current_timezone()
    # In UTC: compared across zones, a time that the clocks show twice equals nothing (PEP 495).
    moment = naive.replace(tzinfo=zone).astimezone(UTC)
    shown = moment.astimezone(zone).replace(tzinfo=None)
    if shown != naive:
        raise forms.ValidationError(
            _(
                "There is no %(time)s in %(zone)s on that day: the clocks go forward. %(next)s would be the next."
            )
            % {
                "time": formats.time_format(naive.time(), "H:i"),
                "zone": zone,
                "next": formats.time_format(shown.time(), "H:i"),
            },
            "gap",
        )
    return moment


def start_of(day: date) -> datetime:
    """The first instant of `day` in the active zone."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.get_current_timezone())


def next_minute(moment: datetime) -> datetime:
    """`moment` as people write times: the first full minute that is not before it, in the active zone."""
    return timezone.localtime(full_minute(moment))
