"""The life of an import, as its pages see it: opened, checked, applied. Workers do the long parts.

    open_import / paste_list → OPENED → choose_mapping → CHECKING → (check_import) → CHECKED
    → request_apply → APPLYING → (apply_import) → DONE

`choose_columns` and `choose_mapping` may be called again until it is applied; the dry run then starts afresh.
"""

import csv
import io
import re
import secrets
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import record
from groups.imports.formats import FORMATS, Field, Format, plain, recognise, suggest_columns
from groups.imports.mail import find_mail_column
from groups.imports.mapping import Mapping
from groups.imports.people import Survey, find_indexes, survey_rows
from groups.imports.reading import BadRow, FileRefused, Layout, Row, look_at, read_rows
from groups.imports.values import ValueRefused, shown
from groups.models import Group, Import, ImportRow
from groups.rights import Right
from groups.services.groups import GroupNameTaken, NameMissing, OneLevelOnly, create_group
from groups.services.judging import gone_memberships, live_memberships, name_rows, unread_rows
from groups.services.memberships import GroupArchived, lock_tree
from groups.services.quotas import hold_room_for_import, refuse_large
from groups.services.staff import require_right

LARGEST_FILE = 256 * 1024**2


class ChoiceRefused(Exception):
    """A column, tier or group was chosen that this file or this group does not have."""


class NotChecked(Exception):
    """Only a finished dry run can be applied."""


class ConsentMissing(Exception):
    """Nobody is imported without the creator's word that they agreed to it."""


class OlderThanLast(Exception):
    """A newer file of the same kind was applied to this group before."""


class WordMissing(Exception):
    """More than a third of the members would end: the group's name has to be typed."""


class ImportRunning(Exception):
    """Another import into this group is being applied."""


@dataclass(frozen=True)
class Summary:
    """A dry run, or a done import, in numbers. Every `ImportRow.Verdict` is a key of `verdicts`."""

    verdicts: Dict[str, int]
    flags: Dict[str, int]  # ImportRow.Flag → people, of those accepted
    skipped: Dict[str, int]  # status as written → people; "" is an empty status
    unmapped: Dict[str, int]  # tier as written → people
    joining: Dict[int, int]  # group id → people who are new to it: new, returned or moved there
    gone: int  # live memberships whose people are no longer listed
    members: int  # live memberships in the tree before the import
    ended: int  # how many of the gone were ended when it was applied
    unread: int  # rows of which nobody can tell whom they name
    opted_out: int  # people, of those accepted, of whom the file says that they want no mail

    @property
    def rows(self) -> int:
        return sum(self.verdicts.values())

    @property
    def accepted(self) -> int:
        return sum(self.verdicts[verdict] for verdict in ImportRow.ACCEPTED)

    @property
    def changes(self) -> int:
        """How many rows would change something; the same file a second time has none."""
        return self.accepted - self.verdicts[ImportRow.Verdict.UNCHANGED]

    @property
    def asks_for_word(self) -> bool:
        """Whether ending the gone has to be confirmed by typing the group's name: there are many, or perhaps too many."""
        return self.gone * 3 > self.members or bool(self.gone and self.unread)


