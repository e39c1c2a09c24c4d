"""What the clients of the bench have in common: a conversation over one connection.

A conversation is a generator: it yields what to send (`Ask`) and is sent what came back
(`Answer`). An operation, the thing that is timed and counted, is one exchange, or several of which
the last is marked. The same conversation runs in either client: `load` (one thread, an event loop:
many small requests) or `bulk` (a thread a connection, bodies sent and dropped without a copy).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

Piece = bytes | bytearray


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: its bytes in pieces. `completes` ends an operation; `keep` wants the body."""

    pieces: Iterable[Piece]
    completes: bool = True
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """`head` is the status line and headers; `pieces` hold it and what followed, as received, if
    the body was asked for.
    """

    status: int
    head: bytes
    pieces: tuple[bytes, ...] = ()

    @property
    def chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self.head.lower()

    @property
    def body(self) -> bytes:
        """The content; empty unless it was asked for."""
        raw = b"".join(self.pieces)[len(self.head) :]
        return dechunked(raw) if raw and self.chunked else raw


Conversation = Generator[Ask, Answer, None]

SUCCESS = (200, 204, 206)


def replay(requests: Iterator[bytes]) -> Conversation:
    """Send whole requests one after the other; connections may share the iterator."""
    for request in requests:
        yield Ask((request,))


class AnswerReader:
    """Finds where an answer ends, from pieces as they arrive."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.status = 0
        self.head = b""
        self.received = 0  # bytes of head and body so far
        self._need = -1  # bytes of the whole answer; -1 while unknown
        self._tail = b""

    @property
    def missing(self) -> int:
        """How many bytes of the body are still to come, if that is known; else 0."""
        return max(self._need - self.received, 0)

    def feed(self, piece: bytes) -> bool:
        """Take bytes of one answer; True when it is complete."""
        start = 0
        if not self.head:
            piece = self._tail + piece if self._tail else piece  # pieces may be large: no copy
            start = piece.find(b"\r\n\r\n") + 4
            if start < 4:
                self._tail = piece
                return False
            self.head, self._tail = piece[:start], b""
            self._read_head()
        self.received += len(piece)
        if self._need >= 0:
            return self.received >= self._need
        self._tail = (self._tail + piece[max(len(piece) - 5, start) :])[-5:]
        return self._tail == b"0\r\n\r\n"

    def skip(self, count: int) -> bool:
        """Note `count` bytes of a body of known length, dropped unread; True when complete."""
        self.received += count
        return self.received >= self._need

    def _read_head(self) -> None:
        self.status = int(self.head[9:12])
        lowered = self.head.lower()
        place = lowered.find(b"\r\ncontent-length:")
        if place >= 0:
            end = lowered.find(b"\r\n", place + 17)
            self._need = len(self.head) + int(lowered[place + 17 : end])
        elif b"transfer-encoding: chunked" not in lowered:
            self._need = len(self.head)


def dechunked(body: bytes) -> bytes:
    """The content of a body that came in chunks."""
    found, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if not size:
            return b"".join(found)
        found.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
