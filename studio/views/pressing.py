"""Saving and sending by one press, while the page's own earlier save may still be on its way."""

from collections.abc import Callable

from messaging.services import DraftChanged

# An autosave is one request at a time: a second one between the two is rare, a third is somebody else.
ATTEMPTS = 3


def press(save: Callable[[], bool], send: Callable[[], object]) -> bool:
    """The draft is saved and sent as the form says. Returns whether it was saved; then it was sent, too.

    An autosave of this same page that arrives between the two says what stood there before: it is overwritten and the
    draft sent after all. Of somebody else's save the second saving tells. Raises what `send` raises.
    """
    for left in reversed(range(ATTEMPTS)):
        if not save():
            return False
        try:
            send()
        except DraftChanged:
            if not left:
                raise
        else:
            return True
    return False
