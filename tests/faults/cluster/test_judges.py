"""The judges of a deployment's faults: they see what is stale, and count waits as clients do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

from tests.faults.client import Answer, Client, LostError
from tests.faults.cluster.calls import Call, failures, longest_waits
from tests.faults.cluster.registers import Registers


def series(*ends: float, failed: Iterable[float] = ()) -> list[Call]:
    """One client's calls, a tenth of a second each."""
    return [Call("a", "PUT", end - 0.1, end) for end in ends] + [
        Call("a", "PUT", end - 0.1, end, "503") for end in failed
    ]


def test_a_wait_is_from_success_to_success():
    calls = series(1, 2, 5, 6, failed=(3, 4))
    assert longest_waits(calls, 2.5, 10) == {"PUT": 3}
    assert failures(calls, 2.5, 10) == {"503": 2}


def test_a_late_answer_is_a_wait():
    calls = [*series(1, 2), Call("a", "PUT", 2.1, 9.0), *series(10)]
    assert longest_waits(calls, 3, 4) == {"PUT": 7}


def test_a_wait_without_end_lasts_until_the_last_call():
    assert longest_waits(series(1, 2, failed=(3, 4, 9)), 2.5, 10) == {"PUT": 7}


def test_waits_of_one_client_are_not_ended_by_another():
    calls = [*series(1, 2, 9), Call("b", "PUT", 4.9, 5.0), Call("b", "PUT", 5.9, 6.0)]
    assert longest_waits(calls, 1, 10)["PUT"] == 7


def test_whole_waits_begin_within_the_bounds():
    calls = series(1, 6, 7, 9)
    assert longest_waits(calls, 5, 10) == {"PUT": 5}
    assert longest_waits(calls, 5, 10, whole=True) == {"PUT": 2}


class Scripted(Client):
    """Answers what it is given, and ends the work with its last answer."""

    def __init__(self, stop: threading.Event, *answers: Answer | None) -> None:
        super().__init__(0)
        self._stop = stop
        self._answers = list(answers)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        answer = self._answers.pop(0)
        if not self._answers:
            self._stop.set()
        if answer is None:
            raise LostError(target)
        return answer


def done(body: bytes = b"") -> Answer:
    return Answer(200, {}, body)


def written(*answers: Answer | None) -> Registers:
    """Registers after one write for each answer."""
    registers, stop = Registers("bucket", pause_s=0), threading.Event()
    registers.write(Scripted(stop, *answers), stop)
    return registers


def read(registers: Registers, *bodies: bytes) -> list[str]:
    stop = threading.Event()
    registers.read(Scripted(stop, *map(done, bodies)), stop)
    return registers.stale


def listed(registers: Registers, key: str, number: int) -> list[str]:
    etag = hashlib.md5(b"%d" % number).hexdigest()
    page = (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents>'
        f"<Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag></Contents></ListBucketResult>"
    )
    stop = threading.Event()
    registers.list(Scripted(stop, done(page.encode())), stop)
    return registers.stale


def test_what_was_acknowledged_must_be_read():
    assert not read(written(done()), b"1")
    assert read(written(done()), b"0")


def test_what_nobody_wrote_may_not_be_read():
    assert read(written(done()), b"2")


def test_an_unsure_write_may_come_true_and_then_stays_true():
    registers = written(*[done()] * 12, None)
    (unsure,) = (key for key, each in registers._held.items() if each.sent == 2)
    for other in registers._held.keys() - {unsure}:
        del registers._held[other]
    assert not read(registers, b"1", b"2")
    assert read(registers, b"1")


def test_an_unsure_write_is_not_written_over():
    registers = written(*[done()] * 12, None, *[done()] * 30)
    assert sum(each.sent == 2 and each.least == 1 for each in registers._held.values()) == 1


def test_a_listing_must_show_what_was_acknowledged():
    (key,) = written(done())._held
    assert not listed(written(done()), key, 1)
    assert listed(written(done()), key, 0)
    assert listed(written(done()), "another", 1)
