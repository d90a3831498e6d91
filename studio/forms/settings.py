from django import forms
from django.utils.translation import gettext_lazy as _


class PaceForm(forms.Form):
    """How often a group is written to at most; the throttle knows the ceiling and says so."""

    week = forms.IntegerField(label=_("At most in any 7 days"), min_value=1, max_value=32_767)
    month = forms.IntegerField(label=_("At most in any 30 days"), min_value=1, max_value=32_767)
