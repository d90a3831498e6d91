"""The plan of a run: which fault strikes when, all of it from one seed."""

import random
from dataclasses import dataclass
from typing import Literal

# How much of a mail's way a fault may leave in doubt: nothing, what one worker hands over, what all of them do.
Reach = Literal["nothing", "a worker", "all workers"]
Phase = Literal["giving", "planning", "sending", "working"]


@dataclass
class Fault:
    """One of them. `order`: whoever passes that place dies or stops, at its `passage`th."""

    number: int
    name: str
    phase: Phase
    # How far the phase has come when it strikes, 0–1.
    at: float
    reach: Reach
    order: str = ""
    what: str = ""
    passage: int = 1
    struck: bool = False

    def __str__(self) -> str:
        return f"{self.number:3} {self.phase} {self.at:4.0%} {self.name}"


# Places of a worker, what happens there, and how far that reaches.
GIVING = [
    ("mid_page_of_grants", "kill"),
    ("mid_page_of_grants", "stall"),
    ("after_last_page_of_grants", "kill"),
]
PLANNING = [
    ("mid_page_of_deliveries", "kill"),
    ("mid_page_of_deliveries", "stall"),
    ("after_last_page_of_deliveries", "kill"),
]
SENDING = [
    ("after_leasing", "kill"),
    ("after_intent", "kill"),
    ("taken", "kill"),
    ("after_answer", "kill"),
    ("closing", "kill"),
    ("after_closing", "kill"),
    ("after_intent", "stall"),
    ("after_answer", "stall"),
    ("after_leasing", "stall"),
]
# What happens to everybody, or to nobody in particular.
AROUND: list[tuple[str, Reach]] = [
    ("a worker is shot anywhere", "a worker"),
    ("a worker is stopped anywhere", "a worker"),
    ("a worker is asked to go", "nothing"),
    ("PostgreSQL ends every connection", "all workers"),
    ("PostgreSQL crashes", "all workers"),
    ("PostgreSQL commits and nobody hears", "a worker"),
    ("the cable is cut inside a commit", "a worker"),
    ("Redis is emptied", "nothing"),
    ("Redis is away", "nothing"),
    ("Redis has no memory left", "nothing"),
    ("two beats", "nothing"),
    ("no beat", "nothing"),
]
ACTS: list[tuple[str, Reach]] = [
    ("the message is paused and resumed", "nothing"),
    ("somebody unsubscribes", "nothing"),
    ("somebody leaves the group", "nothing"),
    ("an address bounces elsewhere", "nothing"),
    ("the bundle gets a newer version", "nothing"),
]


# What only a provider does that posts what became of its mails.
EVENTS: list[tuple[str, Reach]] = [("the provider's events come twice, shuffled and forged", "nothing")]


def plan(seed: str, number: int, *, over_http: bool = False) -> list[Fault]:
    """`number` faults: every kind at least once, the rest drawn; in their order."""
    luck = random.Random(seed)
    # The HTTP provider shoots whoever writes to some addresses, not whoever is ordered.
    sending = [one for one in SENDING if not (over_http and one[0] == "taken")]
    around = [*AROUND, *ACTS, *(EVENTS if over_http else [])]
    drawn: list[Fault] = []
    few = max(1, number // 40)
    for places, phase in ((GIVING, "giving"), (PLANNING, "planning")):
        for place, what in places * few:
            drawn.append(_order(place, what, phase, luck))
    drawn += [_order(place, what, "sending", luck) for place, what in sending]
    # It wakes when every doubt is settled.
    drawn.append(_order("after_intent", "hold", "sending", luck))
    drawn += [_around(name, reach, luck) for name, reach in around]
    while len(drawn) < number:
        if luck.random() < 0.6:
            place, what = luck.choice(sending)
            drawn.append(_order(place, what, "sending", luck))
        else:
            name, reach = luck.choice(around)
            drawn.append(_around(name, reach, luck))
    phases = ["giving", "planning", "sending"]
    drawn.sort(key=lambda fault: (phases.index(fault.phase), fault.name.startswith("after_last"), fault.at))
    for at, fault in enumerate(drawn, 1):
        fault.number = at
    return drawn


def _order(place: str, what: str, phase: Phase, luck: random.Random) -> Fault:
    words = {"kill": "dies", "stall": "stands still", "hold": "stands still, until all is settled,"}[what]
    name = f"a worker {words} {place.replace('_', ' ')}"
    exact = phase != "sending" or what == "hold" or place in ("after_leasing", "closing", "after_closing")
    at, passage = _moment(luck), 1 if exact else luck.randint(1, 6)
    reach: Reach = "a worker" if phase == "sending" else "nothing"
    return Fault(0, name, phase, at, reach, place, what, passage)


def _around(name: str, reach: Reach, luck: random.Random) -> Fault:
    return Fault(0, name, "sending", _moment(luck), reach)


def _moment(luck: random.Random) -> float:
    """Not at the very end: what was ordered has to find somebody who passes."""
    return luck.uniform(0.01, 0.93)
