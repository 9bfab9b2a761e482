"""A failed proof as a person reads it: arguments, state, answer, and the path with its source lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bulkhead.spec import State, stage2
from bulkhead.spec.state import VM_SLOTS, Kind, VmState, VmWord
from bulkhead.spec.words import Word, minus, shift_right, term

from . import smt
from .exec.errors import ProofFailed
from .exec.image import Image
from .smt import Bits, Model

FRAME_ARGUMENTS = ("frame", "root", "table", "vcpu", "block")
LAST_INSTRUCTIONS = 24


def explain(failure: ProofFailed, image: Image, state: State, arguments: Mapping[str, Bits]) -> str:
    """The failure with its counterexample, as lines of text."""
    lines = [failure.what]
    if failure.pc is not None:
        lines.append(f"at {image.function_at(failure.pc)} ({image.source_line(failure.pc)})")
    if failure.model is not None:
        lines += values(failure.model, state, arguments)
    if failure.trail:
        lines.append(f"the last of {len(failure.trail)} instructions on the path:")
        lines += [instruction(image, pc) for pc in failure.trail[-LAST_INSTRUCTIONS:]]
    return "\n".join(lines)


def instruction(image: Image, pc: int) -> str:
    """Address, instruction and source line."""
    return f"  {pc:x}  {image.disassemble(pc):<44} {image.source_line(pc)}"


def values(model: Model, state: State, arguments: Mapping[str, Bits]) -> Iterator[str]:
    """Arguments and the part of the state that they name."""

    def number(word: Word) -> int:
        return smt.value_in(model, term(word))

    yield "arguments: " + ", ".join(f"{name} = {number(value):#x}" for name, value in arguments.items())
    config = state.config
    yield f"ram_base = {number(config.ram_base):#x}, frames = {number(config.frames):#x}"
    if "vm" in arguments and (slot := number(arguments["vm"])) < VM_SLOTS:
        life = number(state.vm_word(slot, VmWord.STATE))
        name = VmState(life).name if life in set(VmState) else str(life)
        yield f"VM {slot}: state {name}, root frame {number(state.vm_word(slot, VmWord.ROOT)):#x}"
    for argument in FRAME_ARGUMENTS:
        if argument not in arguments:
            continue
        frame = number(shift_right(minus(arguments[argument], config.ram_base), stage2.FRAME_SHIFT))
        if frame < number(config.frames):
            block = number(state.block[frame >> stage2.TABLE_SHIFT].kind)
            record = {name: number(value) for name, value in state.frame[frame]._asdict().items()}
            kind = Kind(record["kind"]).name if record["kind"] in set(Kind) else str(record["kind"])
            yield f"{argument}: frame {frame:#x}, block kind {block}, record {kind} {record}"
