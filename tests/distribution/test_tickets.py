"""A ticket is 27 bytes that only we can write."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from time import process_time

import pytest
from django.conf import LazySettings
from django.conf import settings as configured
from hypothesis import given
from hypothesis import strategies as st

from distribution.tickets import LAYOUT, ForgedTicket, issue_ticket, read_ticket

grant_ids = st.integers(1, 2**63 - 1)
generations = st.integers(0, 2**15 - 1)


@given(grant_ids, generations)
def test_a_ticket_says_what_it_was_issued_for(grant_id: int, generation: int) -> None:
    ticket = issue_ticket(grant_id, generation)
    assert read_ticket(ticket) == (grant_id, generation)
    assert ticket == issue_ticket(grant_id, generation)
    assert len(ticket) == 36
    assert ticket.isascii()
    assert ticket.replace("-", "").replace("_", "").isalnum()


@given(grant_ids, generations, st.integers(0, 27 * 8 - 1))
def test_any_flipped_bit_is_a_forgery(grant_id: int, generation: int, bit: int) -> None:
    signed = bytearray(urlsafe_b64decode(issue_ticket(grant_id, generation)))
    signed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ForgedTicket):
        read_ticket(urlsafe_b64encode(bytes(signed)).decode())


@given(grant_ids, st.integers(0, 35), st.characters())
def test_any_other_character_is_a_forgery(grant_id: int, place: int, other: str) -> None:
    ticket = issue_ticket(grant_id, 1)
    changed = ticket[:place] + other + ticket[place + 1 :]
    if changed != ticket:
        with pytest.raises(ForgedTicket):
            read_ticket(changed)


@given(grant_ids, st.integers(0, 35))
def test_a_ticket_cut_off_is_a_forgery(grant_id: int, length: int) -> None:
    with pytest.raises(ForgedTicket):
        read_ticket(issue_ticket(grant_id, 1)[:length])


@given(grant_ids, st.text(min_size=1))
def test_a_ticket_with_something_after_it_is_a_forgery(grant_id: int, more: str) -> None:
    with pytest.raises(ForgedTicket):
        read_ticket(issue_ticket(grant_id, 1) + more)


@given(st.text())
def test_whatever_somebody_types_is_a_forgery_and_says_so_in_words(text: str) -> None:
    with pytest.raises(ForgedTicket, match=r"damaged or was not made by us"):
        read_ticket(text)


@given(grant_ids, generations)
def test_a_mac_made_with_the_key_for_another_purpose_is_no_ticket(grant_id: int, generation: int) -> None:
    claim = LAYOUT.pack(1, grant_id, generation)
    for message in (claim, b"another purpose\n" + claim):
        mac = hmac.new(configured.TICKET_KEY.encode(), message, hashlib.sha256).digest()[:16]
        with pytest.raises(ForgedTicket):
            read_ticket(urlsafe_b64encode(claim + mac).decode())


def test_a_ticket_of_a_version_we_do_not_know_is_a_forgery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distribution.tickets.VERSION", 2)
    later = issue_ticket(1, 1)
    monkeypatch.undo()
    with pytest.raises(ForgedTicket):
        read_ticket(later)


def test_the_key_is_its_own(settings: LazySettings) -> None:
    ticket = issue_ticket(7, 1)
    settings.SECRET_KEY = "rotated"
    assert read_ticket(ticket) == (7, 1)
    settings.TICKET_KEY = "another key of more than one hundred and twenty-eight bits"
    with pytest.raises(ForgedTicket):
        read_ticket(ticket)


def test_a_ticket_costs_a_mail_next_to_nothing() -> None:
    began = process_time()
    for grant_id in range(10_000):
        issue_ticket(grant_id, 1)
    assert (process_time() - began) / 10_000 < 50e-6
