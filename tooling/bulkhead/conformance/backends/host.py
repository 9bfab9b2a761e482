"""The host backend: the engine's decisions on fake RAM in this process. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from bulkhead import abi
from bulkhead.conformance.backends import native
from bulkhead.conformance.backends.backend import BLOCK, PAGE, REGISTERS, HostFault, Layout
from bulkhead.conformance.oracle import walk
from bulkhead.errors import InvalidInput, MachineError
from bulkhead.spec.state import Kind

MIB = 1 << 20
RAM = ((0x4000_0000, 64 * MIB), (0x4800_0000, 32 * MIB))
"""RAM ranges (base, bytes) of the machine that tests use unless they say otherwise: two, with a hole between."""

ALL_FEATURES = sum(1 << feature.bit for feature in abi.load().features)


@dataclass(frozen=True)
class Event:
    """One effect of the engine on its machine; `name` is the method of the trait `Hardware`, in CamelCase."""

    name: str
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Next:
    """What the engine decided after an exception of a VM: kind "resume", "exit" or "off", exit class and data."""

    kind: str
    exit_class: int
    data: tuple[int, int, int]


class HostBackend:
    """A fake machine. Behaves the same every time."""

    name = "host"
    raw_memory = True
    whole_blocks: tuple[int, ...] = ()

    def __init__(
        self, ram: Sequence[tuple[int, int]] = RAM, cpus: int = 2, features: int = ALL_FEATURES
    ) -> None:
        """Machine with RAM ranges (base, bytes), 1 to 8 CPUs and a mask of features.

        InvalidInput if there cannot be one.
        """
        self._ram, self._cpus, self._features = tuple(ram), cpus, features
        self._ffi, self._lib = native.engine()
        self._machine: Any = None
        self._room = self._ffi.new("uint64_t[]", 1 << 14)
        self._create()

    def _create(self) -> None:
        ffi = self._ffi
        ranges = ffi.new("RamRange[]", [{"base": base, "size": size} for base, size in self._ram])
        reason = ffi.new("char[]", 256)
        machine = self._lib.bulkhead_machine_create(
            ranges, len(self._ram), self._cpus, self._features, reason, 256
        )
        if machine == ffi.NULL:
            raise InvalidInput(ffi.string(reason).decode(), hint="choose other RAM ranges or CPUs")
        self._machine = machine
        layout = ffi.new("Layout *")
        self._lib.bulkhead_machine_layout(machine, layout)
        self.layout = Layout(**{field.name: int(getattr(layout, field.name)) for field in fields(Layout)})
        size = self.layout.frames * PAGE
        self._memory = self._lib.bulkhead_machine_memory(machine)
        self._bytes = memoryview(ffi.buffer(self._memory, size)).cast("B")
        self._registers = ffi.new("uint64_t[]", REGISTERS)
        self._next = ffi.new("Next *")

    def call(self, cpu: int, registers: Sequence[int]) -> tuple[int, ...]:
        """See Backend. MachineError if the engine panics."""
        self._registers[0:REGISTERS] = list(registers)
        self._check(self._lib.bulkhead_machine_call(self._machine, cpu, self._registers))
        return tuple(self._registers[0:REGISTERS])

    def vm_call(self, cpu: int, vm: int, registers: Sequence[int]) -> tuple[tuple[int, ...], Next]:
        """HVC #0 by vCPU 0 of a VM with x0 to x17: the registers afterwards and what happens next."""
        self._registers[0:REGISTERS] = list(registers)
        done = self._lib.bulkhead_machine_vm_call(self._machine, cpu, vm, self._registers, self._next)
        self._check(done)
        return tuple(self._registers[0:REGISTERS]), self._decision()

    def exception(self, cpu: int, vcpu: int, esr: int, far: int = 0, hpfar: int = 0) -> Next:
        """A synchronous exception of the vCPU whose context is at physical `vcpu`: what happens next."""
        syndrome = self._ffi.new("uint64_t[]", [esr, far, hpfar])
        frame = (vcpu - self.layout.ram_base) // PAGE
        self._check(self._lib.bulkhead_machine_exception(self._machine, cpu, frame, syndrome, self._next))
        return self._decision()

    def interrupt(self, cpu: int, vcpu: int, intid: int) -> Next:
        """The physical interrupt `intid` while the vCPU whose context is at physical `vcpu` ran: what happens next."""
        frame = (vcpu - self.layout.ram_base) // PAGE
        self._check(self._lib.bulkhead_machine_interrupt(self._machine, cpu, frame, intid, self._next))
        return self._decision()

    def system_error(self, cpu: int, vcpu: int) -> Next:
        """An SError interrupt while the vCPU whose context is at physical `vcpu` ran: what happens next."""
        frame = (vcpu - self.layout.ram_base) // PAGE
        self._check(self._lib.bulkhead_machine_system_error(self._machine, cpu, frame, self._next))
        return self._decision()

    def first_touch(self, cpu: int, block: int) -> None:
        """The host's access to the block at physical `block`, which nobody has touched since boot."""
        number = (block - self.layout.ram_base) // BLOCK
        self._check(self._lib.bulkhead_machine_first_touch(self._machine, cpu, number))

    def cpu(self, cpu: int) -> Any:
        """Registers of a CPU, to be read and set: `host` (x0 to x17 where an exit has left them), `lists`,
        `timer_list`, `maintenance`, `intid`, `loaded` (frame + 1 of the vCPU, or 0). A VM's are in its context.
        """
        if not 0 <= cpu < self.layout.cpus:
            raise InvalidInput(f"there is no CPU {cpu}")
        return self._lib.bulkhead_machine_cpu(self._machine, cpu)

    @property
    def identification(self) -> Any:
        """64 ID registers (op0=3, op1=0, CRn=0) by 8 * CRm + op2, to be read and set."""
        return self._lib.bulkhead_machine_identification(self._machine)

    @property
    def counter(self) -> int:
        """What the system counter shows next."""
        return int(self._lib.bulkhead_machine_counter(self._machine))

    @property
    def randoms(self) -> int:
        """How often the random source has given something."""
        return int(self._lib.bulkhead_machine_randoms(self._machine))

    def set_entropy(self, entropy: bool) -> None:
        """Whether the random source has something to give from now on."""
        self._lib.bulkhead_machine_set_entropy(self._machine, entropy)

    def meanwhile(self, address: int, word: int) -> None:
        """Another CPU's store of a word at a physical address, just before the next exchange of a frame record."""
        self._offset(address, 8)
        self._lib.bulkhead_machine_meanwhile(self._machine, address, word)

    def events(self) -> list[Event]:
        """The effects since this was asked last, in order."""
        size = 1 + self._lib.OPERANDS
        flat = self._take("Event", self._lib.bulkhead_machine_take_events, size)
        names = _event_names()
        return [
            Event(names[flat[start]], tuple(flat[start + 1 : start + size]))
            for start in range(0, len(flat), size)
        ]

    def written(self) -> list[tuple[int, int]]:
        """The words that the engine has written since this was asked last: index of the first of some consecutive ones,
        counted from `ram_base`, and how many; in order.
        """
        flat = self._take("Written", self._lib.bulkhead_machine_take_written, 2)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def forget_effects(self) -> None:
        """`events` and `written` begin anew."""
        self._take("Event", self._lib.bulkhead_machine_take_events, 1 + self._lib.OPERANDS)
        self._take("Written", self._lib.bulkhead_machine_take_written, 2)

    def _take(self, type_: str, take: Any, size: int) -> list[int]:
        """The words of all entries, `size` each, of one of the machine's lists, which is empty then."""
        entries = self._ffi.cast(f"{type_} *", self._room)
        count = take(self._machine, entries, len(self._room) // size)
        if count * size > len(self._room):
            self._room = self._ffi.new("uint64_t[]", 2 * count * size)
            return self._take(type_, take, size)
        words: list[int] = self._ffi.unpack(self._room, count * size)
        return words

    def raw(self, offset: int, length: int) -> Any:
        """Bytes of RAM from `ram_base` on as a buffer that shows them as they are; compares with others by content."""
        return self._ffi.buffer(self._memory + offset, length)

    def memory(self, address: int, length: int) -> bytes:
        """See Backend: what the host's stage 2 in fake RAM permits."""
        self._permitted(address, length)
        return self.physical(address, length)

    def write(self, address: int, data: bytes) -> None:
        """See Backend."""
        self._permitted(address, len(data))
        self.poke(address, data)

    def survey(self, address: int, step: int, count: int) -> list[bool]:
        """See Backend."""
        return [walk.host(self, address + n * step) is not None for n in range(count)]

    def physical(self, address: int, length: int) -> bytes:
        """See Backend. InvalidInput outside RAM."""
        return bytes(self._bytes[self._offset(address, length) :][:length])

    def poke(self, address: int, data: bytes) -> None:
        """Change raw RAM, whoever owns it. InvalidInput outside RAM."""
        start = self._offset(address, len(data))
        self._bytes[start : start + len(data)] = data

    def leave_untouched(self, count: int) -> list[int]:
        """The first `count` blocks of the host become such as nobody has touched since boot, with remains of what was
        there before; their addresses. MachineError if there are fewer.
        """
        layout = self.layout
        found: list[int] = []
        for number in range(layout.blocks):
            record, entry = layout.block_records + 8 * number, layout.host_level2 + 8 * number
            if len(found) < count and self._word(record) == Kind.HOST:
                block = layout.ram_base + number * BLOCK
                self.poke(record, int(Kind.UNCLEARED).to_bytes(8, "little"))
                self.poke(entry, bytes(8))
                for frame in range(block, block + BLOCK, PAGE):
                    self.poke(frame + 8 * (number % 512), b"remains!")
                found.append(block)
        if len(found) < count:
            raise MachineError(f"the host has {len(found)} whole blocks, not {count}")
        return found

    def _word(self, address: int) -> int:
        return int.from_bytes(self.physical(address, 8), "little")

    def hold_lock(self, held: bool) -> None:
        """See Backend."""
        self._lib.bulkhead_machine_hold_lock(self._machine, held)

    def reset(self) -> None:
        """See Backend: a new machine of the same kind."""
        self.close()
        self._create()

    def close(self) -> None:
        """See Backend. May be called twice."""
        if self._machine is not None:
            self._bytes.release()
            self._lib.bulkhead_machine_destroy(self._machine)
            self._machine = None

    def _offset(self, address: int, length: int) -> int:
        if not self._lib.bulkhead_machine_is_ram(self._machine, address, length):
            raise InvalidInput(f"{length} bytes at {address:#x} are not RAM")
        return address - self.layout.ram_base

    def _permitted(self, address: int, length: int) -> None:
        for page in range(address & -PAGE, address + length, PAGE):
            if walk.host(self, page) is None:
                raise HostFault(page)

    def _decision(self) -> Next:
        data = tuple(int(word) for word in self._next.data)
        return Next(
            ("resume", "exit", "off")[self._next.kind], int(self._next.class_), (data[0], data[1], data[2])
        )

    def _check(self, done: bool) -> None:
        if not done:
            message = self._ffi.string(self._lib.bulkhead_machine_panic(self._machine)).decode()
            raise MachineError(f"the engine panicked: {message}", where="host build", hint="this is a defect")


@cache
def _event_names() -> list[str]:
    """Names of the kinds of events, in the order of their numbers."""
    ffi, lib = native.engine()
    names: list[str] = []
    while (name := lib.bulkhead_event_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names
