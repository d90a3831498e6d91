"""The broker of files: every wake-up reaches one worker, whole, in order."""

import threading
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def connection(folder: Path) -> Connection:
    return Connection("files://localhost", transport_options={"folder": str(folder)})


def test_messages_come_whole_in_order_and_only_from_their_queue(folder: Path) -> None:
    with connection(folder) as one, connection(folder) as other:
        queue = one.SimpleQueue("people")
        for number in range(3):
            queue.put({"number": number})
        other.SimpleQueue("mail").put({"number": 9})
        mine = other.SimpleQueue("people")
        assert [mine.get(timeout=1).payload["number"] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Empty):
            mine.get_nowait()


def test_what_is_half_written_or_taken_by_another_is_not_seen(folder: Path) -> None:
    (folder / ".00000000000000000001-aaaaaaaa.people").write_text('{"half')
    with connection(folder) as one, pytest.raises(Empty):
        one.SimpleQueue("people").get_nowait()


def test_many_takers_and_givers_at_once_lose_and_double_nothing(folder: Path) -> None:
    taken: list[int] = []
    done = threading.Event()

    def take() -> None:
        with connection(folder) as mine:
            queue = mine.SimpleQueue("people")
            while True:
                over = done.is_set()
                try:
                    message = queue.get_nowait()
                except Empty:
                    if over:
                        return
                    continue
                message.ack()
                taken.append(message.payload["number"])

    def give(first: int) -> None:
        with connection(folder) as mine:
            queue = mine.SimpleQueue("people")
            for number in range(first, first + 100):
                queue.put({"number": number})

    takers = [threading.Thread(target=take) for _ in range(3)]
    givers = [threading.Thread(target=give, args=(first,)) for first in (0, 100, 200)]
    for thread in [*takers, *givers]:
        thread.start()
    for thread in givers:
        thread.join()
    done.set()
    for thread in takers:
        thread.join()
    assert sorted(taken) == list(range(300))
    assert not list(folder.iterdir())


def test_a_queue_can_be_counted_and_emptied(folder: Path) -> None:
    with connection(folder) as one:
        queue: Any = one.SimpleQueue("people")
        queue.put({})
        queue.put({})
        assert queue.qsize() == 2
        assert queue.clear() == 2
        assert queue.qsize() == 0