def open_import(group: Group, file: "File[bytes]", *, by: User, now: datetime) -> Import:
    """The file is stored, recognised and counted, and waits for choices, made as far as they can be guessed.

    `group` may be a sub group: people then go there unless a tier says otherwise. What was chosen the last time for
    this main group and format is chosen again. Twice: two imports; the second finds nothing to change.
    Raises `FileRefused` and `GroupArchived`; then nothing is kept.
    """
    require_right(by, Right.PREPARE, creator_id=group.creator_id)
    if group.archived_at:
        raise GroupArchived(_("%(group)s is archived; nobody can be added to it.") % {"group": group})
    if file.size > LARGEST_FILE:
        raise FileRefused(_("This file is larger than 256 MB. Split it, or leave out columns."))
    refuse_large(group.creator, size=file.size)
    layout = look_at(file)
    form = recognise(layout.columns)
    last = Import.objects.filter(group=group.main, format=form.key, state=Import.State.DONE).last()
    remembered = Mapping.from_json(last.mapping) if last else None
    columns = _guess_columns(layout, form, remembered)
    survey = survey_rows(read_rows(file, layout), find_indexes(columns, layout), form)
    refuse_large(group.creator, rows=survey.rows)
    file.seek(0)
    stored_as = default_storage.save(f"imports/{group.creator_id}/{secrets.token_urlsafe(16)}.csv", file)
    try:
        with transaction.atomic():
            hold_room_for_import(group.creator_id)
            return Import.objects.create(
                group=group.main,
                by=by,
                file_name=shown(file.name or "")[:200],
                stored_as=stored_as,
                format=form.key,
                layout=layout.as_json(),
                survey=survey.as_json(),
                mapping=_guess_mapping(group, form, columns, survey, remembered).as_json(),
                created_at=now,
            )
    except BaseException:
        default_storage.delete(stored_as)
        raise


def paste_list(group: Group, text: str, *, by: User, now: datetime) -> Import:
    """The same as uploading these addresses as a file, one a line. Raises `FileRefused`, `GroupArchived`."""
    lines = io.StringIO()
    csv.writer(lines, quoting=csv.QUOTE_ALL).writerows([entry] for entry in _split_pasted(text))
    if not lines.tell():
        raise FileRefused(_("Paste at least one e-mail address."))
    pasted = ContentFile(lines.getvalue().encode("utf-8", "replace"), name=_("Pasted list"))
    return open_import(group, pasted, by=by, now=now)


def preview_rows(import_run: Import, *, number: int = 5) -> list[Row | BadRow]:
    """The first rows as they are read, for the eye. Opens the stored file."""
    with default_storage.open(import_run.stored_as) as file:
        return list(islice(read_rows(file, Layout.from_json(import_run.layout)), number))


def choose_columns(import_run: Import, columns: Dict[Field, str]) -> None:
    """Fields are read from these columns; statuses and tiers are counted anew and guessed again.

    Twice: the same. Raises `ChoiceRefused` for a column the file has not, `NotChecked` once it is being applied.
    """
    if not import_run.stored_as:
        raise NotChecked(_("This list is not kept any more. Upload it again."))
    layout, form = Layout.from_json(import_run.layout), FORMATS[import_run.format]
    chosen = {field: column for field, column in columns.items() if column}
    if Field.ADDRESS not in chosen:
        raise ChoiceRefused(_("Choose the column that holds the e-mail addresses."))
    if not set(chosen.values()) <= set(layout.columns) or not set(chosen) <= form.fields:
        raise ChoiceRefused(_("This file has no such column."))
    with default_storage.open(import_run.stored_as) as file:
        survey = survey_rows(read_rows(file, layout), find_indexes(chosen, layout), form)
    target = Group.objects.get(pk=Mapping.from_json(import_run.mapping).target)
    mapping = _guess_mapping(target, form, chosen, survey, None)
    _start_afresh(
        import_run, state=Import.State.OPENED, mapping=mapping.as_json(), survey=survey.as_json(), counts={}
    )


def choose_mapping(
    import_run: Import, mapping: Mapping, *, as_of: datetime | None = None, now: datetime
) -> None:
    """The dry run is asked for with these choices; a worker makes it (`check_import`).

    Without `as_of` it is the file's newest update, or the upload where it has none; never later than `now`.
    Twice: the dry run starts afresh. Raises `ChoiceRefused`, and `NotChecked` once it is being applied.
    """
    if dict(mapping.columns) != dict(Mapping.from_json(import_run.mapping).columns):
        raise ChoiceRefused(_("This file has no such column."))
    live = set(Group.objects.tree_of(import_run.group).live().values_list("pk", flat=True))
    if not {mapping.target, *mapping.tiers.values()} <= live:
        raise ChoiceRefused(_("Choose the main group or one of its sub groups for each tier."))
    _start_afresh(
        import_run,
        state=Import.State.CHECKING,
        mapping=mapping.as_json(),
        as_of=min(as_of, now) if as_of else None,
        counts={},
    )


