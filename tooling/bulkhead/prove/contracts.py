"""What the leaf functions do, as the callers' proofs use it.

A contract checks the leaf's preconditions where it is called, changes the state as promised and leaves
one item in the trace. `leaves` proves the promises on the leaves' own code; `MEASURING` lists those
that are assumed.
"""

from __future__ import annotations

from bulkhead.spec import stage2
from bulkhead.spec.state import State
from bulkhead.spec.words import term

from . import smt
from .exec.explore import Contract
from .exec.state import MachineState
from .lowering import Leaf
from .smt import Bits
from .symbolic import digest

MEASURING = ("bulkhead_measure_words", "bulkhead_measure_frame")
"""Leaves whose functional contract is assumed, and tested against hashlib: SHA-256 on registers and stack."""


def contracts(state: State) -> dict[str, Contract]:
    """Symbol → contract, for calls that start in `state`."""
    return {
        "bulkhead_zero_frame": lambda machine: zero_frame(machine, state),
        "bulkhead_clean_frame": lambda machine: clean_frame(machine, state),
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
    probe = smt.fresh("measured_word")
    ram = machine.content["RAM"]
    in_frame = smt.shift_right(probe, stage2.TABLE_SHIFT) == frame
    same = ram[probe] == ram.base(probe)
    machine.environment.solver.prove(
        smt.implies(in_frame, same), "the measured frame has been changed before", machine.pc
    )
