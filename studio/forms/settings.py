from django import forms
from django.utils.translation import gettext_lazy as _

from studio.forms.creators import ProfileForm
from studio.forms.opened import Opened


class SettingsForm(Opened, ProfileForm):
    """What members see of a creator, changed."""


class PaceForm(Opened, forms.Form):
    """How often a group is written to at most; the throttle knows the ceiling and says so."""

    week = forms.IntegerField(label=_("At most in any 7 days"), min_value=1, max_value=32_767)
    month = forms.IntegerField(label=_("At most in any 30 days"), min_value=1, max_value=32_767)
