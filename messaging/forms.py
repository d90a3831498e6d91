from django import forms

from messaging.models import Report


class ReportForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a member says is wrong with a message; they may say nothing."""

    class Meta:
        model = Report
        fields = ["words"]
        widgets = {"words": forms.Textarea(attrs={"rows": 4})}
