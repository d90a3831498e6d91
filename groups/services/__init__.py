"""What may be done to creators, groups, contacts, memberships and imports."""

from groups.services.applying import apply_import
from groups.services.checking import check_import, give_up_import
from groups.services.contacts import (
    AddressSuppressed,
    AddressTaken,
    add_contact,
    attach_account,
    attach_verified_accounts,
    change_address,
)
from groups.services.creators import approve_creator, create_creator, pause_creator, resume_creator
from groups.services.forgetting import forget_old_imports
from groups.services.groups import archive_group, create_group, rename_group, who_gains_what
from groups.services.imports import (
    add_sub_groups,
    choose_columns,
    choose_mapping,
    open_import,
    paste_list,
    preview_rows,
    request_apply,
    summarise,
)
from groups.services.judging import gone_memberships, live_memberships
from groups.services.memberships import end_membership, start_membership
from groups.services.sizes import people_of

__all__ = [
    "AddressSuppressed",
    "AddressTaken",
    "add_contact",
    "add_sub_groups",
    "apply_import",
    "approve_creator",
    "archive_group",
    "attach_account",
    "attach_verified_accounts",
    "change_address",
    "check_import",
    "choose_columns",
    "choose_mapping",
    "create_creator",
    "create_group",
    "end_membership",
    "forget_old_imports",
    "give_up_import",
    "gone_memberships",
    "live_memberships",
    "open_import",
    "paste_list",
    "pause_creator",
    "people_of",
    "preview_rows",
    "rename_group",
    "request_apply",
    "resume_creator",
    "start_membership",
    "summarise",
    "who_gains_what",
]
