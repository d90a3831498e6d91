"""What changes in this room, one module a noun."""

from distribution.services.counting import downloaders, redeemed_of, taken_by, turnout
from distribution.services.grants import extend_to_late_joiners, fan_out_grants
from distribution.services.recall import (
    NotGiven,
    TakenBack,
    recall_release,
    revoke_grant,
    take_back_release,
)
from distribution.services.redeem import (
    HeldByAnother,
    SentToAnother,
    holder_of,
    holds_release,
    redeem_grant,
    settle_waiting,
)
from distribution.services.releases import (
    AlreadyConfirmed,
    AlreadyGiving,
    NobodyChosen,
    NotApproved,
    NothingAttached,
    ReleaseRefused,
    choose_audience,
    choose_bundles,
    confirm_release,
    publish_release,
    reschedule_release,
    start_release,
    take_newest,
    unschedule_release,
)

__all__ = [
    "AlreadyConfirmed",
    "AlreadyGiving",
    "HeldByAnother",
    "NobodyChosen",
    "NotApproved",
    "NotGiven",
    "NothingAttached",
    "ReleaseRefused",
    "SentToAnother",
    "TakenBack",
    "choose_audience",
    "choose_bundles",
    "confirm_release",
    "downloaders",
    "extend_to_late_joiners",
    "fan_out_grants",
    "holder_of",
    "holds_release",
    "publish_release",
    "recall_release",
    "redeem_grant",
    "redeemed_of",
    "reschedule_release",
    "revoke_grant",
    "settle_waiting",
    "start_release",
    "take_back_release",
    "take_newest",
    "taken_by",
    "turnout",
    "unschedule_release",
]