def add_sub_groups(import_run: Import, tiers: Dict[str, str], *, now: datetime) -> dict[str, int]:
    """A sub group for each of `tiers` (as compared → as written); returns where each goes. All of them or none.

    Twice: those that are there. Raises `ChoiceRefused` for a name that no group can have or for an archived group, and
    `NotChecked` once it is being applied.
    """
    with transaction.atomic():
        lock_tree(import_run.group)
        choosing = [Import.State.OPENED, Import.State.CHECKING, Import.State.CHECKED]
        if not Import.objects.filter(pk=import_run.pk, state__in=choosing).exists():
            raise NotChecked(_("This import is being applied already; its choices are made."))
        parent = Group.objects.get(pk=import_run.group_id)
        found = {plain(group.name): group.pk for group in parent.sub_groups.live()}
        for tier, written in tiers.items():
            if tier not in found:
                try:
                    made = create_group(parent.creator, name=written, kind="", parent=parent, now=now)
                except (OneLevelOnly, NameMissing, GroupNameTaken, ValueRefused) as refused:
                    sentence = _("No sub group can be made of “%(tier)s”. %(why)s")
                    raise ChoiceRefused(sentence % {"tier": shown(written), "why": refused}) from None
                found[tier] = made.pk
    return {tier: found[tier] for tier in tiers}


def request_apply(
    import_run: Import, *, consent: bool, gone_at: datetime | None, typed: str = "", by: User, now: datetime
) -> None:
    """The checked import is to be applied; a worker does it (`apply_import`).

    `gone_at` ends the memberships of those no longer listed at that instant; None keeps them. `typed` is the main
    group's name where `Summary.asks_for_word`. Twice: nothing more happens.
    Raises `NotChecked`, `ConsentMissing`, `OlderThanLast`, `WordMissing`, `ImportRunning`; nothing is changed then.
    """
    require_right(by, Right.PREPARE, creator_id=import_run.group.creator_id)
    import_run.refresh_from_db()
    if import_run.state in {Import.State.APPLYING, Import.State.DONE}:
        return
    if import_run.state != Import.State.CHECKED:
        raise NotChecked(_("The dry run has to finish first."))
    if not consent:
        raise ConsentMissing(_("Confirm that these people agreed to hear from you."))
    _refuse_older(import_run)
    if gone_at is not None:
        _refuse_unsaid_ending(import_run, typed)
    try:
        with transaction.atomic():
            moved = Import.objects.filter(pk=import_run.pk, state=Import.State.CHECKED).update(
                state=Import.State.APPLYING,
                cursor=0,
                gone_at=gone_at,
                consented_at=now,
                by=by,
                epoch=F("epoch") + 1,
                lease_until=None,
            )
            if not moved:
                raise NotChecked(_("The dry run has to finish first."))
            subject = f"{import_run.file_name} → {import_run.group}"
            record(by, "applied import", subject, creator_id=import_run.group.creator_id, now=now)
    except IntegrityError:
        raise ImportRunning(
            _("Another import into this group is being applied. Wait until it is done.")
        ) from None
    import_run.refresh_from_db()


def summarise(import_run: Import) -> Summary:
    """The numbers of a checked or done import; of one that is neither, all of them are zero."""
    counts = import_run.counts
    return Summary(
        verdicts={
            verdict: counts.get("verdicts", {}).get(verdict, 0) for verdict in ImportRow.Verdict.values
        },
        flags=counts.get("flags", {}),
        skipped=counts.get("skipped", {}),
        unmapped=counts.get("unmapped", {}),
        joining={int(group): people for group, people in counts.get("joining", {}).items()},
        gone=counts.get("gone", 0),
        members=counts.get("members", 0),
        ended=counts.get("ended", 0),
        unread=counts.get("unread", 0),
        opted_out=counts.get("opted_out", 0),
    )


