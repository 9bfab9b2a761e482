"""Answers of hardware that QEMU never gives while the host and VMs run, and what the engine promises for them.

Each fault names a function of the engine, an instruction in it and what its register becomes (`boot.faults`).
"""

from __future__ import annotations

import dataclasses
import struct

import pytest

from boot import faults, machines
from boot.assembly import assemble
from boot.faults import CSET_NE, INDEXED, LOAD_INDEXED, LOAD_WORD, OPERAND, OPERANDS, Fault, field, mrs, msr
from boot.rig import BLOCK, EXITS, IDS, VM_RAM, start_vm
from boot.test_interrupts import (
    ACKNOWLEDGE,
    CONTROL_TIMER,
    GICD,
    GICR_SGI,
    RAISE,
    SGI,
    TIMER,
    arm,
    log,
    registers,
    run_to_the_end,
    start,
    wait_for,
)
from boot.test_random import ask
from bulkhead import abi
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.records import Kind
from bulkhead.machine.errors import LinkError
from bulkhead.machine.qemu import MIB, QemuConfig

pytestmark = pytest.mark.qemu
CONFIG = QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB)
CALL = assemble("ldr x0, =0xC6000042\n mov x1, #0x77\n hvc #0\n b .\n .ltorg")
SPIN = assemble("b .")
NO_ENTROPY = (1 << 64) - 3
DIED_SERROR = next(one.value for one in abi.load().deaths if one.name == "SERROR")

# --- what hardware may answer later -------------------------------------------------------------------------


def without_number(flags: int) -> int:
    """NZCV = 0b0100: RNDR has no number (Arm ARM, K18)."""
    return flags & ~(0xF << 28) | 1 << 30


@pytest.mark.parametrize(("before", "times"), [(0, 1), (0, 31), (0, 32), (1, 32), (2, 32)])
def test_random_numbers_run_dry(before: int, times: int) -> None:
    """Of three numbers the first `before` are there, the next after `times` tries: 32 are too many."""
    flags = (value for value in [False] * before + [True] * times)
    dry = Fault(
        "bulkhead_arch::random::hardware",
        (CSET_NE, OPERAND),
        lambda value: without_number(value) if next(flags) else value,
        when="operand",
        times=before + times,
        register="cpsr",
    )
    with faults.boot(dataclasses.replace(CONFIG, cpu_model="max")) as (booted, injected):
        with injected.armed(dry):
            status, *words = ask(booted, "TRNG_RND64", 192)
        assert len(injected.happened) == before + times
        if times < 32:
            assert status == 0
            assert all(words)
        else:
            assert (status, *words) == (NO_ENTROPY, 0, 0, 0)
        assert ask(booted, "TRNG_RND64", 192)[0] == 0


def test_an_smmu_that_takes_its_time() -> None:
    """CMDQ_CONS lags behind by a command, twice: the call looks once more."""
    lags = iter([1, 1, 0])
    late = Fault(
        "bulkhead_smmu_invalidate",
        (LOAD_WORD, OPERANDS),
        lambda value: value - next(lags),
        times=3,
        occurrence=1,
    )  # the first such load is that of CMDQ_PROD
    with faults.boot(CONFIG) as (booted, injected):
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        booted.write(block, b"touched")
        booted.ok("dma_allow", block)
        with injected.armed(late):
            booted.ok("dma_revoke", block)
        assert len(injected.happened) == 3


# --- errors and interrupts ----------------------------------------------------------------------------------

