"""What the specification's events are in instructions: the trace that the machine code has to leave.

The sequences are those of Arm ARM DDI 0487 sections D8.13 (TLB maintenance), D8.16.1 (break-before-
make) and D7.5 (cache maintenance). A frame operation is one call of a leaf function, whose contract is
proved on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.spec import events, stage2
from bulkhead.spec.events import Event
from bulkhead.spec.state import State, VmWord
from bulkhead.spec.words import Word, plus, term

from . import isa, smt
from .exec.state import Store, TraceItem
from .smt import Bits

VTTBR_EL2 = (3, 4, 2, 1, 0)
VTCR_EL2 = (3, 4, 2, 1, 2)
CNTPCT_EL0 = (3, 3, 14, 0, 1)
TLBI_IPAS2E1IS = (1, 4, 8, 0, 1)
TLBI_VMALLE1IS = (1, 0, 8, 3, 0)
TLBI_VMALLS12E1IS = (1, 4, 8, 3, 6)
IC_IALLUIS = (1, 0, 7, 1, 0)
ISH, ISHST, SY = 0b1011, 0b1010, 0b1111
VMID_SHIFT = 48
RESET_PSTATE = 0x3C5
"""EL1h, D, A, I and F masked."""
RESET_SCTLR = 0x30C5_0830
"""RES1 bits of Armv8.0; MMU and caches off, little-endian."""
MPIDR_RES1 = 1 << 31
CONTEXT_MEMBERS = (
    ("x",), ("pc",), ("pstate",), ("el1", "sctlr_el1"), ("vm",), ("index",), ("frame",), ("vttbr",), ("vmpidr",),
)  # fmt: skip
"""Members of a vCPU's context that its reset writes, in this order; the others are zero."""


@dataclass(frozen=True)
class Leaf:
    """A call of a leaf function, by what it does and to what."""

    name: str
    operands: tuple[Bits, ...]


@dataclass(frozen=True)
class RecordStore:
    """A store to the record of a frame; the value is compared with the final state instead."""

    frame: Bits


@dataclass(frozen=True)
class BlockRecordStore:
    """The same for a block."""

    block: Bits


@dataclass(frozen=True)
class Translation:
    """VTTBR_EL2 and VTCR_EL2 as a call or step finds them, the host's, and VTCR_EL2 for VMs, as boot decided them."""

    vttbr: Bits
    vtcr: Bits
    vm_vtcr: Bits
    host_vttbr: Bits
    host_vtcr: Bits
    context: tuple[int, ...] = ()
    """Words of a context where the members in `CONTEXT_MEMBERS` are."""


def dsb(option: int) -> isa.Barrier:
    return isa.Barrier("DSB", option)


ISB = isa.Barrier("ISB", SY)


def invalidate_page(ipa: Word) -> list[TraceItem]:
    """For the VMID in VTTBR_EL2: stage 2 by IPA, then the combined entries."""
    return [
        isa.SystemInstruction(TLBI_IPAS2E1IS, smt.shift_right(term(ipa), stage2.FRAME_SHIFT)),
        dsb(ISH),
        isa.SystemInstruction(TLBI_VMALLE1IS, smt.word(0)),
        dsb(ISH),
        ISB,
    ]


def with_vm(state: State, registers: Translation, vm: Word, inner: list[TraceItem]) -> list[TraceItem]:
    """The same for the VMID of a VM, whose translation registers are put in place around it and taken back."""
    root = stage2.address(state.config, state.vm_word(vm, VmWord.ROOT))
    vttbr = term(plus(vm, 1) << VMID_SHIFT | root)
    return [
        isa.WriteSystem(VTCR_EL2, registers.vm_vtcr),
        isa.WriteSystem(VTTBR_EL2, vttbr),
        ISB,
        *inner,
        isa.WriteSystem(VTCR_EL2, registers.vtcr),
        isa.WriteSystem(VTTBR_EL2, registers.vttbr),
        ISB,
    ]


