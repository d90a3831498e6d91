"""A draft that nobody wants any more."""

from django.db import transaction
from django.utils.translation import gettext as _

from distribution.models import Release
from distribution.services import AlreadyConfirmed
from messaging.models import Message


def discard_draft(release: Release) -> None:
    """The draft and its message are gone; bundles and groups stay. Twice: nothing changes.

    Raises `AlreadyConfirmed`: what was confirmed has to be taken back first, what was given stays on record.
    """
    with transaction.atomic():
        # The message first, as confirming takes it first; under the release's lock nobody publishes it without one.
        list(Message.objects.select_for_update(no_key=True).filter(release=release.pk))
        found = Release.objects.select_for_update(no_key=True).filter(pk=release.pk).first()
        if found is None:
            return
        if found.state != Release.State.DRAFT:
            raise AlreadyConfirmed(_("This release is confirmed already. Unschedule it to delete it."))
        Message.objects.filter(release=found).delete()
        found.delete()
