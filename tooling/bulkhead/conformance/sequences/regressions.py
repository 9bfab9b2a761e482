"""Sequences of steps that once failed, shortened and kept as files that tests replay: `tests/regressions/NAME.json`.

Trust label: TOOL. A file says of which machine it is and which steps it takes, with their arguments by name. Addresses
are told by the block they lie in at boot ("split 0 + 0x3000" is in the first split block), so that a machine with
another layout can take the same steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.sequences.life import Kit
from bulkhead.conformance.sequences.steps import Step, carry_out
from bulkhead.conformance.sequences.values import FRAMES
from bulkhead.conformance.testing.machine import Machine
from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.inspect.records import Kind

PLACE = Path("tests") / "regressions"
ADDRESSES = (*FRAMES, "block")
"""Arguments that are physical addresses."""
_KINDS = {"split": Kind.SPLIT, "host": Kind.HOST, "untouched": Kind.UNCLEARED, "engine": Kind.ENGINE}
_NUMBER, _ADDRESS = re.compile(r"0x[0-9a-f]+|\d+"), re.compile(r"(\w+) (\d+) \+ (0x[0-9a-f]+)")


def replay(machine: Machine, steps: Sequence[Step]) -> str:
    """What is wrong after the steps on a new machine, compared as a whole after each; empty if nothing is."""
    try:
        oracle = judge(machine)(machine, thorough=True)
        oracle.check()
        for step in steps:
            carry_out(oracle, step)
    except (AssertionError, BulkheadError) as error:
        return str(error)
    return ""


def judge(machine: Machine) -> type[Oracle]:
    """The oracle that knows most about a machine."""
    return VcpuOracle if isinstance(machine.backend, HostBackend) else Oracle


def replay_on(kit: Kit, steps: Sequence[Step]) -> str:
    """The same on a new machine of the host backend."""
    machine = kit.build()
    try:
        return replay(machine, steps)
    finally:
        machine.backend.close()


def shrunk(kit: Kit, steps: Sequence[Step], message: str) -> tuple[list[Step], str]:
    """Few of the steps that fail in the same way, and what is wrong after them; all of them, with `message`, if they do
    not fail when they are taken again. Delta debugging (Zeller and Hildebrandt 2002): ever smaller parts are left out.
    """
    wanted = failure(found := replay_on(kit, steps))
    if not found:
        return list(steps), message

    def fails(some: Sequence[Step]) -> bool:
        return failure(replay_on(kit, some)) == wanted

    left = _until_failure(list(steps), fails)
    size = max(len(left) // 2, 1)
    while True:
        start, before = 0, len(left)
        while start < len(left):
            without = left[:start] + left[start + size :]
            if fails(without):
                left = without
            else:
                start += size
        if size == 1 and len(left) == before:
            return left, replay_on(kit, left)
        size = max(size // 2, 1)


def _until_failure(steps: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """The shortest beginning that fails, by bisection."""
    low, high = 0, len(steps)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(steps[:middle]) else (middle, high)
    return steps[:high]


def failure(message: str) -> str:
    """What kind of failure a message tells: the call and the first difference, without numbers."""
    lines = [line.split("(")[0] for line in message.splitlines()[:1]] + message.splitlines()[1:2]
    return _NUMBER.sub("#", "\n".join(lines))


def save(place: Path, name: str, kit: Kit, steps: Sequence[Step], message: str) -> Path:
    """Writes a file; the name says what failed."""
    machine = kit.build()
    blocks = _blocks(machine)
    machine.backend.close()
    document = {
        "found": message.splitlines()[:2],
        "machine": {"ram": [list(one) for one in kit.ram], "cpus": kit.cpus, "features": kit.features,
                    "untouched": kit.untouched},
        "steps": [_encoded(step, blocks, machine.layout.ram_base) for step in steps],
    }  # fmt: skip
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def load(path: Path) -> tuple[Kit, list[dict[str, Any]]]:
    """The machine and the steps of a file, for `decoded`. InvalidInput if it is none."""
    try:
        document = json.loads(path.read_text())
        made = document["machine"]
        ram = tuple((int(base), int(size)) for base, size in made["ram"])
        return Kit(path.stem, ram, made["cpus"], made["features"], made["untouched"]), document["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"this is no sequence of steps: {error!r}", where=path) from error


def decoded(machine: Machine, steps: Sequence[dict[str, Any]]) -> list[Step]:
    """The steps of a file for a new machine."""
    blocks, base = _blocks(machine), machine.layout.ram_base
    return [
        Step(
            one["step"],
            {name: _decoded_value(value, blocks, base) for name, value in one["arguments"].items()},
            one.get("cpu", 0) % machine.layout.cpus,
            one.get("locked", False),
        )
        for one in steps
    ]


def replay_file(path: Path) -> str:
    """What is wrong after the steps of a file on the host backend."""
    kit, steps = load(path)
    machine = kit.build()
    try:
        return replay(machine, decoded(machine, steps))
    finally:
        machine.backend.close()


def _blocks(machine: Machine) -> dict[str, list[int]]:
    """Word for a kind → numbers of its blocks, those of the host from the last one back."""
    base = machine.layout.ram_base
    found = {
        name: [(block - base) // BLOCK for block in machine.blocks(kind)] for name, kind in _KINDS.items()
    }
    return found | {"host": found["host"][::-1]}


def _encoded(step: Step, blocks: dict[str, list[int]], base: int) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "step": step.name,
        "arguments": {
            name: _encoded_value(value, blocks, base) if name in ADDRESSES else hex(value)
            for name, value in step.arguments.items()
        },
    }
    return encoded | ({"cpu": step.cpu} if step.cpu else {}) | ({"locked": True} if step.locked else {})


def _encoded_value(address: int, blocks: dict[str, list[int]], base: int) -> str:
    number, offset = divmod(address - base, BLOCK)
    for name, numbers in blocks.items():
        if number in numbers:
            return f"{name} {numbers.index(number)} + {offset:#x}"
    return hex(address)


def _decoded_value(text: str, blocks: dict[str, list[int]], base: int) -> int:
    if (match := _ADDRESS.fullmatch(text)) is None:
        return int(text, 16)
    name, index, offset = match.groups()
    numbers = blocks[name]
    return base + (numbers[int(index) % len(numbers)] * BLOCK if numbers else 0) + int(offset, 16)