def _guess_columns(layout: Layout, form: Format, remembered: Mapping | None) -> dict[Field, str]:
    """As the last time, or by the headings; what says *do not write* is read whatever was chosen then."""
    columns = suggest_columns(layout.columns, form, address=layout.address_column)
    if remembered and set(remembered.columns.values()) <= set(layout.columns):
        columns = dict(remembered.columns)
    about_mail = find_mail_column(layout.columns)
    if about_mail and Field.MAIL in form.fields:
        columns.setdefault(Field.MAIL, about_mail)
    return columns


def _guess_mapping(
    group: Group, form: Format, columns: Dict[Field, str], survey: Survey, remembered: Mapping | None
) -> Mapping:
    live = list(Group.objects.tree_of(group).live())
    ids = {candidate.pk for candidate in live}
    by_name = {plain(sub.name): sub.pk for sub in live if sub.parent_id}
    kept = {tier: chosen for tier, chosen in remembered.tiers.items() if chosen in ids} if remembered else {}
    statuses = form.members or frozenset(map(plain, survey.statuses))
    return Mapping(
        columns=columns,
        target=remembered.target
        if remembered and not group.parent_id and remembered.target in ids
        else group.pk,
        statuses=remembered.statuses if remembered else statuses,
        tiers={**by_name, **kept},
    )


def _start_afresh(import_run: Import, **changes: object) -> None:
    """A conditional UPDATE: not once it is being applied. The new epoch stops a worker that is still checking."""
    choosing = [Import.State.OPENED, Import.State.CHECKING, Import.State.CHECKED]
    changed = Import.objects.filter(pk=import_run.pk, state__in=choosing).update(
        **changes, cursor=0, epoch=F("epoch") + 1, lease_until=None
    )
    if not changed:
        raise NotChecked(_("This import is being applied already; its choices are made."))
    import_run.refresh_from_db()


def _refuse_older(import_run: Import) -> None:
    siblings = [form.key for form in FORMATS.values() if form.source == FORMATS[import_run.format].source]
    done = Import.objects.filter(group=import_run.group, state=Import.State.DONE, format__in=siblings)
    # Never None once it is checked.
    newer = done.filter(as_of__gt=import_run.as_of).order_by("as_of")  # type: ignore[optional-lookup]
    if last := newer.last():
        raise OlderThanLast(
            _("“%(file)s” is newer than this file and was imported already. Going back would undo it.")
            % {"file": last.file_name}
        )


def _refuse_unsaid_ending(import_run: Import, typed: str) -> None:
    name_rows(import_run)
    gone, members = gone_memberships(import_run).count(), live_memberships(import_run).count()
    unread, word = unread_rows(import_run).count(), import_run.group.name
    if plain(typed) == plain(word):
        return
    if gone * 3 > members:
        raise WordMissing(
            _("This would end %(gone)s of %(members)s memberships. If that is meant, type “%(word)s”.")
            % {"gone": gone, "members": members, "word": word}
        )
    if gone and unread:
        raise WordMissing(
            ngettext(
                "%(count)s row could not be read; its person may be among those who would end. Mend the file and upload it "
                "again, or type “%(word)s” to end them all the same.",
                "%(count)s rows could not be read; their people may be among those who would end. Mend the file and upload "
                "it again, or type “%(word)s” to end them all the same.",
                unread,
            )
            % {"count": unread, "word": word}
        )


def _split_pasted(text: str) -> list[str]:
    """One entry an address, as people paste them: a line each, or with semicolons, commas or blanks between."""
    entries: list[str] = []
    for line in re.split(r"[\r\n]+", text):
        if ";" in line:
            entries += line.split(";")
        elif line.count("@") > 1 and "," in line:
            entries += line.split(",")
        elif line.count("@") > 1 and "<" not in line:
            entries += line.split()
        else:
            entries.append(line)
    return [entry.strip() for entry in entries if entry.strip()]
