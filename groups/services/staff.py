"""Whose it is to do something for a creator."""

from typing import Final

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from groups.models import Staff
from groups.rights import Right

WHY_NOT: Final = {
    Right.READ: _("You do not belong to this studio."),
    Right.PREPARE: _(
        "You may look at everything in this studio. Its owner says who may change something, too."
    ),
    Right.SEND: _("Only an owner or a manager of this studio may send, stop a send, or take files back."),
    Right.RUN: _("Only an owner of this studio may change its settings."),
}


class NotYours(PermissionDenied):
    """This person may not do that for this creator; the sentence says who may."""


def require_right(user: User | None, right: Right, *, creator_id: int) -> None:
    """Nothing, if `user` may do that for the creator. Raises `NotYours`.

    Nobody (a breaker, a command of the installation) may all; so may the installation's people, who act from its admin.
    """
    if user is None or user.is_staff:
        return
    place = Staff.objects.filter(user=user, creator=creator_id).first()
    if place is None or not place.may(right):
        raise NotYours(WHY_NOT[right])
