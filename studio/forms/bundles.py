from django import forms
from django.utils.translation import gettext_lazy as _

from library.models import Bundle
from studio.forms.opened import Opened


class TitleForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """A new bundle needs a name; its files come next."""

    class Meta:
        model = Bundle
        fields = ["title"]
        labels = {"title": _("Title")}
        help_texts = {"title": _("As members see it in their library, “Dragon, 2026” for example.")}


class BundleForm(Opened, TitleForm):
    """What is said about a bundle."""

    class Meta(TitleForm.Meta):
        fields = ["title", "description", "licence"]
        labels = {"title": _("Title"), "description": _("Description"), "licence": _("Licence")}
        help_texts = {
            "description": _("Markdown: **bold**, *slanted*, lists with a hyphen, [words](https://…)."),
            "licence": _(
                "What members may do with the files. It is shown beside them and lies in every ZIP."
            ),
        }
        widgets = {
            "description": forms.Textarea(attrs={"rows": 8}),
            "licence": forms.Textarea(attrs={"rows": 5}),
        }


class CoverForm(forms.Form):
    """A picture; whether it is one the library decides."""

    picture = forms.FileField(
        label=_("Cover"),
        widget=forms.ClearableFileInput(attrs={"accept": "image/png,image/jpeg,image/webp,image/gif"}),
        help_text=_(
            "PNG, JPEG, WebP or GIF; 4:3 looks best. Hidden data, such as where a photo was taken, is removed."
        ),
    )


class PathForm(Opened, forms.Form):
    """Another name for a file, folders with slashes."""

    path = forms.CharField(label=_("Name"), max_length=500, strip=False)
