"""What a call does beyond its state: maintenance of caches and TLBs, and the stores whose order matters.

The names are those of the trait `Hardware` of the engine; what each means in instructions is in
`bulkhead.prove.lowering`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .words import Word


@dataclass(frozen=True)
class SetTableEntry:
    """One 64-bit store of a descriptor into entry `index` of the table in frame `table`."""

    table: Word
    index: Word
    descriptor: Word


@dataclass(frozen=True)
class SetHostEntry:
    """One 64-bit store of the host's level 2 descriptor of a block."""

    block: Word
    descriptor: Word


@dataclass(frozen=True)
class SetDmaEntry:
    """One 64-bit store of the level 2 descriptor of a block in the SMMU's tables of the host's devices."""

    block: Word
    descriptor: Word


@dataclass(frozen=True)
class SetFrameRecord:
    """The ownership record of a frame changes."""

    frame: Word


@dataclass(frozen=True)
class ClaimVcpu:
    """The record of an idle vCPU is taken by compare-and-swap, so that no CPU can load it."""

    frame: Word


@dataclass(frozen=True)
class SetBlockRecord:
    """The ownership record of a block changes."""

    block: Word


@dataclass(frozen=True)
class ZeroFrame:
    """512 zero words, cleaned and invalidated to the point of coherency."""

    frame: Word


@dataclass(frozen=True)
class ZeroBlock:
    """The same for all 512 frames of a block."""

    block: Word


@dataclass(frozen=True)
class CleanFrame:
    """The frame, unchanged, cleaned and invalidated to the point of coherency."""

    frame: Word


@dataclass(frozen=True)
class FillTable:
    """512 level 3 descriptors, of the frames of a block in their order."""

    table: Word
    block: Word


@dataclass(frozen=True)
class FillFrameRecords:
    """HOST in the 512 records of a block."""

    block: Word


@dataclass(frozen=True)
class FillVmRecords:
    """VM_PAGE in the 512 records of a block: like `first`, with slots 0 to 511."""

    block: Word


@dataclass(frozen=True)
class Measure:
    """A step of the launch measurement of a VM: four words, then the frame's content if there is one."""

    vm: Word
    words: tuple[Word, Word, Word, Word]
    frame: Word | None


@dataclass(frozen=True)
class InvalidateInstructions:
    """IC IALLUIS, DSB ISH, ISB."""


@dataclass(frozen=True)
class Publish:
    """DSB ISHST: earlier table writes are visible to the walkers."""


@dataclass(frozen=True)
class InvalidateHostPage:
    """The host's translation of a frame leaves every TLB."""

    frame: Word


@dataclass(frozen=True)
class InvalidateHostPageFromVm:
    """The same in a step of a VM, whose translation registers are in place."""

    frame: Word


@dataclass(frozen=True)
class InvalidateVmPage:
    """A VM's translation of one address leaves every TLB."""

    vm: Word
    ipa: Word


@dataclass(frozen=True)
class InvalidateVm:
    """Every translation of a VM leaves every TLB."""

    vm: Word


@dataclass(frozen=True)
class InvalidateDma:
    """The SMMU's translations of a block leave its TLBs and caches; completed, CMD_SYNC included."""

    block: Word


@dataclass(frozen=True)
class ResetContext:
    """The context of a vCPU becomes that of its entry point."""

    frame: Word
    entry: Word
    context: Word


@dataclass(frozen=True)
class ReadCounter:
    """The system counter is read, and not before everything that comes before (ISB)."""


@dataclass(frozen=True)
class SetRunState:
    """The run state in the record of a vCPU changes by compare-and-swap."""

    frame: Word
    run: Word


@dataclass(frozen=True)
class EnableVirtual:
    """The virtual CPU interface is on with these list registers; `control`: when it asks for maintenance."""

    lists: tuple[Word, Word, Word]
    control: Word


@dataclass(frozen=True)
class SetTimerListRegister:
    """The list register of the virtual timer on this CPU."""

    value: Word


@dataclass(frozen=True)
class AcknowledgeInterrupt:
    """The pending physical interrupt becomes active, and its priority is dropped."""


@dataclass(frozen=True)
class SetDebugRegister:
    """The CPU gets the debug register op0=2, op1=0, CRn=0, `crm`, `op2` of the VM."""

    crm: Word
    op2: Word
    value: Word


@dataclass(frozen=True)
class DrawRandom:
    """The random source of this CPU gives 192 bits and forgets them."""


@dataclass(frozen=True)
class StartCpu:
    """Firmware is asked to start a CPU of the host, which comes up in the engine."""

    affinity: Word
    entry: Word
    context: Word


@dataclass(frozen=True)
class ScrubVms:
    """No CPU runs a VM any more, and all memory of VMs, their contexts and tables is zero."""


Event = (
    SetTableEntry
    | SetHostEntry
    | SetDmaEntry
    | SetFrameRecord
    | ClaimVcpu
    | SetBlockRecord
    | ZeroFrame
    | ZeroBlock
    | CleanFrame
    | FillTable
    | FillFrameRecords
    | FillVmRecords
    | Measure
    | InvalidateInstructions
    | Publish
    | InvalidateHostPage
    | InvalidateHostPageFromVm
    | InvalidateVmPage
    | InvalidateVm
    | InvalidateDma
    | ResetContext
    | ReadCounter
    | SetRunState
    | EnableVirtual
    | SetTimerListRegister
    | AcknowledgeInterrupt
    | SetDebugRegister
    | DrawRandom
    | StartCpu
    | ScrubVms
)
