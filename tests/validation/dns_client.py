"""A question to a DNS server over UDP or TCP and its answer, after RFC 1035: enough for tests."""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

TYPES = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}
RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
TIMEOUT_S = 3.0
POINTER = 0xC0


@dataclass(frozen=True)
class Record:
    """One resource record; `data` is text for A, NS and SOA (its primary), else empty."""

    name: str
    kind: str
    ttl_s: int
    data: str


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    rcode: str
    authoritative: bool
    records: list[Record]
    authority: list[Record]

    def addresses(self) -> list[str]:
        return [record.data for record in self.records if record.kind == "A"]


def ask(server: str, name: str, kind: str, *, port: int = 53, tcp: bool = False) -> Answer:
    """One question. Raises: OSError, when no answer comes in time."""
    number = secrets.randbelow(1 << 16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = labels + b"\0" + struct.pack(">HH", TYPES[kind], 1)
    message = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question
    answer = _over_tcp(server, port, message) if tcp else _over_udp(server, port, message)
    if struct.unpack_from(">H", answer)[0] != number:
        raise OSError("an answer to another question")
    return _decoded(answer)


def _over_udp(server: str, port: int, message: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(TIMEOUT_S)
        channel.connect((server, port))
        channel.send(message)
        return channel.recv(4096)


def _over_tcp(server: str, port: int, message: bytes) -> bytes:
    with (
        socket.create_connection((server, port), TIMEOUT_S) as channel,
        channel.makefile("rb") as stream,
    ):
        channel.sendall(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", stream.read(2))
        return stream.read(length)


def _decoded(message: bytes) -> Answer:
    _, flags, questions, answers, authorities, _ = struct.unpack_from(">HHHHHH", message)
    at = 12
    for _ in range(questions):
        at = _name(message, at)[1] + 4
    records, at = _records(message, at, answers)
    authority, _ = _records(message, at, authorities)
    rcode = RCODES.get(flags & 0xF, str(flags & 0xF))
    return Answer(rcode, bool(flags & 0x0400), records, authority)


def _records(message: bytes, at: int, count: int) -> tuple[list[Record], int]:
    found = []
    for _ in range(count):
        name, at = _name(message, at)
        kind, _, ttl_s, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        found.append(Record(name, NAMES.get(kind, str(kind)), ttl_s, _data(message, at, kind)))
        at += length
    return found, at


def _data(message: bytes, at: int, kind: int) -> str:
    if kind == TYPES["A"]:
        return str(IPv4Address(message[at : at + 4]))
    return _name(message, at)[0] if kind in (TYPES["NS"], TYPES["SOA"]) else ""


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, and the offset after it; pointers lead backwards only."""
    labels: list[str] = []
    while message[at]:
        if message[at] & POINTER == POINTER:
            target = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            if target >= at:
                raise ValueError("a pointer that leads forwards")
            return ".".join([*labels, _name(message, target)[0]]).strip("."), at + 2
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), at + 1
