"""Looking into RAM: searching, walking translation tables, decoding records and panic dumps."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from bulkhead.errors import InvalidInput
from bulkhead.inspect.pagetable import MalformedTable, Mapping, Reach, leaves, tables, translate
from bulkhead.inspect.panic import describe_esr, describe_panic, parse_panic
from bulkhead.inspect.ram import CHUNK, PAGE, RamSnapshot
from bulkhead.inspect.records import FrameRecord, Kind, VmRecord, VmState
from bulkhead.inspect.symbols import demangle

BASE = 0x4000_0000
SIZE = 32 << 20


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("test")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


@pytest.fixture
def ram(memory: int) -> RamSnapshot:
    return RamSnapshot(memory, BASE, SIZE)


@pytest.mark.parametrize("offset", [0, 1, PAGE - 3, CHUNK - 3, CHUNK, 3 * CHUNK + 17, SIZE - 8])
def test_a_pattern_is_found_wherever_it_lies(memory: int, ram: RamSnapshot, offset: int) -> None:
    os.pwrite(memory, b"\xffneedle\xff", offset)
    assert ram.find(b"\xffneedle\xff") == [BASE + offset]
    assert ram.find(b"needles") == []


def test_all_places_are_found_and_overlaps_count(memory: int, ram: RamSnapshot) -> None:
    os.pwrite(memory, b"aaa", 100)
    os.pwrite(memory, b"aa", 5 * CHUNK)
    assert ram.find(b"aa") == [BASE + 100, BASE + 101, BASE + 5 * CHUNK]


def test_a_pattern_may_start_with_zeros_that_were_never_written(memory: int, ram: RamSnapshot) -> None:
    os.pwrite(memory, b"x", 2 * CHUNK)
    assert ram.find(b"\0\0\0x") == [BASE + 2 * CHUNK - 3]


def test_a_pattern_of_zeros_is_refused(ram: RamSnapshot) -> None:
    with pytest.raises(InvalidInput):
        ram.find(bytes(64))


def test_reading_outside_ram_is_refused(ram: RamSnapshot) -> None:
    for address in (BASE - 1, BASE + SIZE - 3, 0):
        with pytest.raises(InvalidInput):
            ram.read(address, 4)


def put(memory: int, table: int, index: int, descriptor: int) -> None:
    os.pwrite(memory, struct.pack("<Q", descriptor), table - BASE + 8 * index)


@pytest.fixture
def root(memory: int) -> int:
    """Level 1 at +0x1000, level 2 at +0x2000, level 3 at +0x3000: one page, one 2 MiB block, one 1 GiB
    block.
    """
    first, second, third = BASE + 0x1000, BASE + 0x2000, BASE + 0x3000
    put(memory, first, 1, second | 3)
    put(memory, first, 4, 0x1_4000_0000 | 0x7FD)
    put(memory, second, 2, third | 3)
    put(memory, second, 511, 0x4060_0000 | 1 << 54 | 0x7FD)
    put(memory, third, 5, 0x4500_6000 | 0x7FF)
    return first


PAGE_AT = 0x4000_0000 + 2 * 0x20_0000 + 5 * PAGE


def test_leaves_of_all_levels(ram: RamSnapshot, root: int) -> None:
    assert list(leaves(ram.words, root, 1)) == [
        Mapping(PAGE_AT, 0x4500_6000, PAGE, 3, 0x7FF),
        Mapping(0x4000_0000 + 511 * 0x20_0000, 0x4060_0000, 0x20_0000, 2, 1 << 54 | 0x7FD),
        Mapping(4 << 30, 0x1_4000_0000, 1 << 30, 1, 0x7FD),
    ]
    assert list(tables(ram.words, root, 1)) == [(root, 1), (root + PAGE, 2), (root + 2 * PAGE, 3)]


@pytest.mark.parametrize(
    ("address", "output"),
    [
        (PAGE_AT + 0x123, 0x4500_6123),
        (PAGE_AT - 1, None),
        (0x4000_0000 + 511 * 0x20_0000 + 0x1F_FFFF, 0x407F_FFFF),
        ((5 << 30) - 1, 0x1_7FFF_FFFF),
        (0, None),
    ],
)
def test_translation(ram: RamSnapshot, root: int, address: int, output: int | None) -> None:
    assert translate(ram.words, root, 1, address) == output


def test_reserved_descriptors_are_noticed(memory: int, ram: RamSnapshot, root: int) -> None:
    put(memory, BASE + 0x3000, 9, 0x4500_0000 | 1)
    with pytest.raises(MalformedTable):
        list(leaves(ram.words, root, 1))


def test_reach(ram: RamSnapshot, root: int) -> None:
    reach = Reach(leaves(ram.words, root, 1))
    assert 0x4500_6FFF in reach
    assert 0x4500_7000 not in reach
    assert reach.total == PAGE + (2 << 20) + (1 << 30)


def test_frame_records() -> None:
    word = 2 | 7 << 8 | 0x1AB << 24 | 0xABCDEF << 36
    assert FrameRecord.decode(word) == FrameRecord(Kind.VM_PAGE, 0, 7, 0x1AB, 0xABCDEF)
    assert FrameRecord.decode(3 | 2 << 4 | 63 << 8).level == 2
    assert FrameRecord.decode(0).owner == "engine"
    assert FrameRecord.decode(1).owner == "host"
    assert FrameRecord.decode(word).owner == "vm 7"
    for wrong in (3 << 6 | 2, 1 << 33, 1 << 35, 9):
        with pytest.raises(ValueError, match=r"reserved|not a valid"):
            FrameRecord.decode(wrong)


def test_vm_record() -> None:
    words = [2, 0x123, 2, 0, 0x4000_0000, 0x2000_0000, *[0] * 6, 1, 2, 3, 4, 0x55, 0x66, *[0] * 46]
    record = VmRecord.decode(struct.pack("<64Q", *words))
    assert (record.state, record.root, record.vcpu_count) == (VmState.ACTIVE, 0x123, 2)
    assert record.ram == ((0x4000_0000, 0x2000_0000),)
    assert record.vcpus == (0x54, 0x65, *[None] * 6)
    assert record.measurement == struct.pack("<4Q", 1, 2, 3, 4)


DUMP = """booting
BULKHEAD PANIC cpu=1
panicked at engine/core/src/call/map.rs:12
esr=0x96000045 far=0x0000900000000008
elr=0x0000800000004010
bt=0x0000800000004014
bt=0x0000800000001230
BULKHEAD PANIC END
"""


def test_panic_dump_is_parsed() -> None:
    dump = parse_panic(DUMP)
    assert dump is not None
    assert (dump.cpu, dump.complete) == (1, True)
    assert dump.values == {"esr": 0x96000045, "far": 0x9000_0000_0008, "elr": 0x8000_0000_4010}
    assert dump.backtrace == [0x8000_0000_4014, 0x8000_0000_1230]
    assert dump.message == ["panicked at engine/core/src/call/map.rs:12"]


def test_panic_dump_in_words() -> None:
    text = describe_panic(DUMP, None)
    assert "CPU 1" in text
    assert "data abort in the engine, translation fault at level 1, on a write" in text
    assert "breaks off" not in text
    assert "breaks off" in describe_panic(DUMP.replace("BULKHEAD PANIC END", ""), None)
    assert parse_panic("all is well") is None


def test_exception_classes() -> None:
    assert describe_esr(0xF2000000).startswith("BRK")
    assert describe_esr(0x8600000F) == "instruction abort in the engine, permission fault at level 3"
    assert "0x3f" in describe_esr(0xFC000000)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("_ZN13bulkhead_core4call3map6commit17h0123456789abcdefE", "bulkhead_core::call::map::commit"),
        ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
        ("_ZN4demo21_$LT$impl$u20$One$GT$3run17h0123456789abcdefE", "demo::<impl One>::run"),
        ("VMS", "VMS"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert demangle(name) == plain
