"""Answers of hardware that QEMU never gives, and what the engine promises for them.

Each fault names a function of the engine, an instruction in it and what its register becomes (`boot.faults`).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator

import pytest

from boot import faults, machines
from boot.assembly import assemble
from boot.faults import CSET_NE, LOAD_INDEXED, LOAD_WORD, OPERAND, STORE_WORD, Fault, Faults, field, mrs, msr
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
from boot.trees import EVENTS_OF_A_RESET, STOP
from bulkhead import abi
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.panic import parse_panic
from bulkhead.inspect.records import Kind
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.errors import EnginePanic, LinkError
from bulkhead.machine.qemu import MIB, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu
CONFIG = QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB)
CALL = assemble("ldr x0, =0xC6000042\n mov x1, #0x77\n hvc #0\n b .\n .ltorg")
SPIN = assemble("b .")
NO_ENTROPY = (1 << 64) - 3
DIED_SERROR = next(one.value for one in abi.load().deaths if one.name == "SERROR")

# --- what the CPU and the GIC must have ---------------------------------------------------------------------------------

CHECK, DECIDE, INIT, WAKE = (
    "bulkhead_arch::features::check", "bulkhead::boot::decide", "bulkhead_arch::cpu::init", "run_cpu_host"
)  # fmt: skip


def reads(function: str, register: str, low: int, value: int, width: int = 4) -> Fault:
    """Each read of an ID register there finds another value in a field."""
    return Fault(function, mrs(register), field(low, value, width), times=100)


REFUSED = {
    "EL1": (reads(CHECK, "CurrentEL", 2, 1, 2), "not entered at EL2"),
    "cache lines of 32 bytes": (reads(CHECK, "CTR_EL0", 16, 3), "data cache lines shorter than 64 bytes"),
    "no GICv3": (reads(CHECK, "ID_AA64PFR0_EL1", 24, 0), "no GICv3 system register interface"),
    "no LSE": (reads(CHECK, "ID_AA64ISAR0_EL1", 20, 0), "no atomic instructions"),
    "no 4 KiB pages": (reads(CHECK, "ID_AA64MMFR0_EL1", 28, 0xF), "no 4 KiB granule"),
    "none at stage 2": (reads(CHECK, "ID_AA64MMFR0_EL1", 40, 1), "no 4 KiB granule"),
    "36 bits": (reads(CHECK, "ID_AA64MMFR0_EL1", 0, 1), "fewer than 44 physical address bits"),
    "36 bits later": (reads(DECIDE, "ID_AA64MMFR0_EL1", 0, 1), "fewer than 44 physical address bits"),
    "3 list registers": (reads(CHECK, "ICH_VTR_EL2", 0, 2, 5), "fewer than 4 list registers"),
    "6 preemption bits": (reads(CHECK, "ICH_VTR_EL2", 26, 5, 3), "more than 5 preemption bits"),
    "a redistributor that sleeps on": (
        Fault(WAKE, (STORE_WORD | 5 << 10, 0x3FF), lambda waker: waker | 2, when="operand"),
        "a GIC redistributor does not wake",
    ),
}
"""The last: the write that wakes it is lost; GICR_WAKER is at 0x14."""


@pytest.fixture(scope="module")
def halted() -> Iterator[tuple[QemuMachine, Faults]]:
    """One machine for many boots that fail."""
    config = dataclasses.replace(CONFIG, halted=True, ignore=(STOP,))
    with QemuMachine(config, say=print) as machine:
        machine.qmp.execute("set-action", reboot="reset")
        yield machine, Faults(machine, Symbols(machines.build.build("pinned", "payload").elf))


@pytest.mark.parametrize(("fault", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(halted: tuple[QemuMachine, Faults], fault: Fault, said: str) -> None:
    machine, injected = halted
    if injected.happened:
        machine.qmp.events.clear()
        machine.qmp.execute("system_reset")
        machine.wait_until(
            lambda: any(one["event"] == EVENTS_OF_A_RESET for one in machine.qmp.events), 20, "the reset"
        )
    machine.console.text = ""
    injected.arm(fault)
    injected.go_on()
    injected.wait_until(lambda: "\n" in machine.console.text.partition(STOP)[2], 20, "the refusal")
    injected.interrupt()
    injected.disarm()
    assert said in machine.console.text


def test_a_redistributor_that_takes_its_time() -> None:
    """GICR_WAKER says at first that it sleeps."""
    asleep = Fault(WAKE, (LOAD_WORD, 0x3FF), lambda waker: waker | 4, times=3)
    with faults.boot(CONFIG, asleep) as (booted, injected):
        assert len(injected.happened) == 3
        booted.ok("version")


def test_a_cpu_of_44_bits() -> None:
    """Stage 2 of the host and of VMs is as wide as the CPU."""
    narrow = [reads(function, "ID_AA64MMFR0_EL1", 0, 4) for function in (CHECK, DECIDE)]
    with faults.boot(CONFIG, *narrow) as (booted, injected):
        injected.interrupt()
        control = injected.register("VTCR_EL2")
        injected.disarm()
        injected.go_on()
        assert (control >> 16 & 7, 64 - (control & 63)) == (4, 44)
        assert start_vm(booted, 0, {VM_RAM: CALL}).run_on()[:2] == [EXITS["HOST_CALL"], 0x77]


# --- what the CPU may have ----------------------------------------------------------------------------------------------

PROFILING = {"S3_0_C9_C10_0": 0, "S3_4_C9_C9_0": 0}
TRACE_BUFFER = {"S3_0_C9_C11_0": 0}
GUARDED = {
    **PROFILING,
    **TRACE_BUFFER,
    "S3_0_C10_C4_3": 0,  # LORC_EL1
    "S3_4_C13_C0_1": 0,  # CONTEXTIDR_EL2
    "S3_4_C14_C3_1": 0,  # CNTHV_CTL_EL2
    "S3_4_C14_C0_6": 0,  # CNTPOFF_EL2
    **{f"S3_4_C1_C1_{op2}": 0 for op2 in (4, 5, 6)},  # HFG*_EL2
    **{f"S3_4_C3_C1_{op2}": 0 for op2 in range(8)},  # HDFG*, HAFG*, HFG*2, HDFG*2
    "S3_4_C1_C2_2": 1 << 6,  # HCRX_EL2
    "S3_4_C5_C6_0": 0,  # TFSR_EL2
    "S3_4_C10_C5_0": 3 << 48,  # MPAM2_EL2
    "S3_4_C1_C2_1": 0,  # TRFCR_EL2
}
"""Registers that not every CPU has, and what boot writes into them (engine/arch/registers/*.toml)."""
OPTIONAL = {
    "ID_AA64PFR0_EL1": {40: 1, 44: 1},
    "ID_AA64PFR1_EL1": {8: 2},
    "ID_AA64MMFR0_EL1": {56: 2, 60: 2},
    "ID_AA64MMFR1_EL1": {8: 1, 16: 1, 40: 1},
    "ID_AA64DFR0_EL1": {32: 1, 40: 1, 44: 1},
}
"""ID register → bit of a field → its value where the feature is there."""
MONITORS = 8
"""ID_AA64DFR0_EL1.PMUVer; 0xf: of an implementation's own, which has no PMCR_EL0."""
CPUS = {
    "all": (True, 0, set(GUARDED)),
    "all, buffers not EL2's": (True, 1 << 4, set(GUARDED) - set(PROFILING) - set(TRACE_BUFFER)),
    "none": (False, 0, set()),
}
"""Whether the features are there; PMBIDR_EL1 and TRBIDR_EL1; the registers that are written."""


@pytest.mark.parametrize("kind", CPUS)
def test_optional_features(kind: str) -> None:
    """The engine writes the control registers of the features that there are, and no others. The registers are the
    debugger's, whatever QEMU's CPU has."""
    there, buffer, written = CPUS[kind]
    ids = []
    for register, fields in OPTIONAL.items():
        values = {low: value if there else 0 for low, value in fields.items()}
        values |= {MONITORS: 0xF} if register == "ID_AA64DFR0_EL1" else {}
        ids.append(Fault(INIT, mrs(register), several(values)))
    ids += [Fault(INIT, mrs(name), lambda _: buffer, "instead") for name in ("PMBIDR_EL1", "TRBIDR_EL1")]
    writes = {Fault(INIT, msr(name), lambda value: value, "instead"): name for name in GUARDED}
    mdcr = Fault(INIT, msr("S3_4_C1_C1_1"), lambda value: value, "operand")
    with faults.boot(CONFIG, *ids, *writes, mdcr) as (booted, injected):
        done = {writes[fault]: value for fault, value in injected.happened if fault in writes}
        assert done == {name: GUARDED[name] for name in written}
        (control,) = (value for fault, value in injected.happened if fault is mdcr)
        assert control & 0x1F == 0, "MDCR_EL2.HPMN of a CPU without counters"
        assert start_vm(booted, 0, {VM_RAM: CALL}).run_on()[:2] == [EXITS["HOST_CALL"], 0x77]


def several(fields: dict[int, int]) -> Callable[[int], int]:
    """Other values of several fields."""

    def change(value: int) -> int:
        for low, other in fields.items():
            value = field(low, other)(value)
        return value

    return change


# --- what hardware may answer later -------------------------------------------------------------------------------------


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
    """CMDQ_CONS lags behind: the call waits until it does not."""
    late = Fault("bulkhead_smmu_invalidate", (LOAD_WORD, 0x3FF), lambda value: value ^ 1, times=1, occurrence=-1)
    with faults.boot(CONFIG) as (booted, injected):
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        booted.write(block, b"touched")
        booted.ok("dma_allow", block)
        with injected.armed(late):
            booted.ok("dma_revoke", block)
        assert len(injected.happened) == 1


# --- errors and interrupts ----------------------------------------------------------------------------------------------

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
    """Nothing is acknowledged, and nothing is left active: the next one arrives."""
    gone = Fault("exits::vm_interrupt", mrs("ICC_IAR1_EL1"), lambda _: 1023, when="instead")
    with faults.boot(CONFIG) as (booted, injected):
        vm = start(booted, 0, "".join(arm(100_000) + wait_for(n, "nop") for n in (1, 2, 3)))
        with injected.armed(gone):
            run_to_the_end(vm, CONTROL_TIMER)
        assert len(injected.happened) == 1
        assert set(log(vm)) == {TIMER}


# --- another CPU between the fault and the look -------------------------------------------------------------------------

RECORD = (LOAD_INDEXED, 0x1F03FF)
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


# --- the engine's own faults --------------------------------------------------------------------------------------------

FIRST = (mrs("ID_AA64PFR0_EL1")[0], OPERAND)
NOWHERE = 0xDEAD_0000


def test_a_fault_before_a_cpu_has_its_context() -> None:
    """Is dumped on the boot CPU's own stack."""
    wild = Fault(CHECK, FIRST, lambda _: NOWHERE, when="operand", register="pc")
    with pytest.raises(EnginePanic) as error, faults.boot(CONFIG, wild):
        pass
    dump = parse_panic(error.value.dump)
    assert dump is not None
    assert dump.complete
    assert dump.values["elr"] == NOWHERE


def test_a_fault_within_the_dump_parks_the_cpu() -> None:
    """Rather than dump for ever."""
    config = dataclasses.replace(CONFIG, halted=True)
    symbols = Symbols(machines.build.build("pinned", "payload").elf)
    fault, dump = symbols.address("bulkhead_engine_fault"), symbols.address("bulkhead_engine_exception")
    with QemuMachine(config, say=print) as machine:
        injected = Faults(machine, symbols)
        injected.arm(Fault(CHECK, FIRST, lambda _: NOWHERE, when="operand", register="pc"))
        injected.stop_at(dump)
        injected.go_on()
        injected.wait_until(lambda: bool(injected.happened), 20, "the fault")
        machine.wait_until(injected.is_stopped, 20, "the dump")
        assert injected.register("pc") == dump
        injected.set_register("pc", NOWHERE, 0)
        injected.forget(dump)
        injected.go_on()
        machine.pump(0.2)
        injected.interrupt()
        assert fault < injected.register("pc") < fault + 0x100
        assert injected.register("ELR_EL2") == NOWHERE
        assert machine.console.panic_dump() is None