def with_host(registers: Translation, inner: list[TraceItem]) -> list[TraceItem]:
    """The same for the host's VMID, at the exit of a VM."""
    return [
        isa.WriteSystem(VTCR_EL2, registers.host_vtcr),
        isa.WriteSystem(VTTBR_EL2, registers.host_vttbr),
        ISB,
        *inner,
        isa.WriteSystem(VTCR_EL2, registers.vtcr),
        isa.WriteSystem(VTTBR_EL2, registers.vttbr),
        ISB,
    ]


def reset_context(event: events.ResetContext, state: State, registers: Translation) -> list[Store]:
    """The stores that reset a context: EL1h at the entry point with the MMU off, and whose vCPU it is."""
    record = state.frame[event.frame]
    root = stage2.address(state.config, state.vm_word(record.vm, VmWord.ROOT))
    values = (
        event.context,
        event.entry,
        RESET_PSTATE,
        RESET_SCTLR,
        record.vm,
        record.slot,
        event.frame,
        plus(record.vm, 1) << VMID_SHIFT | root,
        record.slot | MPIDR_RES1,
    )
    return [
        Store("RAM", term(stage2.word(event.frame, word)), term(value))
        for word, value in zip(registers.context, values, strict=True)
    ]


def lower(event: Event, state: State, registers: Translation) -> list[TraceItem]:
    """The trace items of one event; `state` is the one before the call."""
    match event:
        case events.SetTableEntry(table, index, descriptor):
            return [Store("RAM", term(stage2.word(table, index)), term(descriptor))]
        case events.SetHostEntry(block, descriptor):
            return [Store("HOST_L2", term(block), term(descriptor))]
        case events.SetFrameRecord(frame):
            return [RecordStore(term(frame))]
        case events.ClaimVcpu(frame):
            return [Leaf("claim", (term(frame),)), RecordStore(term(frame))]
        case events.SetDmaEntry(block, descriptor):
            return [Store("DMA_L2", term(block), term(descriptor))]
        case events.ZeroBlock(block):
            return [Leaf("zero_block", (term(block),))]
        case events.ZeroFrame(frame):
            return [Leaf("zero_frame", (term(frame),)), Leaf("clean_frame", (term(frame),))]
        case events.CleanFrame(frame):
            return [Leaf("clean_frame", (term(frame),))]
        case events.FillTable(table, block):
            return [Leaf("fill_table", (term(table), term(block)))]
        case events.FillFrameRecords(block):
            return [Leaf("fill_frame_records", (term(block),))]
        case events.FillVmRecords(block):
            return [Leaf("fill_vm_records", (term(block),))]
        case events.SetBlockRecord(block):
            return [BlockRecordStore(term(block))]
        case events.Measure(vm, words, frame):
            first = term(vm << 6 | VmWord.MEASUREMENT)
            operands = (first, *(term(word) for word in words))
            if frame is None:
                return [Leaf("measure_words", operands)]
            return [Leaf("measure_frame", (*operands, term(frame)))]
        case events.InvalidateInstructions():
            return [isa.SystemInstruction(IC_IALLUIS, smt.word(0)), dsb(ISH), ISB]
        case events.Publish():
            return [dsb(ISHST)]
        case events.InvalidateHostPage(frame):
            return [dsb(ISHST), *invalidate_page(stage2.address(state.config, frame))]
        case events.InvalidateHostPageFromVm(frame):
            inner = invalidate_page(stage2.address(state.config, frame))
            return [dsb(ISHST), *with_host(registers, inner)]
        case events.InvalidateVmPage(vm, ipa):
            return [dsb(ISHST), *with_vm(state, registers, vm, invalidate_page(ipa))]
        case events.ReadCounter():
            return [ISB]
        case events.ResetContext():
            return [*reset_context(event, state, registers)]
        case events.InvalidateDma(_):
            return [Leaf("smmu_invalidate", ())]
        case events.InvalidateVm(vm):
            flush = [isa.SystemInstruction(TLBI_VMALLS12E1IS, smt.word(0)), dsb(ISH), ISB]
            return [dsb(ISHST), *with_vm(state, registers, vm, flush)]
    raise NotImplementedError(f"no call that is proved emits {type(event).__name__}")