DEFERRED = 1 << 31 | 0x11
EXIT_VECTORS = "bulkhead_vm_vectors"
SAVE = (0xA90007E0, 0)
"""STP X0, X1, [SP]: the first instruction of each vector of VMs; the first two are those of synchronous exceptions and
of interrupts, the fourth is that of SErrors, 0x180 behind the first."""
ERRORS = {
    "deferred at a call": (CALL, Fault("exits::vm_synchronous", mrs("DISR_EL1"), lambda _: DEFERRED)),
    "deferred at an interrupt": (SPIN, Fault("exits::vm_interrupt", mrs("DISR_EL1"), lambda _: DEFERRED)),
    "deferred at a fast interrupt": (
        SPIN,
        Fault("exits::vm_fast_interrupt", mrs("DISR_EL1"), lambda _: DEFERRED),
    ),
    "taken": (
        CALL,
        Fault(EXIT_VECTORS, SAVE, lambda pc: pc + 0x180, when="operand", occurrence=0, register="pc"),
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_vm_dies_of_an_serror(kind: str) -> None:
    """And of nothing else does the host learn; another VM is not touched by it."""
    program, fault = ERRORS[kind]
    with faults.boot(CONFIG) as (booted, injected):
        vm, other = start_vm(booted, 0, {VM_RAM: program}), start_vm(booted, 1, {VM_RAM: CALL})
        place, seen = booted.take(), booted.take()
        if kind.endswith("fast interrupt"):
            booted.write(place, assemble(RAISE))
            booted.execute(place)
        with injected.armed(fault):
            answer = vm.run()
        assert len(injected.happened) == 1
        assert answer == [EXITS["DIED"], DIED_SERROR, *[0] * 6, answer[8], *[0] * 8]
        assert answer[8] == (1 << 64) - 1, "no deadline"
        assert booted.call("vcpu_run", vm.contexts[0])[0] != 0
        if kind.endswith("fast interrupt"):
            booted.write(place, assemble(ACKNOWLEDGE.format(place=seen)))
            booted.execute(place)
            assert int.from_bytes(booted.read(seen, 8), "little") == SGI
        assert other.run_on()[:2] == [EXITS["HOST_CALL"], 0x77]


SHARED = 100
"""An SPI that no device has."""
RUN_AND_TAKE = """
    stp     x19, x30, [sp, #-16]!
    mrs     x19, daif
    msr     daifset, #2
    {enable}
    dsb     sy
    isb
    ldr     x0, ={call:#x}
    ldr     x1, ={vcpu:#x}
    mov     x2, xzr
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    hvc     #0
    mrs     x3, S3_0_C12_C12_0       // ICC_IAR1_EL1
    msr     S3_0_C12_C12_1, x3       // ICC_EOIR1_EL1
    msr     S3_0_C12_C11_1, x3       // ICC_DIR_EL1
    ldr     x2, ={seen:#x}
    stp     x0, x1, [x2]
    str     x3, [x2, #16]
    {disable}
    dsb     sy
    msr     daif, x19
    ldp     x19, x30, [sp], #16
    ret
    .ltorg
"""
"""The host has an interrupt pending, runs a VM, and takes what has ended the run."""
IGROUPR, ISENABLER, ICENABLER, ISPENDR = 0x80, 0x100, 0x180, 0x200


@pytest.mark.parametrize("intid", [SGI, SHARED], ids=["private", "shared"])
def test_an_interrupt_that_overtakes_the_timers_is_given_back(intid: int) -> None:
    """It comes when the engine has looked and found the timer's: it ends the run, and the host takes it."""
    look = Fault("exits::vm_interrupt", mrs("ICC_HPPIR1_EL1"), lambda _: TIMER)
    frame, bit = (GICR_SGI if intid < 32 else GICD) + intid // 32 * 4, 1 << intid % 32
    with faults.boot(CONFIG) as (booted, injected):
        vm = start_vm(booted, 0, {VM_RAM: SPIN})
        place, seen = booted.take(), booted.take()
        program = RUN_AND_TAKE.format(
            enable=registers(*((frame + register, bit) for register in (IGROUPR, ISPENDR, ISENABLER))),
            disable=registers((frame + ICENABLER, bit)),
            call=IDS["vcpu_run"],
            vcpu=vm.contexts[0],
            seen=seen,
        )
        booted.write(place, assemble(program))
        with injected.armed(look):
            booted.execute(place)
        assert injected.happened == [(look, intid)]
        assert struct.unpack("<3Q", booted.read(seen, 24)) == (0, EXITS["IRQ"], intid)


def test_a_timer_interrupt_that_goes_before_it_is_taken() -> None:
    """Nothing is acknowledged, so that nothing is ended; the next one arrives."""
    gone = Fault("exits::vm_interrupt", mrs("ICC_IAR1_EL1"), lambda _: 1023, when="instead")
    ended = Fault(
        "exits::vm_interrupt", msr("S3_0_C12_C12_1"), lambda intid: intid, when="operand", times=100
    )
    with faults.boot(CONFIG) as (booted, injected):
        vm = start(booted, 0, "".join(arm(100_000) + wait_for(n, "nop") for n in (1, 2, 3)))
        with injected.armed(gone, ended):
            run_to_the_end(vm, CONTROL_TIMER)
        assert injected.happened[0][0] is gone
        assert {intid for fault, intid in injected.happened if fault is ended} == {TIMER}, "ICC_EOIR1_EL1"
        assert set(log(vm)) == {TIMER}


# --- another CPU between the fault and the look -------------------------------------------------------------

RECORD = (LOAD_INDEXED, INDEXED)
ABORT = "bulkhead_arch::host::abort"
EARLIER = {"HOST": [Kind.HOST], "DMA": [Kind.DMA], "SPLIT": [Kind.SPLIT, Kind.HOST]}
LOST = {"engine's": [Kind.ENGINE], "a VM's page": [Kind.SPLIT, Kind.VM_PAGE], "no kind": [9]}


def looks(*kinds: int) -> list[Fault]:
    """The records of the block, and of the frame, as another CPU has left them."""
    return [Fault(ABORT, RECORD, field(0, int(kind)), occurrence=number) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize("kinds", EARLIER.values(), ids=EARLIER)
def test_memory_that_has_become_the_hosts_is_tried_again(kinds: list[int]) -> None:
    with faults.boot(CONFIG) as (booted, injected):
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        with injected.armed(*looks(*kinds)):
            assert booted.read(block, 8) == bytes(8)
        assert len(injected.happened) == len(kinds)
        with stopped_view(booted.machine, booted.symbols) as view:
            assert view.owner(block).kind == Kind.HOST, "the second time it was touched"


@pytest.mark.parametrize("kinds", LOST.values(), ids=LOST)
def test_memory_that_the_host_has_lost_is_an_external_abort(kinds: list[int]) -> None:
    with faults.boot(CONFIG) as (booted, injected):
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        with injected.armed(*looks(*kinds)), pytest.raises(LinkError) as error:
            booted.read(block, 8)
        assert error.value.fields["esr"] & 0x3F == 0x10, "a synchronous external abort"
        with stopped_view(booted.machine, booted.symbols) as view:
            assert view.owner(block).kind == Kind.UNCLEARED
        assert booted.read(block, 8) == bytes(8)
