"""Calls by name on any backend, and checks that read raw memory.

Trust label: TOOL. Checks raise AssertionError with the call, its arguments by name, the answer and the changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulkhead import abi
from bulkhead.conformance.backends.backend import BLOCK, PAGE, REGISTERS, Backend, Layout
from bulkhead.conformance.oracle import walk
from bulkhead.conformance.oracle.snapshot import WORD, Changes, Snapshot, frame_record_address, unpack
from bulkhead.conformance.testing.books import Books, Known, Records
from bulkhead.conformance.testing.reach import Reach, ReachChanges
from bulkhead.errors import InvalidInput
from bulkhead.inspect.records import VM_RECORD, FrameRecord, Kind, VmRecord

MASK = (1 << 64) - 1
ABI = abi.load()


def filler(register: int) -> int:
    """What an unused register holds in a call, so that a change shows."""
    return 0xA5A5_0000_0000_5A5A | register << 24


@dataclass(frozen=True)
class Reply:
    """The answer of a call: status by name, x1 of an error, results by name, and all registers as they came."""

    call: str
    status: str
    detail: int
    results: dict[str, int]
    sent: tuple[int, ...]
    regs: tuple[int, ...]

    def __str__(self) -> str:
        text = self.status + (f" (x1 = {self.detail})" if self.detail else "")
        named = ", ".join(f"{name}={value:#x}" for name, value in self.results.items())
        return f"{text} {named}".strip()


def find(call: str | int) -> abi.Call:
    """The line of the table for a name or the function id of a host call. InvalidInput if there is none."""
    for line in ABI.calls:
        if call == line.name or (call == line.id and line.caller == "host"):
            return line
    raise InvalidInput(f"there is no call {call!r}", where=abi.TABLE)


def encode(line: abi.Call, arguments: dict[str, int]) -> list[int]:
    """x0 to x17: missing arguments are zero, unused registers hold their filler."""
    unknown = set(arguments) - set(line.args)
    if unknown:
        raise InvalidInput(
            f"{line.name} has no argument {', '.join(sorted(unknown))}", hint=f"it has {line.args}"
        )
    values = [arguments.get(name, 0) & MASK for name in line.args]
    used = [line.id, *values]
    return used + [filler(register) for register in range(len(used), REGISTERS)]


def decode(line: abi.Call, sent: tuple[int, ...], regs: tuple[int, ...]) -> Reply:
    """The answer in registers."""
    status = ABI.status_name(regs[0])
    results = dict(zip(line.results, regs[1:], strict=False)) if status == "SUCCESS" else {}
    detail = 0 if status in ("SUCCESS", "NOT_SUPPORTED") else regs[1]
    return Reply(line.name, status, detail, results, sent, regs)


def check_registers(line: abi.Call, arguments: dict[str, int], cpu: int, reply: Reply) -> None:
    """Only what the convention declares may differ: results, or x1 of an error, and x0."""
    __tracebackhide__ = True
    changeable = 1 + (len(line.results) if reply.status == "SUCCESS" else reply.status != "NOT_SUPPORTED")
    wrong = [
        f"x{register} as it was, {sent:#x}; it is {got:#x}"
        for register, (sent, got) in enumerate(zip(reply.sent, reply.regs, strict=True))
        if register >= changeable and sent != got
    ]
    statuses = {status.name: status for status in ABI.statuses}
    if reply.status not in statuses:
        wrong.append(f"a status in x0; it is {reply.regs[0]:#x}")
    elif reply.detail and not statuses[reply.status].detail:
        wrong.append(f"no detail with {reply.status}")
    assert not wrong, "\n  expected ".join([f"{describe_call(line, arguments, cpu)} got {reply}", *wrong])


def difference(before: Snapshot | Reach, after: Snapshot | Reach) -> Changes | ReachChanges:
    """What changed between two looks at one machine."""
    if isinstance(before, Snapshot) and isinstance(after, Snapshot):
        return before.changes(after)
    assert isinstance(before, Reach) and isinstance(after, Reach), "two looks at different machines"
    return before.changes(after)


class Machine:
    """A machine under test. Frames are named by physical address throughout."""

    def __init__(self, backend: Backend, books: Books | None = None) -> None:
        """With `books`, or without raw memory, `known` is what they say; else what the engine's records say."""
        self.backend = backend
        self.needs_reset = False
        self.compared_by_reach = 0
        """Comparisons of states for which only the host's reach could be seen."""
        self._taken: set[int] = set()
        if books is None and not backend.raw_memory:
            books = Books(backend.layout, backend.whole_blocks)
        self._books = books

    @property
    def known(self) -> Known:
        """Who has what, for choosing arguments: from records where they can be read, else from the calls so far."""
        return self._books or Records(self)

    @property
    def layout(self) -> Layout:
        """Where things are."""
        return self.backend.layout

    def physical(self, address: int, length: int = PAGE) -> bytes:
        """Raw RAM, whoever owns it."""
        return self.backend.physical(address, length)

    def look(self) -> Snapshot | Reach:
        """The state for a comparison: all of it, or, without raw memory, what the host reaches."""
        if self.backend.raw_memory:
            return Snapshot.take(self)
        self.compared_by_reach += 1
        return Reach.take(self.backend, self.known.blocks(Kind.SPLIT))

    # Calls

    def registers(self, *values: int, cpu: int = 0) -> tuple[int, ...]:
        """HVC #0 with x0, x1, ... as given and fillers behind: x0 to x17 afterwards."""
        sent = [value & MASK for value in values] + [
            filler(register) for register in range(len(values), REGISTERS)
        ]
        got = self.backend.call(cpu, sent)
        line = next((line for line in ABI.calls if line.caller == "host" and line.id == sent[0]), None)
        if line is not None:
            self._note(line, tuple(sent), got)
        return got

    def _note(self, line: abi.Call, sent: tuple[int, ...], got: tuple[int, ...]) -> Reply:
        """What a call has changed goes into the books."""
        reply = decode(line, sent, got)
        if reply.status == "SUCCESS":
            if line.name in ("host_split", "vm_split"):
                self.needs_reset = True  # nothing joins a block again
            if self._books:
                self._books.note(line.name, dict(zip(line.args, sent[1:], strict=False)), reply.results)
        return reply

    def call(self, name: str | int, *, cpu: int = 0, **arguments: int) -> Reply:
        """A call of the host; arguments by the names of the table, those that are left away are sent as 0. Checks that
        no other register changes.
        """
        __tracebackhide__ = True
        line = find(name)
        sent = tuple(encode(line, arguments))
        reply = self._note(line, sent, self.backend.call(cpu, sent))
        check_registers(line, arguments, cpu, reply)
        return reply

    def ok(self, name: str, *, cpu: int = 0, **arguments: int) -> Reply:
        """A call that must succeed. Arguments as in `call`. A failure says which records have changed all the same."""
        __tracebackhide__ = True
        before = Snapshot.take(self, contents=False) if self.backend.raw_memory else None  # all else takes too long
        reply = self.call(name, cpu=cpu, **arguments)
        if reply.status == "SUCCESS":
            return reply
        lines = [describe_call(find(name), arguments, cpu), "expected SUCCESS", f"got {reply}"]
        if before and (changes := before.changes(Snapshot.take(self, contents=False))):
            lines.append(f"changed: {indented(changes)}")
        raise AssertionError("\n  ".join(lines))

    def observe(self, name: str, *, cpu: int = 0, **arguments: int) -> tuple[Reply, Changes]:
        """A call that must succeed, and everything that it changed."""
        __tracebackhide__ = True
        before = Snapshot.take(self)
        reply = self.ok(name, cpu=cpu, **arguments)
        return reply, before.changes(Snapshot.take(self))

    def refuses(
        self, name: str, status: str, detail: str | int = 0, *, cpu: int = 0, **arguments: int
    ) -> None:
        """A call that must answer `status` and change nothing; `detail` is x1, or the argument at fault by name.
        Arguments as in `call`.
        """
        __tracebackhide__ = True
        expected = 1 + find(name).args.index(detail) if isinstance(detail, str) else detail
        before = self.look()
        reply = self.call(name, cpu=cpu, **arguments)
        changes = difference(before, self.look())
        if (reply.status, reply.detail) == (status, expected) and not changes:
            return
        wanted = status + (f" (x1 = {expected}: {detail})" if detail else "") + " and no change"
        call = describe_call(find(name), arguments, cpu)
        raise AssertionError(
            f"{call}\n  expected {wanted}\n  got {reply}\n  changed: {indented(changes)}"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The ownership lock is taken during the block."""
        self.backend.hold_lock(True)
        try:
            yield
        finally:
            self.backend.hold_lock(False)

    # Records and tables, from raw memory

    def block_record(self, address: int) -> FrameRecord:
        """Record of the block that holds physical `address`."""
        index = (address - self.layout.ram_base) // BLOCK
        return FrameRecord.decode(unpack(self.physical(self.layout.block_records + index * WORD, WORD))[0])

    def frame_record(self, address: int) -> FrameRecord:
        """Record of a frame of a split block."""
        return FrameRecord.decode(unpack(self.physical(frame_record_address(self.layout, address), WORD))[0])

    def vm_record(self, slot: int) -> VmRecord:
        """Record of a VM slot."""
        return VmRecord.decode(self.physical(self.layout.vm_records + slot * VM_RECORD.size, VM_RECORD.size))

    def vm_word(self, slot: int, word: int) -> int:
        """A word of the record of a VM slot."""
        return unpack(self.physical(self.layout.vm_records + slot * VM_RECORD.size + word * WORD, WORD))[0]

    def host_walk(self, address: int) -> int | None:
        """Where the host's stage 2 takes physical `address`."""
        return walk.host(self, address)

    def vm_walk(self, slot: int, ipa: int) -> int | None:
        """Where the stage 2 of a VM takes `ipa`."""
        return walk.vm(self, slot, ipa)

    def entry(self, table: int, index: int) -> int:
        """Descriptor `index` of the table at physical `table`."""
        return unpack(self.physical(table + index * WORD, WORD))[0]

    def host_table(self, address: int) -> int:
        """Physical address of the host's level 3 table of the split block that holds `address`."""
        return self.known.host_table(address)

    def index(self, address: int) -> int:
        """Frame index of a physical address."""
        return (address - self.layout.ram_base) // PAGE

    def address(self, frame: int) -> int:
        """Physical address of a frame index."""
        return self.layout.ram_base + frame * PAGE

    # Frames to test with

    def free_frames(self) -> Iterator[int]:
        """Frames of split blocks that are the host's and not taken yet."""
        return (address for address in self.known.frames((Kind.HOST,)) if address not in self._taken)

    def take(self) -> int:
        """A host frame of a split block that nobody else uses in this test."""
        address = next(self.free_frames())
        self._taken.add(address)
        return address

    def take_block(self) -> int:
        """A block that is wholly the host's and that nobody else uses in this test."""
        block = next(block for block in reversed(self.blocks(Kind.HOST)) if block not in self._taken)
        self._taken.add(block)
        return block

    def blocks(self, kind: Kind) -> list[int]:
        """Physical addresses of all blocks of a kind, ascending."""
        return self.known.blocks(kind)

    def forget_taken(self) -> None:
        """A new test begins."""
        self._taken.clear()


def describe(name: str | int, arguments: dict[str, int], cpu: int) -> str:
    """A call as a line for people."""
    inside = ", ".join(f"{key}={value & MASK:#x}" for key, value in arguments.items())
    return f"{name}({inside})" + (f" on CPU {cpu}" if cpu else "")


def describe_call(line: abi.Call, arguments: dict[str, int], cpu: int) -> str:
    """The same with all arguments of the call, as they are sent: one that was forgotten shows as 0."""
    return describe(line.name, {name: arguments.get(name, 0) for name in line.args}, cpu)


def indented(changes: Changes | ReachChanges) -> str:
    """Changes in a message, below their first line."""
    return str(changes).replace("\n", "\n    ")
