"""A watch on the engine's instructions in QEMU: which were executed, which way branches went, and exact records.

Trust label: TOOL. The other half is `probe.c`, compiled by the machine's C compiler when it is first needed.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bulkhead.errors import BuildError, MachineError
from bulkhead.image.elf import read_program
from bulkhead.machine.qemu import KERNEL_ADDRESS
from bulkhead.provision.paths import cache_dir, locked, sha256_of

SOURCE = Path(__file__).with_name("probe.c")
HEAD = struct.Struct("<6Q")
RECORD = struct.Struct("<IBBBxQQ")
EXECUTED, LOADED, STORED = range(3)
_COMPILE_SECONDS = 120


class Record(NamedTuple):
    """What one CPU did: executed the instruction at `pc` (as linked; of barriers, system instructions and RET only;
    `value` is the operand of MSR and SYS), or loaded or stored `value` of `size` bytes at virtual `address` by it."""

    kind: int
    cpu: int
    pc: int
    address: int
    value: int
    size: int


class Probe:
    """Give `options()` to QEMUs that boot this image; context manager. Readable during and after their runs, which all
    add to the same coverage."""

    def __init__(self, elf: Path, *, capacity: int = 0, load_address: int = KERNEL_ADDRESS) -> None:
        """`capacity`: room for so many records (24 bytes each); 0 watches coverage only, which costs less."""
        program = read_program(elf)
        self.base = program.base
        text = program.flat()[: max(one.end for one in program.segments if one.executable) - self.base]
        self.words: tuple[int, ...] = struct.unpack(f"<{len(text) // 4}I", text)
        self._capacity, count = capacity, len(self.words)
        self._flags = -(-3 * count // 8) * 8
        self._directory = tempfile.TemporaryDirectory(prefix="bulkhead-probe-")
        self._shared, self._text = (Path(self._directory.name) / name for name in ("shared", "text"))
        self._text.write_bytes(text)
        size = HEAD.size + self._flags + capacity * RECORD.size
        with self._shared.open("wb+") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        HEAD.pack_into(self._memory, 0, 0, 0, capacity, count, self.base, load_address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the memory and the files go."""
        self._memory.close()
        self._directory.cleanup()

    def options(self) -> tuple[str, ...]:
        """Arguments of QEMU. BuildError if the plugin cannot be compiled."""
        return ("-plugin", f"{plugin()},shared={self._shared},text={self._text}")

    def executed(self) -> bytes:
        """A byte for each instruction word from `base` on: 1 if it was executed."""
        return self._flag(0)

    def taken(self) -> bytes:
        """The same: 1 if it is a conditional branch that was taken."""
        return self._flag(1)

    def passed(self) -> bytes:
        """The same: 1 if it is a conditional branch that was not taken."""
        return self._flag(2)

    def _flag(self, which: int) -> bytes:
        start = HEAD.size + which * len(self.words)
        return self._memory[start : start + len(self.words)]

    @contextmanager
    def recording(self) -> Iterator[list[Record]]:
        """Records what happens in the block; the list is filled at its end. MachineError if there was no room."""
        found: list[Record] = []
        struct.pack_into("<2Q", self._memory, 0, 1, 0)
        try:
            yield found
        finally:
            struct.pack_into("<Q", self._memory, 0, 0)
        found += self._records()

    def _records(self) -> Iterator[Record]:
        count = HEAD.unpack_from(self._memory)[1]
        if count > self._capacity:
            raise MachineError(
                f"{count} records, and room for {self._capacity}",
                where="trace",
                hint="give the probe a larger capacity",
            )
        start = HEAD.size + self._flags
        for place, kind, size, cpu, address, value in RECORD.iter_unpack(
            self._memory[start : start + count * RECORD.size]
        ):
            yield Record(kind, cpu, self.base + 4 * place, address, value, size)


def plugin() -> Path:
    """The compiled plugin, kept under the hash of its source. BuildError if there is no C compiler, or it refuses."""
    kept = cache_dir() / "plugins" / f"probe-{sha256_of(SOURCE)[:16]}.so"
    with locked("plugin-probe"):
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            fresh = kept.with_suffix(".new")
            command = ["cc", "-std=c11", "-O2", "-Wall", "-fPIC", "-shared", "-fvisibility=hidden"]
            command += [str(SOURCE), "-o", str(fresh)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BuildError(f"the plugin for QEMU cannot be compiled: {error}", where=SOURCE) from error
            if done.returncode:
                raise BuildError(f"the plugin for QEMU does not compile\n{done.stderr.strip()}", where=SOURCE)
            fresh.replace(kept)
    return kept
