"""A client for large bodies: a thread a connection, blocking sockets.

A body is sent from where it lies, without a copy of it, and dropped in the kernel as it arrives
(MSG_TRUNC): the processors are the server's. That what arrives is right is checked once before.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterable

from .conversation import SUCCESS, Answer, AnswerReader, Ask, Conversation, Piece
from .load import Tally
from .outcome import CaseError, Outcome

HEAD_BYTES = 16 * 1024
GATHERED_MAX = 4
DROP_BYTES = 4 * 1024 * 1024
_UNTOUCHED = bytearray(DROP_BYTES)  # what recv_into wants to see; nothing is ever written to it
TIMEOUT_S = 120


class Connection:
    """One connection that asks and waits."""

    def __init__(self, port: int) -> None:
        # Python's own timeouts would make the socket non-blocking, a poll before every call.
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_S, 0))
        self._reader = AnswerReader()
        self.first_byte_at = 0.0
        self.received = 0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def exchange(self, ask: Ask) -> Answer:
        """Send a request and take its answer. Raises: OSError."""
        self._send(ask.pieces)
        reader, pieces = self._reader, []
        reader.reset()
        complete = False
        while not complete:
            data = self._socket.recv(HEAD_BYTES)
            if not data:
                raise ConnectionError("closed within an answer")
            if not reader.received:
                self.first_byte_at = time.perf_counter()
            complete = reader.feed(data)
            pieces.append(data)
            if reader.head and not ask.keep and reader.status in SUCCESS and reader.missing:
                complete = self._drop()
        self.received = reader.received
        wanted = ask.keep or reader.status not in SUCCESS
        return Answer(reader.status, reader.head, tuple(pieces) if wanted else ())

    def _send(self, pieces: Iterable[Piece]) -> None:
        """Gather a few pieces for each call, however many there are, and however they are made."""
        left = iter(pieces)
        while some := tuple(itertools.islice(left, GATHERED_MAX)):
            sent = self._socket.sendmsg(some)
            for piece in some:
                if sent < len(piece):
                    self._socket.sendall(memoryview(piece)[sent:])
                sent = max(sent - len(piece), 0)

    def _drop(self) -> bool:
        while True:
            wanted = min(self._reader.missing, DROP_BYTES)
            count = self._socket.recv_into(_UNTOUCHED, wanted, socket.MSG_TRUNC)
            if not count:
                raise ConnectionError("closed within an answer")
            if self._reader.skip(count):
                return True


def measure(port: int, conversations: list[Conversation], *, seconds: float) -> Outcome:
    """Hold the conversations, one a thread, until they end or `seconds` have passed."""
    tally = Tally()
    lock = threading.Lock()
    errors: list[OSError | CaseError] = []
    cpu_before = time.process_time()
    started = time.perf_counter()
    tally.stop_at = started + seconds

    def speak(conversation: Conversation) -> None:
        try:
            with Connection(port) as connection:
                _hold(connection, conversation, tally, lock)
        except (OSError, CaseError) as error:
            errors.append(error)

    threads = [threading.Thread(target=speak, args=[one]) for one in conversations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        tally.failures[str(errors[0])] = len(errors)
    return tally.outcome(started, cpu_before)


def _hold(
    connection: Connection, conversation: Conversation, tally: Tally, lock: threading.Lock
) -> None:
    try:
        ask = next(conversation)
        began = time.perf_counter()
        while True:
            sent = time.perf_counter()
            answer = connection.exchange(ask)
            with lock:
                tally.first_bytes.append(connection.first_byte_at - sent)
                if not tally.note(ask, answer, connection.received, began=began, sent=sent):
                    conversation.close()
                    return
            fresh = ask.completes
            ask = conversation.send(answer)
            if fresh:
                began = time.perf_counter()
    except StopIteration:
        return
