"""Frames: every coding gives the plain bytes back, any range of them, and nothing else ever."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.media import frames
from objectstore_app.media.errors import CorruptDataError

KEY = bytes(range(32))
CODINGS = [(True, None), (False, KEY), (True, KEY)]


def text_of(size: int) -> bytes:
    return (b"the same words again and again, " * (size // 32 + 1))[:size]


def noise_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def encoded(data: bytes, *, compress: bool, key: bytes | None, frame_bytes: int) -> bytes:
    found = frames.encode(data, compress=compress, data_key=key, frame_bytes=frame_bytes)
    assert found is not None
    return found


def decoded(stored: bytes, size: int, start: int, length: int, key: bytes | None, fb: int) -> bytes:
    table = stored[: frames.table_bytes(size, fb)]
    extent = frames.CodedExtent(table, 0, size, len(stored), fb)
    offset, held = extent.stored_range(start, length)
    return extent.decode(stored[offset : offset + held], start, length, key)


@pytest.mark.parametrize(("compress", "key"), CODINGS)
@given(size=st.integers(1, 5000), frame_bytes=st.integers(100, 700), data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_range_of_any_coding_is_that_of_the_plain_bytes(
    compress: bool, key: bytes | None, size: int, frame_bytes: int, data: st.DataObject
) -> None:
    plain = b"".join(
        data.draw(st.sampled_from((text_of, noise_of)))(part)
        for part in (size // 2, size - size // 2)
    )
    stored = frames.encode(plain, compress=compress, data_key=key, frame_bytes=frame_bytes)
    if stored is None:
        assert key is None
        return
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - start))
    found = decoded(stored, size, start, length, key, frame_bytes)
    assert found == plain[start : start + length]


@given(cuts=st.lists(st.integers(0, 3000), max_size=8), compress=st.booleans())
@settings(max_examples=40, deadline=None)
def test_pieces_make_the_same_frames_as_the_whole(cuts: list[int], compress: bool) -> None:
    plain = text_of(1500) + noise_of(1500)
    encoder = frames.Encoder(0, compress=compress, data_key=KEY, frame_bytes=512)
    edges = [0, *sorted(cuts), len(plain)]
    for start, end in itertools.pairwise(edges):
        encoder.update(memoryview(plain)[start:end])
    pieces, coded = encoder.finish()
    assert coded
    assert b"".join(pieces) == encoded(plain, compress=compress, key=KEY, frame_bytes=512)


def test_what_does_not_shrink_stays_as_it_is() -> None:
    assert frames.encode(noise_of(5000), compress=True, data_key=None, frame_bytes=1000) is None
    encoder = frames.Encoder(0, compress=True, data_key=None, frame_bytes=1000)
    encoder.update(noise_of(5000))
    assert b"".join(encoder.finish()[0]) == noise_of(5000)


def test_incompressible_start_ends_the_attempts() -> None:
    plain = noise_of(2000) + text_of(3000)
    assert frames.encode(plain, compress=True, data_key=None, frame_bytes=1000) is None
    assert frames.encode(plain[1000:], compress=True, data_key=None, frame_bytes=1000) is not None


def test_range_costs_only_its_frames() -> None:
    stored = encoded(noise_of(100_000), compress=False, key=KEY, frame_bytes=1000)
    extent = frames.CodedExtent(stored[:400], 0, 100_000, len(stored), 1000)
    assert extent.stored_range(50_500, 10)[1] == 1000 + frames.TAG_BYTES
    assert extent.stored_range(50_999, 2)[1] == 2 * (1000 + frames.TAG_BYTES)


@pytest.mark.parametrize(("compress", "key"), CODINGS)
def test_no_flipped_bit_gives_other_bytes(compress: bool, key: bytes | None) -> None:
    plain = text_of(300) + noise_of(100)
    stored = encoded(plain, compress=compress, key=key, frame_bytes=100)
    wrong = 0
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 1 << at % 8
        try:
            found = decoded(bytes(damaged), len(plain), 0, len(plain), key, 100)
        except CorruptDataError:
            continue
        if found != plain:
            wrong += 1
    if key is not None:
        assert wrong == 0
        return
    # A frame that is only kept has no checksum here: that of the medium covers it.
    raw = [entry for entry in table_of(stored, 4) if not entry & frames.COMPRESSED]
    assert wrong <= sum(raw)


def table_of(stored: bytes, count: int) -> list[int]:
    return [int.from_bytes(stored[4 * n : 4 * n + 4], "little") for n in range(count)]


def test_frames_decrypt_at_their_own_place_only() -> None:
    plain = noise_of(300)
    stored = encoded(plain, compress=False, key=KEY, frame_bytes=100)
    size = 100 + frames.TAG_BYTES
    swapped = stored[:12] + stored[12 + size : 12 + 2 * size] + stored[12 : 12 + size]
    swapped += stored[12 + 2 * size :]
    with pytest.raises(CorruptDataError):
        decoded(swapped, 300, 0, 100, KEY, 100)
    other = frames.Encoder(1, compress=False, data_key=KEY, frame_bytes=100)
    other.update(plain)
    with pytest.raises(CorruptDataError):
        decoded(b"".join(other.finish()[0]), 300, 0, 100, KEY, 100)


def test_another_data_key_decrypts_nothing() -> None:
    stored = encoded(text_of(300), compress=True, key=KEY, frame_bytes=100)
    with pytest.raises(CorruptDataError):
        decoded(stored, 300, 0, 300, bytes(32), 100)


@pytest.mark.parametrize("length", [0, 3, 11])
def test_table_that_does_not_add_up_is_damage(length: int) -> None:
    stored = encoded(text_of(300), compress=True, key=KEY, frame_bytes=100)
    with pytest.raises(CorruptDataError):
        frames.CodedExtent(stored[:length], 0, 300, len(stored), 100)
    with pytest.raises(CorruptDataError):
        frames.CodedExtent(stored[:12], 0, 300, len(stored) - 1, 100)
