"""How often each way out gave each kind of answer: for the metrics, in rows, as no process knows of the others."""

from collections import Counter
from collections.abc import Mapping

from django.db.models import F

from messaging.models import ProviderAnswer
from messaging.providers import Kind


def count_answers(provider: str, numbers: Mapping[Kind, int]) -> None:
    """`numbers` more of each kind. Once for each chunk, so that mails do not queue for a row. Twice: counted twice."""
    for kind, number in sorted(numbers.items()):
        rows = ProviderAnswer.objects.filter(provider=provider, kind=kind)
        if not rows.update(number=F("number") + number):
            ProviderAnswer.objects.bulk_create(
                [ProviderAnswer(provider=provider, kind=kind)], ignore_conflicts=True
            )
            rows.update(number=F("number") + number)


def answers() -> dict[str, Counter[str]]:
    """By provider, how many there were of each kind."""
    found: dict[str, Counter[str]] = {}
    for row in ProviderAnswer.objects.order_by("provider", "kind"):
        found.setdefault(row.provider, Counter())[row.kind] = row.number
    return found
