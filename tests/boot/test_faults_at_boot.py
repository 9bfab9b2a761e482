"""CPUs and redistributors that QEMU does not have: what the engine refuses at boot, and what it writes where.

Each fault names a function of the engine, an instruction in it and what its register becomes (`boot.faults`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from boot import faults, machines
from boot.assembly import assemble
from boot.faults import LOAD_WORD, OPERANDS, STORE_WORD, Fault, Faults, field, mrs, msr
from boot.rig import EXITS, VM_RAM, start_vm
from boot.trees import EVENTS_OF_A_RESET, STOP
from bulkhead.image import build
from bulkhead.inspect.panic import parse_panic
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.errors import EnginePanic
from bulkhead.machine.qemu import MIB, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu
CONFIG = QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB)
CALL = assemble("ldr x0, =0xC6000042\n mov x1, #0x77\n hvc #0\n b .\n .ltorg")

# --- what the CPU and the GIC must have ---------------------------------------------------------------------

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
        Fault(WAKE, (STORE_WORD | 5 << 10, OPERANDS), lambda waker: waker | 2, when="operand"),
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
        yield machine, Faults(machine, Symbols(build.build("pinned", "payload").elf))


@pytest.mark.parametrize(("fault", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(halted: tuple[QemuMachine, Faults], fault: Fault, said: str) -> None:
    machine, injected = halted
    machine.qmp.events.clear()
    machine.qmp.execute("system_reset")
    machine.wait_until(
        lambda: any(one["event"] == EVENTS_OF_A_RESET for one in machine.qmp.events), 20, "the reset"
    )
    machine.console.text = ""
    injected.arm(fault)
    injected.go_on()
    try:
        injected.wait_until(lambda: "\n" in machine.console.text.partition(STOP)[2], 20, "the refusal")
    finally:
        injected.interrupt()
        injected.disarm()
    assert said in machine.console.text


def test_a_redistributor_that_takes_its_time() -> None:
    """GICR_WAKER says at first that it sleeps."""
    asleep = Fault(WAKE, (LOAD_WORD, OPERANDS), lambda waker: waker | 4, times=3)
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


# --- what the CPU may have ----------------------------------------------------------------------------------

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


# --- the engine's own faults --------------------------------------------------------------------------------

FIRST = mrs("ID_AA64PFR0_EL1")
WFI = (0xD503207F, 0)
NOWHERE = 0xDEAD_0000
PATIENCE = 100
"""How often the machine is stopped to see whether the CPU waits."""


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
    """Rather than dump for ever: it waits for good."""
    config = dataclasses.replace(CONFIG, halted=True)
    symbols = Symbols(build.build("pinned", "payload").elf)
    dump = symbols.address("bulkhead_engine_exception")
    with QemuMachine(config, say=print) as machine:
        injected = Faults(machine, symbols)
        (wait,) = injected.places("bulkhead_engine_fault", WFI)
        injected.arm(Fault(CHECK, FIRST, lambda _: NOWHERE, when="operand", register="pc"))
        injected.stop_at(dump)
        injected.go_on()
        injected.wait_until(lambda: bool(injected.happened), 20, "the fault")
        machine.wait_until(injected.is_stopped, 20, "the dump")
        assert injected.register("pc") == dump
        injected.set_register("pc", NOWHERE, 0)
        injected.forget(dump)
        for _ in range(PATIENCE):
            injected.go_on()
            machine.loop.step(0.1)
            injected.interrupt()
            if injected.register("pc") == wait + 4:
                break
        assert injected.register("pc") == wait + 4
        assert injected.register("ELR_EL2") == NOWHERE
        assert machine.console.panic_dump() is None
