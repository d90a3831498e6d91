"""Two windows on one form: what somebody saved meanwhile is never overwritten in silence."""

import json
from hashlib import sha256
from typing import Any

from django import forms
from django.utils.translation import gettext as _


class Opened(forms.BaseForm):
    """A form over saved values, which remembers what it showed when it was opened.

    A field that this person left as it was takes what somebody else saved meanwhile. One that both changed is refused:
    what was typed stays, what is saved is said, and the next press saves what stands there. Whoever saves holds the
    row's lock from reading it to saving it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["opened"] = forms.CharField(required=False, widget=forms.HiddenInput, initial=self._now())

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        opened, shown = _read(str(cleaned.get("opened", ""))), dict(self.data.items())
        for name, saved in self._saved().items():
            if opened.get(name) == _digest(saved):
                continue
            typed, now = _plain(self[name].data), self.get_initial_for_field(self.fields[name], name)
            # The second of two presses is typed as the first one was, and saved as cleaning spells it.
            same = typed == saved or (name in cleaned and cleaned[name] == now)
            if same or opened.get(name) == _digest(typed):
                self.errors.pop(name, None)
                cleaned[name] = now
                shown[self.add_prefix(name)] = saved
            else:
                said = _(
                    "Somebody changed this in another window, to “%(saved)s”. What you typed is not saved yet: saving again replaces theirs."
                )
                self.add_error(name, said % {"saved": saved})
        if self.errors:
            shown[self.add_prefix("opened")] = self._now()
            self.data = shown
        return cleaned

    def _now(self) -> str:
        return json.dumps({name: _digest(saved) for name, saved in self._saved().items()})

    def _saved(self) -> dict[str, str]:
        """Each field's saved value, as its input shows it."""
        return {
            name: _plain(
                field.widget.format_value(field.prepare_value(self.get_initial_for_field(field, name)))
            )
            for name, field in self.fields.items()
            if name != "opened"
        }


def _plain(value: Any) -> str:
    """Without what a browser changes by itself: line ends, and spaces around."""
    text = "".join(value) if isinstance(value, list) else "" if value is None else str(value)
    return text.replace("\r\n", "\n").strip()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _read(opened: str) -> dict[str, object]:
    """What a form says it showed; nothing, if that cannot be read: then it saw nothing of what is saved."""
    try:
        found = json.loads(opened)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
