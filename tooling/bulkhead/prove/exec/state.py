"""One machine on one path: registers, stack, regions and trace. Implements `isa.Machine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from .. import isa, smt
from ..smt import Bits
from .errors import ProofFailed
from .image import Image
from .memory import WORD, Content, Region
from .solver import Solver

STACK_TOP = 0x7FFF_0000
"""Where the stack pointer starts: a place that overlaps no region. Proved code uses it only to address its
frame.
"""
STACK_SIZE = 16 * 1024
SystemRegisters = Mapping[isa.SystemName, Bits]


def stack() -> Region:
    """Where the stack is, as a region: accesses go to `MachineState.stack`."""
    base, words = smt.word(STACK_TOP - STACK_SIZE), smt.word(STACK_SIZE // WORD)
    return Region("stack", base, words, Content(lambda _: smt.word(0)))


@dataclass(frozen=True)
class Store:
    """A store to a shared region: word `index` becomes `value`."""

    region: str
    index: Bits
    value: Bits


TraceItem = Store | isa.Event | object


@dataclass
class Environment:
    """What all paths of one exploration share."""

    image: Image
    solver: Solver
    regions: tuple[Region, ...]
    system_registers: SystemRegisters = field(default_factory=dict)
    known_indices: dict[str, list[Bits]] | None = field(default_factory=dict)
    """Word indices met so far, by region; None: do not look for equal ones."""

    def __post_init__(self) -> None:
        """Raises ProofFailed if two regions, or a region and the stack, may overlap."""
        for one, other in combinations((stack(), *self.regions), 2):
            self.solver.prove(smt.negate(one.overlaps(other)), f"{one.name} and {other.name} overlap")

    def canonical(self, region: str, index: Bits) -> Bits:
        """The index, as an earlier term that is provably equal if there is one.

        Equal terms for equal words spare the solver most of its work.
        """
        if self.known_indices is None:
            return index
        known = self.known_indices.setdefault(region, [])
        for other in known:
            if index.get_id() == other.get_id():
                return other
        for other in known:
            if self.solver.may_equal(index, other) and self.solver.valid(index == other):
                return other
        known.append(index)
        return index


class MachineState:
    """The state of one path; `fork` makes an independent copy."""

    def __init__(self, environment: Environment, pc: int) -> None:
        self.environment = environment
        self.pc = pc
        self.x = [smt.fresh(f"x{number}") for number in range(31)]
        self.sp = smt.word(STACK_TOP)
        self.flags = isa.Flags(*(smt.fresh_bool(name) for name in "nzcv"))
        self.stack: dict[int, Bits] = {}
        self.content: dict[str, Content] = {region.name: region.content for region in environment.regions}
        self.system = dict(environment.system_registers)
        self.trace: list[TraceItem] = []
        self.trail: list[int] = []
        self.steps = 0

    def fork(self) -> MachineState:
        """The same state, to go another way."""
        other = object.__new__(MachineState)
        other.__dict__.update(self.__dict__)
        other.x, other.trace, other.trail = list(self.x), list(self.trace), list(self.trail)
        other.stack, other.content, other.system = dict(self.stack), dict(self.content), dict(self.system)
        return other

    # isa.Machine

    def read(self, number: int, width: int) -> Bits:
        return _low(smt.word(0) if number == 31 else self.x[number], width)

    def read_or_sp(self, number: int, width: int) -> Bits:
        return _low(self.sp if number == 31 else self.x[number], width)

    def write(self, number: int, value: Bits) -> None:
        if number != 31:
            self.x[number] = smt.simplify(smt.zero_extend(value, 64))

    def write_or_sp(self, number: int, value: Bits) -> None:
        if number == 31:
            self.sp = smt.simplify(smt.zero_extend(value, 64))
        else:
            self.write(number, value)

    def read_system(self, name: isa.SystemName) -> Bits:
        try:
            return self.system[name]
        except KeyError:
            raise self.failure(f"read of system register {name}, of which nothing is specified") from None

    def event(self, event: isa.Event) -> None:
        if isinstance(event, isa.WriteSystem) and event.name in self.system:
            self.system[event.name] = event.value
        self.trace.append(event)

    def load(self, address: Bits, size: int) -> Bits:
        place = self._locate(address, size)
        if isinstance(place, int):
            return self._load_fixed(place, size)
        region, index, low = place
        word = self.content[region.name][index]
        return smt.simplify(smt.extract(8 * (low + size) - 1, 8 * low, word))

    def store(self, address: Bits, value: Bits, size: int) -> None:
        place = self._locate(address, size)
        if isinstance(place, int):
            self._store_stack(place, value, size)
            return
        region, index, low = place
        if not region.writable:
            raise self.failure(f"store to read-only {region.name}")
        content = self.content[region.name]
        if size < WORD:
            old = content[index]
            above = [smt.extract(63, 8 * (low + size), old)] if low + size < WORD else []
            below = [smt.extract(8 * low - 1, 0, old)] if low else []
            value = smt.concat(*above, value, *below)
        value = smt.simplify(value)
        if region.shared:
            self.trace.append(Store(region.name, index, value))
        self.content[region.name] = content.store(index, value)

    # fixed addresses: stack and constants

    def _load_fixed(self, address: int, size: int) -> Bits:
        if self._on_stack(address, size):
            parts = [self.stack.get(address + offset) for offset in range(size)]
            known = [part for part in parts if part is not None]
            if len(known) < size:
                raise self.failure("read of uninitialised stack")
            return smt.simplify(smt.concat(*reversed(known)))
        constant = self.environment.image.constant(address, size)
        if constant is None:
            raise self.failure(f"load outside every region, address {address:#x}")
        return smt.word(constant, 8 * size)

    def _store_stack(self, address: int, value: Bits, size: int) -> None:
        if not self._on_stack(address, size):
            raise self.failure(f"store outside every region, address {address:#x}")
        for offset in range(size):
            self.stack[address + offset] = smt.simplify(smt.extract(8 * offset + 7, 8 * offset, value))

    def _on_stack(self, address: int, size: int) -> bool:
        return address >= STACK_TOP - STACK_SIZE and address + size <= STACK_TOP

    # regions

    def _locate(self, address: Bits, size: int) -> int | tuple[Region, Bits, int]:
        """A constant address outside the regions, or region, word index and byte in the word."""
        address = smt.simplify(address)
        region = self._region_of(address, size)
        if region is None:
            constant = smt.constant(address)
            if constant is None:
                raise self.failure("address outside every region", self.environment.solver.model())
            if constant % size:
                raise self.failure("misaligned access")
            return constant
        solver = self.environment.solver
        solver.prove(region.covers(address, size), f"access outside {region.name}", self.pc)
        offset = smt.simplify(address - region.base)
        low = smt.constant(smt.simplify(smt.extract(2, 0, offset)))
        if low is None:
            low = 0
            solver.prove(smt.extract(2, 0, offset) == 0, f"misaligned access to {region.name}", self.pc)
        if low % size:
            raise self.failure(f"misaligned access to {region.name}")
        index = self.environment.canonical(region.name, smt.simplify(smt.shift_right(offset, 3)))
        solver.prove(region.allowed(index), f"access to a word of {region.name} that is not allowed", self.pc)
        return region, index, low

    def _region_of(self, address: Bits, size: int) -> Region | None:
        """The region that the address lies in for one satisfying state; the caller proves it for all."""
        solver, regions = self.environment.solver, self.environment.regions
        if smt.constant(address) is not None:
            fixed = [region for region in regions if smt.constant(region.base) is not None]
            inside = (region for region in fixed if smt.is_true(smt.simplify(region.covers(address, size))))
            return next(inside, None)
        hint = smt.addend(address)
        for region in regions:
            if hint and smt.addend(region.base) == hint:
                return region
        model = solver.model()
        if model is None:
            raise self.failure("no state reaches this access, or the solver finds none")
        return next((region for region in regions if smt.holds_in(model, region.covers(address, size))), None)

    def failure(self, what: str, model: smt.Model | None = None) -> ProofFailed:
        """The error for an obligation that fails here."""
        return ProofFailed(what, self.pc, model)


def _low(value: Bits, width: int) -> Bits:
    return value if width == 64 else smt.simplify(smt.extract(width - 1, 0, value))
