"""What the leaf functions do, as the callers' proofs use it.

A contract checks the leaf's preconditions where it is called, changes the state as promised and leaves
one item in the trace. `leaves` proves the promises on the leaves' own code; `ASSUMED` lists those that are assumed.
"""

from __future__ import annotations

from bulkhead.spec import stage2
from bulkhead.spec.state import HOST, RECORD_FIELDS, VM_SLOTS, State
from bulkhead.spec.words import term

from . import layout, smt
from .exec.explore import Contract
from .exec.state import MachineState
from .lowering import Leaf
from .smt import Bits
from .symbolic import digest, is_empty, pack

ASSUMED = ("bulkhead_measure_words", "bulkhead_measure_frame", "bulkhead_smmu_invalidate")
"""Leaves whose contract is assumed: SHA-256, tested against hashlib, and the SMMU's command queue, tested on QEMU."""


def contracts(state: State) -> dict[str, Contract]:
    """Symbol → contract, for calls that start in `state`."""
    return {
        "bulkhead_zero_frame": lambda machine: zero_frame(machine, state),
        "bulkhead_clean_frame": lambda machine: clean_frame(machine, state),
        "bulkhead_zero_block": lambda machine: zero_block(machine, state),
        "bulkhead_fill_table": lambda machine: fill_table(machine, state),
        "bulkhead_fill_frame_records": lambda machine: fill_frame_records(machine, state),
        "bulkhead_fill_vm_records": lambda machine: fill_vm_records(machine, state),
        "bulkhead_smmu_invalidate": smmu_invalidate,
        "bulkhead_table_is_empty": lambda machine: table_is_empty(machine, state),
        "bulkhead_clear_vm": clear_vm,
        "bulkhead_measure_words": lambda machine: measure(machine, state, with_frame=False),
        "bulkhead_measure_frame": lambda machine: measure(machine, state, with_frame=True),
    }


def frame_argument(machine: MachineState, state: State, address: Bits) -> Bits:
    """The frame whose physical address an argument has to be; it must exist and be within the engine's
    reach.
    """
    offset = smt.simplify(address - term(state.config.ram_base))
    frame = smt.simplify(smt.shift_right(offset, stage2.FRAME_SHIFT))
    solver = machine.environment.solver
    aligned = offset & (stage2.FRAME_SIZE - 1) == 0
    exists = smt.unsigned_less(frame, term(state.config.frames))
    solver.prove(smt.both(aligned, exists), "argument of a leaf is not the address of a frame", machine.pc)
    ram = next(region for region in machine.environment.regions if region.name == "RAM")
    first = smt.simplify(frame << stage2.TABLE_SHIFT)
    solver.prove(ram.allowed(first), "a leaf gets a frame that the engine may not touch", machine.pc)
    return frame


def zero_frame(machine: MachineState, state: State) -> list[Bits]:
    """All 512 words of the frame at x0 become zero."""
    frame = frame_argument(machine, state, machine.x[0])
    machine.content["RAM"] = machine.content["RAM"].change(
        lambda index: smt.shift_right(index, stage2.TABLE_SHIFT) == frame, lambda _: smt.word(0)
    )
    machine.trace.append(Leaf("zero_frame", (frame,)))
    return []


def clean_frame(machine: MachineState, state: State) -> list[Bits]:
    """The frame at x0 is cleaned and invalidated to the point of coherency; no content changes."""
    machine.trace.append(Leaf("clean_frame", (frame_argument(machine, state, machine.x[0]),)))
    return []


def zero_block(machine: MachineState, state: State) -> list[Bits]:
    """All words of the block at x0 become zero, and are cleaned and invalidated to the point of coherency."""
    _, block = block_argument(machine, state, machine.x[0])
    reachable = layout.is_reachable_block(state, block)
    machine.environment.solver.prove(
        reachable, "a leaf gets a block that the engine may not touch", machine.pc
    )
    machine.content["RAM"] = machine.content["RAM"].change(
        lambda index: smt.shift_right(index, 2 * stage2.TABLE_SHIFT) == block, lambda _: smt.word(0)
    )
    machine.trace.append(Leaf("zero_block", (block,)))
    return []


def fill_table(machine: MachineState, state: State) -> list[Bits]:
    """The frame at x0 gets the 512 level 3 descriptors of the block at x1."""
    table = frame_argument(machine, state, machine.x[0])
    first, block = block_argument(machine, state, machine.x[1])
    machine.content["RAM"] = machine.content["RAM"].change(
        lambda index: smt.shift_right(index, stage2.TABLE_SHIFT) == table,
        lambda index: term(stage2.page(state.config, first + (index & (stage2.TABLE_ENTRIES - 1)))),
    )
    machine.trace.append(Leaf("fill_table", (table, block)))
    return []


