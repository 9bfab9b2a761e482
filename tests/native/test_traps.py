"""Trapped accesses of a VM to system registers: every line of the register table. Host build only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.conformance.testing.machine import MASK
from bulkhead.registers import load
from bulkhead.registers.table import Encoding, Register
from native.exceptions import EC_SYSTEM, EXITS, PC, Exceptions, X
from native.scene import RAM

pytestmark = pytest.mark.host

TABLE = load()
READ = 1
BRPS, WRPS = 12, 20
"""ID_AA64DFR0_EL1: lowest bit of the number of breakpoints, and of watchpoints, less 1."""
UNKNOWN = 1 << 25
"""ESR_EL1 of an UNDEFINED instruction: class 0, IL."""
TRAPPED = [register for register in TABLE.registers if register.group.vm.startswith(("trapped", "hidden"))]


def iss(encoding: Encoding, transfer: int, direction: str) -> int:
    """The syndrome of MRS (r) or MSR (w) with general register `transfer` (D24.2.40, EC 0x18)."""
    op0, op1, crn, crm, op2 = encoding
    packed = op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
    return packed | transfer << 5 | (READ if direction == "r" else 0)


def access(
    guest: Exceptions, encoding: Encoding, direction: str, value: int = MASK, transfer: int = 3
) -> int | None:
    """An access that the engine answers: what was read; None if the instruction is UNDEFINED."""
    guest.poke(PC, RAM)
    guest.poke(X + transfer, value)
    guest.backend.events()
    assert guest.take(EC_SYSTEM, iss(encoding, transfer, direction)).kind == "resume"
    if guest.word(PC) == RAM + 4:
        return guest.word(X + transfer)
    elr, _, esr, _ = guest.injected()
    assert (elr, esr) == (RAM, UNKNOWN)
    return None


def lines(kind: str) -> Iterator[tuple[Register, str]]:
    """Trapped lines of the table, with each direction in which an access comes to that."""
    for register in TRAPPED:
        for direction in register.directions.strip("-"):
            if register.execution("vm", direction) == kind:
                yield register, direction


def encodings(register: Register) -> list[Encoding]:
    """Those of a line for which no other stands."""
    return [encoding for encoding in register.encodings() if TABLE.at(encoding) is register]


def test_what_is_ignored_reads_zero(guest: Exceptions) -> None:
    for register, direction in lines("ignored"):
        for encoding in encodings(register):
            read = access(guest, encoding, direction)
            assert read == (0 if direction == "r" else MASK), (register.name, encoding)


def test_what_a_vm_has_not_is_undefined(guest: Exceptions) -> None:
    tried = 0
    for register, direction in lines("undefined"):
        for encoding in encodings(register)[:16]:
            assert access(guest, encoding, direction) is None, (register.name, encoding)
            tried += 1
    assert tried > 300


@pytest.mark.parametrize("raw", [0, MASK, 0x1111_1111_1111_1111, 0x3232_3232_3232_3232], ids=hex)
def test_id_registers_show_what_a_vm_may_use(guest: Exceptions, raw: int) -> None:
    guest.identify(raw)
    for line in TABLE.ids:
        encoding = line.register.first
        assert access(guest, encoding, "r", raw) == line.sanitized(raw), line.register.name
        assert access(guest, encoding, "w") is None


def test_register_31(guest: Exceptions) -> None:
    before = guest.context()
    assert guest.take(EC_SYSTEM, iss(TABLE.named("ID_AA64PFR0_EL1").first, 31, "r")).kind == "resume"
    after = guest.context()
    assert [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [PC]
    sgi = iss(TABLE.named("ICC_SGI1R_EL1").first, 31, "w")
    assert guest.take(EC_SYSTEM, sgi).data == (0, 0, 0)


def test_an_interrupt_for_others_is_the_hosts_to_deliver(guest: Exceptions) -> None:
    guest.poke(X + 7, 0x1234_5678_9ABC_DEF0)
    next_ = guest.take(EC_SYSTEM, iss(TABLE.named("ICC_SGI1R_EL1").first, 7, "w"))
    assert (next_.kind, next_.exit_class, next_.data) == ("exit", EXITS["SGI"], (0x1234_5678_9ABC_DEF0, 0, 0))
    assert guest.word(PC) == RAM + 4


def test_the_physical_count_is_the_vms_own(guest: Exceptions) -> None:
    count = TABLE.named("CNTPCT_EL0").first
    offset = guest.machine.vm_word(guest.vm.slot, 32)
    first, second = access(guest, count, "r"), access(guest, count, "r")
    assert first is not None
    assert second == first + 1
    assert (first + offset) & MASK < 1 << 32
    assert access(guest, count, "w") is None


def test_the_lock_of_the_debug_registers_is_open(guest: Exceptions) -> None:
    lock = TABLE.named("OSLSR_EL1").first
    assert access(guest, lock, "r") == 1 << 3
    assert access(guest, lock, "w") is None


CONTROL = TABLE.named("MDSCR_EL1").first


def point(number: int, op2: int) -> Encoding:
    """DBGBVR<n> (op2 4), DBGBCR<n>, DBGWVR<n>, DBGWCR<n>."""
    return 2, 0, 0, number, op2


@pytest.mark.parametrize(("first", "field"), [(4, BRPS), (6, WRPS)], ids=["breakpoints", "watchpoints"])
def test_a_vm_has_as_many_as_the_cpu(guest: Exceptions, first: int, field: int) -> None:
    guest.identify(5 << field)
    for kind in (first, first + 1):
        assert access(guest, point(5, kind), "w", 0x1000) is not None
        assert access(guest, point(5, kind), "r") is not None
        assert access(guest, point(6, kind), "w") is None
        assert access(guest, point(6, kind), "r") is None
        other = kind ^ 2
        assert access(guest, point(1, other), "r") is None


def test_other_debug_registers_do_not_exist(guest: Exceptions) -> None:
    for encoding in ((2, 0, 0, 0, 3), (2, 0, 0, 7, 0), (2, 0, 1, 5, 0), (2, 1, 0, 0, 4)):
        assert access(guest, encoding, "r") is None, encoding


def test_points_match_only_below_the_engine(guest: Exceptions) -> None:
    """HMC, SSC and what the architecture reserves cannot be set (D19.3.2, D19.3.19)."""
    assert access(guest, point(2, 4), "w") == MASK
    assert access(guest, point(2, 4), "r", 0) == MASK
    access(guest, point(2, 5), "w")
    assert access(guest, point(2, 5), "r") == 1 | 3 << 1 | 0xF << 5 | 0xF << 16 | 3 << 20
    access(guest, point(2, 7), "w")
    assert (
        access(guest, point(2, 7), "r") == 1 | 3 << 1 | 3 << 3 | 0xFF << 5 | 0xF << 16 | 1 << 20 | 0x1F << 24
    )


def test_points_are_in_the_cpu_while_they_can_act(guest: Exceptions) -> None:
    guest.identify(1 << BRPS | 1 << WRPS)
    access(guest, point(1, 4), "w", 0x4000_0000)
    assert guest.seen("SetDebugRegister") == []
    assert access(guest, CONTROL, "w") == MASK
    control = 1 | 1 << 12 | 1 << 13 | 1 << 15
    loaded = [operands[:3] for operands in guest.seen("SetDebugRegister")]
    points = [(n, op2, 0x4000_0000 if (n, op2) == (1, 4) else 0) for op2 in range(4, 8) for n in (0, 1)]
    assert loaded == [*points, (2, 2, control)]
    assert access(guest, CONTROL, "r") == control
    access(guest, point(0, 7), "w", 5)
    assert [operands[:3] for operands in guest.seen("SetDebugRegister")] == [(0, 7, 5)]
    access(guest, CONTROL, "w", 0)
    assert [operands[:3] for operands in guest.seen("SetDebugRegister")] == [(2, 2, 0)]
