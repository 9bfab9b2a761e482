"""Real turns of a VM on the booted engine: registers, exits and traps are as specified, and what differs is noticed."""

from __future__ import annotations

import struct
from random import Random

import pytest

from boot.assembly import assemble
from bulkhead.conformance.backends import trapping
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.backends.trapping import Access, move
from bulkhead.conformance.sequences.booted_vcpus import BootedVcpus, Turn
from bulkhead.conformance.sequences.guide_turns import CPACR, DEVICE, EL1H, EVEN, MASKED
from bulkhead.conformance.testing.builder import RAM, Vm
from bulkhead.conformance.testing.machine import Machine
from bulkhead.image.build import Images, build
from bulkhead.image.variant import Edit, build_variant
from bulkhead.provision import qemu
from bulkhead.spec.calls import tested
from bulkhead.spec.calls.traps import packed
from bulkhead.spec.context import ContextWord, register
from bulkhead.spec.pairs import Pair

PROGRAM = trapping.program(RAM)
SOURCES = {
    "wfi": PROGRAM.wait,
    "hvc #0": PROGRAM.call,
    "smc #0": PROGRAM.smc,
    ".inst 0x04bf5000": PROGRAM.sve,  # rdvl x0, #0
    "b .": PROGRAM.spin,
    "ldrsw x0, [x28]": Access(0xB9800000, 2, signed=True, wide=True).of(0, 28),
    "strb wzr, [x2]": Access(0x39000000, 0, store=True).of(31, 2),
    "ldrh w17, [x28]": Access(0x79400000, 1).of(17, 28),
    "ldp x4, x3, [x9]": next(one for one in PROGRAM.accesses if one.bytes == 16 and one.base == 9),
    "msr S3_0_C12_C11_5, x30": move(packed((3, 0, 12, 11, 5)), 30, read=False),
    "mrs x5, S3_0_C0_C4_0": move(packed((3, 0, 0, 4, 0)), 5, read=True),
}


def test_words_are_the_instructions_that_they_are_meant_to_be() -> None:
    words = struct.unpack(f"<{len(SOURCES)}I", assemble("\n".join(SOURCES))[: 4 * len(SOURCES)])
    assert dict(zip(SOURCES, words, strict=True)) == {source: one.word for source, one in SOURCES.items()}


def test_an_instruction_is_where_execution_is_sent() -> None:
    content = b"".join(PROGRAM.pages())
    for one, place in PROGRAM.places.items():
        here, behind = struct.unpack("<2I", content[place - RAM : place - RAM + 8])
        assert (here, behind) == (one.word, trapping.WFI)
        assert (PROGRAM.at(place), PROGRAM.at(place + 4)) == (one, PROGRAM.wait)
    with pytest.raises(KeyError):
        PROGRAM.at(PROGRAM.vectors + 4)


SAVED = "    stp     x4, x5, [sp, #{V_PC}]\n    mov     x19, sp"
"""What follows when a VM's general registers, PC and PSTATE are saved; x18 is at offset 144."""


def take_turns(images: Images) -> BootedVcpus:
    """Lets a VM execute each instruction once, everywhere. AssertionError if a register is not as specified."""
    random, backend = Random(1), QemuBackend(images, str(qemu.ensure()), cpu_model="neoverse-v1")
    try:
        vm = Vm(Machine(backend))
        for position, content in enumerate(PROGRAM.pages()):
            vm.page(RAM + position * PAGE, content)
        vm.activate()
        oracle = BootedVcpus(vm.machine, PROGRAM)
        for one, place in PROGRAM.places.items():
            words = {x: random.getrandbits(64) & EVEN for x in range(ContextWord.ZERO)}
            words |= {ContextWord.PC: place, ContextWord.PSTATE: EL1H | MASKED, register("CPACR_EL1"): CPACR}
            words |= {register("VBAR_EL1"): PROGRAM.vectors, register("TPIDRRO_EL0"): random.getrandbits(64)}
            for address in (DEVICE, RAM + 9 * PAGE) if one.base is not None else (0,):
                oracle.turn(
                    Turn(0, vm.contexts[0], words | ({one.base: address} if one.base is not None else {}))
                )
        oracle.check()
        return oracle
    finally:
        backend.close()


@pytest.mark.qemu
def test_every_instruction_that_traps_is_handled_as_specified() -> None:
    oracle = take_turns(build("pinned", "payload"))
    shown = {pair for pair in oracle.pairs if pair.step in tested.EXCEPTIONS}
    assert {pair.step for pair in shown} == {*tested.EXCEPTIONS} - {"VM: instruction abort"}
    assert {pair.label for pair in shown if pair.step == "VM: data abort"} == {
        "SUCCESS not mapped",
        "SUCCESS store",
        "SUCCESS load",
        "SUCCESS external abort",
    }
    assert oracle.pairs[Pair("VM: interrupt", "SUCCESS the host's")] > 0, "nothing ends a loop"


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("edit", "noticed"),
    [
        (
            Edit("engine/arch/src/switch.S", "mrs     x12, S3_3_C13_C0_3 ", "mov     x12, xzr "),
            r"TPIDRRO_EL0 of the vCPU at 0x[0-9a-f]+ is 0x0; specified is 0x",
        ),
        (
            Edit(
                "engine/arch/src/vectors.S",
                SAVED,
                SAVED.replace("x19, sp", "x19, sp\n    str     x4, [sp, #144]"),
            ),
            r"x18 of the vCPU at 0x[0-9a-f]+ is 0x400008[0-9a-f]+; specified is 0x",
        ),
        (
            Edit(
                "engine/core/src/vcpu/exit.rs",
                "trap::vcpu_register(vcpu, (esr >> 16 & 31) as usize) & low_bits(size)",
                "trap::vcpu_register(vcpu, (esr >> 16 & 31) as usize)",
            ),
            r"the host sees x4 is 0x[0-9a-f]+, not 0x",
        ),
    ],
    ids=["a register is lost", "a register is overwritten", "a store tells more than it stores"],
)
def test_an_engine_that_differs_is_noticed(edit: Edit, noticed: str) -> None:
    with pytest.raises(AssertionError, match=noticed) as caught:
        take_turns(build_variant([edit]))
    assert "vcpu_run(vcpu=0x" in str(caught.value)