def fill_frame_records(machine: MachineState, state: State) -> list[Bits]:
    """The 512 records of the block with index x0 become HOST."""
    block = machine.x[0]
    prove_block(machine, state, block)
    machine.content["FRAMES"] = machine.content["FRAMES"].change(
        lambda index: smt.shift_right(index, stage2.TABLE_SHIFT) == block, lambda _: pack(HOST)
    )
    machine.trace.append(Leaf("fill_frame_records", (block,)))
    return []


def fill_vm_records(machine: MachineState, state: State) -> list[Bits]:
    """The 512 records of the block with index x0 become x1 with slots 0 to 511; the slot field of x1 is zero."""
    block, record = machine.x[0], machine.x[1]
    prove_block(machine, state, block)
    low, width = RECORD_FIELDS["slot"]
    machine.environment.solver.prove(
        smt.extract(low + width - 1, low, record) == 0, "the first record of a block has a slot", machine.pc
    )
    machine.content["FRAMES"] = machine.content["FRAMES"].change(
        lambda index: smt.shift_right(index, stage2.TABLE_SHIFT) == block,
        lambda index: smt.simplify(record | (index & (stage2.TABLE_ENTRIES - 1)) << low),
    )
    machine.trace.append(Leaf("fill_vm_records", (block,)))
    return []


def smmu_invalidate(machine: MachineState) -> list[Bits]:
    """The SMMU forgets every translation for the host's devices; assumed."""
    machine.trace.append(Leaf("smmu_invalidate", ()))
    return []


def table_is_empty(machine: MachineState, state: State) -> list[Bits]:
    """x0 is 1 if no entry of the table at x0 is valid, else 0; the call has changed no entry before."""
    table = frame_argument(machine, state, machine.x[0])
    prove_untouched(machine, table)
    return [smt.choose(is_empty(table), smt.word(1), smt.word(0))]


def clear_vm(machine: MachineState) -> list[Bits]:
    """The 64 words of the VM record at x0 become zero."""
    vms = next(region for region in machine.environment.regions if region.name == "VMS")
    index = smt.simplify(smt.shift_right(machine.x[0] - vms.base, 3))
    slot = smt.simplify(smt.shift_right(index, 6))
    aligned = machine.x[0] - vms.base == slot << 9
    exists = smt.both(aligned, smt.unsigned_less(slot, VM_SLOTS))
    machine.environment.solver.prove(exists, "argument of a leaf is not a VM record", machine.pc)
    machine.content["VMS"] = machine.content["VMS"].change(
        lambda other: smt.shift_right(other, 6) == slot, lambda _: smt.word(0)
    )
    return []


def block_argument(machine: MachineState, state: State, address: Bits) -> tuple[Bits, Bits]:
    """First frame and index of the block whose physical address an argument has to be; it must exist."""
    offset = smt.simplify(address - term(state.config.ram_base))
    first = smt.simplify(smt.shift_right(offset, stage2.FRAME_SHIFT))
    block = smt.simplify(smt.shift_right(first, stage2.TABLE_SHIFT))
    prove_block(machine, state, block)
    aligned = smt.extract(stage2.FRAME_SHIFT + stage2.TABLE_SHIFT - 1, 0, offset) == 0
    machine.environment.solver.prove(aligned, "argument of a leaf is not the address of a block", machine.pc)
    return first, block


def prove_block(machine: MachineState, state: State, block: Bits) -> None:
    """The block exists."""
    blocks = smt.shift_right(term(state.config.frames), stage2.TABLE_SHIFT)
    exists = smt.unsigned_less(block, blocks)
    machine.environment.solver.prove(exists, "argument of a leaf is not a block", machine.pc)


def measure(machine: MachineState, state: State, with_frame: bool) -> list[Bits]:
    """The four words at x0 become SHA-256 of themselves, the four words at x1 and the frame at x2, if any."""
    target, header = machine.x[0], machine.x[1]
    words = [machine.load(target + 8 * position, 8) for position in range(4)]
    words += [machine.load(header + 8 * position, 8) for position in range(4)]
    frame = None
    if with_frame:
        frame = frame_argument(machine, state, machine.x[2])
        prove_untouched(machine, frame)
    for position, value in enumerate(digest(tuple(words), frame, state.ram)):
        machine.store(target + 8 * position, term(value), 8)
    vms = next(region for region in machine.environment.regions if region.name == "VMS")
    first = smt.simplify(smt.shift_right(target - vms.base, 3))
    operands = (first, *words[4:], *([] if frame is None else [frame]))
    machine.trace.append(Leaf("measure_frame" if with_frame else "measure_words", operands))
    return []


def prove_untouched(machine: MachineState, frame: Bits) -> None:
    """The frame still has the content that it had when the call began."""
    probe = smt.fresh("any_word")
    ram = machine.content["RAM"]
    in_frame = smt.shift_right(probe, stage2.TABLE_SHIFT) == frame
    same = ram[probe] == ram.base(probe)
    machine.environment.solver.prove(
        smt.implies(in_frame, same), "a frame that a leaf reads has been changed before", machine.pc
    )
