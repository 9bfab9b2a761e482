"""Exit decisions with syndromes that no real guest gives at will, and calls of VMs. Host build only."""

from __future__ import annotations

import hashlib

import pytest

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.oracle.snapshot import unpack
from bulkhead.conformance.testing.machine import ABI, MASK, filler
from native.exceptions import (
    EC_DATA,
    EC_FETCH,
    EC_HVC,
    EC_SMC,
    EC_WFX,
    EXITS,
    PC,
    PENDING,
    PSTATE,
    Exceptions,
    X,
)
from native.scene import RAM

pytestmark = pytest.mark.host

DEVICE = 0x0900_0000
ISV, SIGNED, SIXTY_FOUR, WRITE, WALK = 1 << 24, 1 << 21, 1 << 15, 1 << 6, 1 << 7
TRANSLATION, PERMISSION = 0x07, 0x0F
"""Fault status: translation and permission fault at level 3."""
OF_VMS = {call.id for call in ABI.calls if call.caller == "vm" and not call.reserved}


@pytest.mark.parametrize("instruction", [0, 1, 2, 3], ids=["WFI", "WFE", "WFIT", "WFET"])
@pytest.mark.parametrize("condition", [0, 0x1E << 20, 5 << 5], ids=["", "always", "register"])
def test_wait(guest: Exceptions, instruction: int, condition: int) -> None:
    event = instruction & 1
    assert guest.take(EC_WFX, condition | instruction) == Next("exit", EXITS["WFI"], (event, 0, 0))
    assert guest.word(PC) == RAM + 4


@pytest.mark.parametrize("ec", [EC_DATA, EC_FETCH], ids=["data", "fetch"])
@pytest.mark.parametrize(
    "iss", [TRANSLATION, TRANSLATION | ISV, TRANSLATION | WRITE | WALK, 0x04, 0x05, 0x06]
)
def test_translation_fault_in_ram(guest: Exceptions, ec: int, iss: int) -> None:
    ipa = RAM + 7 * PAGE
    assert guest.take(ec, iss, ipa + 0x123) == Next("exit", EXITS["MEM_FAULT"], (ipa, 0, 0))
    assert guest.word(PC) == RAM


@pytest.mark.parametrize("size", [0, 1, 2, 3])
@pytest.mark.parametrize("register", [0, 17, 30, 31])
def test_store(guest: Exceptions, size: int, register: int) -> None:
    iss = ISV | WRITE | TRANSLATION | size << 22 | register << 16
    value = guest.word(X + register) if register < 31 else 0
    kind = guest.take(EC_DATA, iss, DEVICE + 8)
    assert kind == Next("exit", EXITS["MMIO_WRITE"], (DEVICE + 8, 1 << size, value & (1 << (8 << size)) - 1))
    assert guest.word(PC) == RAM + 4


@pytest.mark.parametrize("wide", [False, True], ids=["w", "x"])
@pytest.mark.parametrize("signed", [False, True], ids=["zero", "sign"])
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_load(guest: Exceptions, size: int, signed: bool, wide: bool) -> None:
    iss = ISV | TRANSLATION | size << 22 | 9 << 16 | signed * SIGNED | wide * SIXTY_FOUR
    assert guest.take(EC_DATA, iss, DEVICE) == Next("exit", EXITS["MMIO_READ"], (DEVICE, 1 << size, 0))
    reply = 0xF1E2_D3C4_B5A6_9788
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, reply=reply)
    bits = 8 << size
    value = reply & (1 << bits) - 1
    if signed:
        value = (value - (1 << bits)) & (MASK if wide else 0xFFFF_FFFF)
    assert guest.word(X + 9) == value


ABORTS = {
    "no description": (EC_DATA, TRANSLATION, DEVICE, 0x25),
    "table walk": (EC_DATA, ISV | WALK | TRANSLATION, DEVICE, 0x25),
    "permission": (EC_DATA, ISV | PERMISSION, RAM, 0x25),
    "permission outside RAM": (EC_DATA, ISV | PERMISSION, DEVICE, 0x25),
    "fetch outside RAM": (EC_FETCH, TRANSLATION, DEVICE, 0x21),
    "external": (EC_DATA, ISV | 0x10, RAM, 0x25),
}


@pytest.mark.parametrize(("ec", "iss", "ipa", "seen"), ABORTS.values(), ids=ABORTS.keys())
def test_what_the_guest_must_handle_itself(guest: Exceptions, ec: int, iss: int, ipa: int, seen: int) -> None:
    assert guest.take(ec, iss, ipa) == Next("resume", 0, (0, 0, 0))
    elr, _, esr, far = guest.injected()
    assert (elr, esr >> 26, esr & 0x3F, far) == (RAM, seen, 0x10, ipa)


