"""Two CPUs touch a block at the same time: the second finds it the host's. Trust label: TOOL.

Of all pairs this one shows nowhere but in the order of the CPUs: both read that the block is UNCLEARED before one has
the lock. QEMU's gdb stub holds one CPU there while the other goes on (GDB manual, appendix E: packets vCont and Z1).
"""

from __future__ import annotations

import re
import struct

from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.conformance.backends.caller import constant
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle.snapshot import WORD
from bulkhead.conformance.sequences.booted import BootedOracle
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.spec import STEPS
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import Kind

SECOND_TOUCH = Pair("first_touch", "1. NOT_OWNED(1)")
FIRST, SECOND = 0, 1
"""CPUs, in the order in which they get the lock."""
SECONDS = 20.0
STOPPED = re.compile(rb"\$T0[25]thread:0*([0-9a-f]+);")
LOAD_FLAG, WAIT, LOAD, RETURN = 0xF9400001, 0xB4FFFFE1, 0xF9400042, 0xD65F03C0
"""LDR X1, [X0]; CBZ X1, back to it; LDR X2, [X2]; RET."""
KEPT = 0x1238
"""Offset in the block of a word that the host has written between the two, and the word."""
FLAG = 0x800
"""Offset in the program's frame of the word that lets it go on."""


class OneByOne(GdbStub):
    """The stub of a machine whose CPUs go on one by one."""

    def stop(self) -> None:
        """Stops all CPUs."""
        self._buffer.clear()
        self._channel.send(b"\x03")
        self.stopped()

    def stopped(self) -> int:
        """Waits until something stops all CPUs: the CPU that came to it."""
        self._wait(lambda: STOPPED.search(self._buffer) is not None, SECONDS, "a CPU to stop")
        found = STOPPED.search(self._buffer)
        assert found is not None
        self._channel.send(b"+")
        return int(found[1], 16) - 1

    def stop_at(self, address: int, stops: bool) -> None:
        """Whether a CPU that comes to `address` stops."""
        assert self._ask(f"{'Z' if stops else 'z'}1,{address:x},4") == "OK", "the stub refuses a breakpoint"

    def go_on(self, cpu: int | None = None) -> None:
        """Lets one CPU go on, or all."""
        self._buffer.clear()
        command = "vCont;c" + ("" if cpu is None else f":{cpu + 1:x}")
        self._channel.send(f"${command}#{sum(command.encode()) & 0xFF:02x}".encode())


def touch_twice(judge: BootedOracle, backend: QemuBackend) -> tuple[Pair, Pair]:
    """Both touch an UNCLEARED block; the pairs shown. AssertionError if the second touch changes anything."""
    __tracebackhide__ = True
    base = judge.machine.layout.ram_base
    block = judge.machine.blocks(Kind.UNCLEARED)[0]
    program = next(judge.machine.free_frames())
    code = [*constant(0, program + FLAG), *constant(2, block), LOAD_FLAG, WAIT, LOAD, RETURN]
    judge.write(program, struct.pack(f"<{len(code)}I", *code).ljust(FLAG + WORD, b"\0"))
    backend.begin(SECOND, program)
    touch, entered = (backend.symbols.address(name) for name in ("touch", "first_touch"))
    cpus = OneByOne(backend.machine.gdb, backend.machine.wait_until)

    cpus.stop()
    cpus.stop_at(touch, True)
    judge.write(program + FLAG, (1).to_bytes(WORD, "little"))
    cpus.go_on()
    assert cpus.stopped() == SECOND, "another CPU touches the block"
    backend.link.post("read", {"address": block, "length": WORD})
    cpus.go_on(FIRST)
    assert cpus.stopped() == FIRST, "another CPU touches the block"
    cpus.stop_at(touch, False)
    cpus.go_on(FIRST)

    def is_hosts() -> bool:
        return judge.machine.block_record(block).kind == Kind.HOST and not backend.lock_is_held()

    backend.machine.wait_until(is_hosts, SECONDS, "the first touch")
    cpus.stop()
    judge.follow_touch(block)
    backend.poke(block + KEPT, KEPT.to_bytes(WORD, "little"))
    cpus.stop_at(entered, True)
    cpus.go_on(SECOND)
    assert cpus.stopped() == SECOND, "another CPU touches a block"
    cpus.stop_at(entered, False)
    cpus.go_on()
    backend.finish(SECOND)
    expected = STEPS["first_touch"](judge.state, block=(block - base) // BLOCK)
    assert expected.success is False, "the block is not the host's yet"
    kept = int.from_bytes(backend.physical(block + KEPT, WORD), "little") == KEPT
    judge.follow_touch(block, () if kept else ["zeroes what the host has written meanwhile"])
    judge.check()
    return Pair("first_touch", "SUCCESS"), SECOND_TOUCH
