"""The image store: what is written is found, on whole pages, and damage is noticed."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.errors import InvalidInput
from bulkhead.machine.store import PAGE, read_store, write_store

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=23)


def stored(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    size = write_store(stream, files)
    assert size == len(stream.getvalue())
    return stream.getvalue()


@given(st.dictionaries(NAMES, st.binary(max_size=3 * PAGE), max_size=5))
def test_round_trip(files: dict[str, bytes]) -> None:
    store = stored(files)
    assert len(store) % PAGE == 0
    assert read_store(store) == files


def test_format_as_declared() -> None:
    store = stored({"kernel": b"K" * 5000, "initrd": b"I"})
    assert store[:16] == b"BHSTORE1" + struct.pack("<II", 2, 0)
    assert store[16:56] == b"kernel".ljust(24, b"\0") + struct.pack("<QQ", 4096, 5000)
    assert store[56:96] == b"initrd".ljust(24, b"\0") + struct.pack("<QQ", 12288, 1)
    assert store[4096:9096] == b"K" * 5000
    assert store[12288:12289] == b"I"


@pytest.mark.parametrize("name", ["", "n" * 24, "a\0b", "ä" * 12])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name"):
        stored({name: b""})


def test_damage_is_noticed() -> None:
    store = stored({"kernel": bytes(10000)})
    for damaged in (b"", b"X" + store[1:], store[:4096], store[:8] + b"\xff" + store[9:]):
        with pytest.raises(InvalidInput):
            read_store(damaged)