@pytest.mark.parametrize("ec", [0x00, 0x07, 0x09, 0x0D, 0x19, 0x1C, 0x30, 0x32, 0x3C, 0x3F])
def test_other_classes_are_undefined_for_the_guest(guest: Exceptions, ec: int) -> None:
    assert guest.take(ec, 0).kind == "resume"
    elr, _, esr, _ = guest.injected()
    assert (elr, esr) == (RAM, 1 << 25)


MODES = {
    "EL0": (0, 0x400, 0x24),
    "EL1t": (4, 0x000, 0x25),
    "EL1h": (5, 0x200, 0x25),
    "AArch32": (0x10, 0x600, 0x24),
}
"""PSTATE.M, offset of the vector, exception class of a data abort (Arm ARM DDI 0487, D1.3)."""
FLAGS, PAN, DIT = 0xF << 28, 1 << 22, 1 << 24
CLEARED = 1 << 23 | 1 << 21 | 1 << 20 | 3 << 10
"""Of PSTATE: UAO, SS, IL and BTYPE, which an exception clears (AArch64.TakeException)."""
SSBS, SPAN, DSSBS = 1 << 12, 1 << 23, 1 << 44


@pytest.mark.parametrize(("mode", "offset", "seen"), MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize("keeps_pan", [False, True])
@pytest.mark.parametrize("default_ssbs", [False, True])
@pytest.mark.parametrize(
    "before",
    [0, PAN, DIT, SSBS, CLEARED, *(1 << flag for flag in range(28, 32))],
    ids=["", "PAN", "DIT", "SSBS", "cleared", "V", "C", "Z", "N"],
)
def test_an_exception_is_taken_as_the_architecture_says(
    guest: Exceptions, mode: int, offset: int, seen: int, keeps_pan: bool, default_ssbs: bool, before: int
) -> None:
    guest.set("VBAR_EL1", 0x4000_8000)
    guest.set("SCTLR_EL1", keeps_pan * SPAN | default_ssbs * DSSBS)
    guest.poke(PSTATE, mode | before)
    assert guest.take(EC_DATA, ISV | PERMISSION, RAM).kind == "resume"
    elr, spsr, esr, _ = guest.injected()
    assert (elr, spsr, esr >> 26) == (RAM, mode | before, seen)
    pan = before & PAN if keeps_pan else PAN
    expected = 0x3C5 | pan | before & (FLAGS | DIT) | default_ssbs * SSBS
    assert (guest.word(PC), guest.word(PSTATE)) == (0x4000_8000 + offset, expected)


def test_a_load_that_goes_nowhere(guest: Exceptions) -> None:
    assert guest.take(EC_DATA, ISV | TRANSLATION | 31 << 16, DEVICE).kind == "exit"
    before = guest.context()
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, reply=77)
    changed = {n for n, (old, new) in enumerate(zip(before, guest.context(), strict=True)) if old != new}
    assert changed == {PENDING}


def test_a_positive_value_is_extended_by_zeroes(guest: Exceptions) -> None:
    guest.take(EC_DATA, ISV | TRANSLATION | 5 << 16 | SIGNED | SIXTY_FOUR, DEVICE)
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, reply=0xFF7F)
    assert guest.word(X + 5) == 0x7F


def test_a_fault_while_another_cpu_changes_ownership_is_tried_again(guest: Exceptions) -> None:
    with guest.machine.locked():
        assert guest.take(EC_DATA, TRANSLATION, RAM + 7 * PAGE).kind == "resume"
    assert guest.word(PC) == RAM


def test_smc(guest: Exceptions) -> None:
    assert guest.take(EC_SMC, 0).kind == "resume"
    assert (guest.word(X), guest.word(PC)) == (MASK, RAM + 4)


def test_every_function_of_no_vm(guest: Exceptions) -> None:
    for function in [
        *({call.id for call in ABI.calls} - OF_VMS),
        0,
        MASK,
        0xC600_00FF,
    ]:
        regs, kind = guest.call(function)
        assert kind.kind == "resume"
        assert regs == (MASK, *(filler(register) for register in range(1, 18))), hex(function)


def test_measurement_and_extend(guest: Exceptions) -> None:
    regs, _ = guest.call(ABI.call("measurement").id)
    assert regs[:5] == (0, *guest.vm.measurement.words)
    regs, _ = guest.call(ABI.call("extend").id, 1, 2, 3, 4)
    digest = hashlib.sha256(bytes(32) + b"".join(n.to_bytes(8, "little") for n in (1, 2, 3, 4))).digest()
    assert regs[:5] == (0, *unpack(digest))
    assert regs[5:] == tuple(filler(register) for register in range(5, 18))


def test_an_extension_while_another_cpu_changes_ownership_is_made_again(guest: Exceptions) -> None:
    """The VM executes its HVC once more; until then nothing is appended."""
    for register, value in enumerate((ABI.call("extend").id, 1, 2, 3, 4)):
        guest.poke(X + register, value)
    guest.poke(PC, RAM + 4)
    before = guest.context()
    with guest.machine.locked():
        assert guest.take(EC_HVC, 0).kind == "resume"
    assert guest.context() == (*before[:PC], RAM, *before[PC + 1 :])
    guest.poke(PC, RAM + 4)
    assert guest.take(EC_HVC, 0).kind == "resume"
    digest = hashlib.sha256(bytes(32) + b"".join(n.to_bytes(8, "little") for n in (1, 2, 3, 4))).digest()
    assert guest.context()[X : X + 5] == (0, *unpack(digest))
    assert guest.word(PC) == RAM + 4


def test_discovery_as_linux_does_it(guest: Exceptions) -> None:
    """`kvm_init_hyp_services` and `pkvm_init_hyp_services` of Linux, call by call."""
    standard = {line.name: line.id for line in ABI.standards}
    rest = tuple(filler(register) for register in range(4, 18))
    regs, next_ = guest.call(standard["VENDOR_HYP_UID"])
    assert b"".join(word.to_bytes(4, "little") for word in regs[:4]) == ABI.vm_uid.bytes
    assert (regs[4:], next_.kind) == (rest, "resume")
    regs, next_ = guest.call(standard["VENDOR_HYP_FEATURES"])
    assert (regs, next_.kind) == ((1 << 0 | 1 << 2 | 1 << 3 | 1 << 4, 0, 0, 0, *rest), "resume")
    regs, next_ = guest.call(ABI.call("meminfo").id, 0, 0, 0)
    assert (regs, next_.kind) == ((PAGE, 0, 0, 0, *rest), "resume")


def test_smccc(guest: Exceptions) -> None:
    standard = {line.name: line.id for line in ABI.standards}
    assert guest.call(standard["SMCCC_VERSION"])[0][0] == 0x1_0002
    for name in ("SMCCC_VERSION", "SMCCC_ARCH_FEATURES"):
        assert guest.call(standard["SMCCC_ARCH_FEATURES"], standard[name])[0][0] == 0
    assert guest.call(standard["SMCCC_ARCH_FEATURES"], 0x8000_3FFF)[0][0] == MASK


def test_no_random_number_right_now(guest: Exceptions) -> None:
    rnd64 = next(line.id for line in ABI.standards if line.name == "TRNG_RND64")
    guest.backend.set_entropy(False)
    assert guest.call(rnd64, 64)[0][:4] == (-3 & MASK, 0, 0, 0)


def test_random_numbers(guest: Exceptions) -> None:
    rnd64 = next(line.id for line in ABI.standards if line.name == "TRNG_RND64")
    first, next_ = guest.call(rnd64, 192)
    assert next_.kind == "resume"
    assert first[0] == 0
    assert first[4:] == tuple(filler(register) for register in range(4, 18))
    second, _ = guest.call(rnd64, 192)
    assert len({*first[1:4], *second[1:4]}) == 6
    assert guest.call(rnd64, 193)[0][:4] == (-2 & MASK, 0, 0, 0)


def test_host_call(guest: Exceptions) -> None:
    _, kind = guest.call(ABI.call("host_call").id, 4, 5, 6)
    assert kind == Next("exit", EXITS["HOST_CALL"], (4, 5, 6))
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, reply=99)
    assert (guest.word(X), guest.word(X + 1)) == (0, 99)


def test_cpu_off_releases_the_vcpu(guest: Exceptions) -> None:
    function = next(standard.id for standard in ABI.standards if standard.name == "PSCI_CPU_OFF")
    _, kind = guest.call(function)
    assert kind == Next("off", EXITS["PSCI"], (function, 0, 0))
    assert guest.machine.frame_record(guest.vcpu).parent == 0
    guest.machine.refuses("vcpu_run", "BAD_STATE", vcpu=guest.vcpu)
