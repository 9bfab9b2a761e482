"""A stock kernel finds its hardware breakpoints and watchpoints, and a program of its user space uses two of each.

Sources: Linux perf_event_open(2), PERF_TYPE_BREAKPOINT (the kernel programs DBGBVR<n>_EL1 and the like, and steps over
the instruction that was hit); System V ABI, ELF-64 header.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable

import pytest

from boot.assembly import assemble
from bulkhead.machine.guest_console import GuestConsole

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

LOAD = 0x40_0000
HEADERS = 64 + 56
ROUNDS = 3
PERF_EVENT_OPEN, READ, WRITE, EXIT = 241, 63, 64, 93
ON_WRITE, ON_EXECUTION = 2, 4
"""`bp_type`."""
USER_ONLY = 1 << 5 | 1 << 6
"""exclude_kernel, exclude_hv."""


def attribute(label: str, kind: int, length: int) -> str:
    """struct perf_event_attr, 72 bytes."""
    return f"""
    .word   5, 72                    // PERF_TYPE_BREAKPOINT, size
    .quad   0, 0, 0, 0, {USER_ONLY}
    .word   0, {kind}
    .quad   {LOAD + HEADERS} + {label} - 1b, {length}
    """


PROGRAM = f"""
1:  b       2f
    .balign 8
3:  .quad   0                        // watched
4:  .quad   0                        // watched, too
5:  .quad   0                        // not watched
6:  {attribute("3b", ON_WRITE, 8)}
    {attribute("4b", ON_WRITE, 8)}
    {attribute("7f", ON_EXECUTION, 4)}
    {attribute("8f", ON_EXECUTION, 4)}
2:  sub     sp, sp, #64
    adr     x19, 6b
    mov     x20, xzr
9:  mov     x0, x19
    mov     x1, xzr                  // this process
    mov     x2, #-1                  // any CPU
    mov     x3, #-1
    mov     x4, xzr
    mov     x8, #{PERF_EVENT_OPEN}
    svc     #0
    str     x0, [sp, x20, lsl #3]
    add     x19, x19, #72
    add     x20, x20, #1
    cmp     x20, #4
    b.ne    9b
    adr     x21, 3b
    mov     x22, #{ROUNDS}
9:  str     x22, [x21]
7:  nop
    str     x22, [x21, #8]
    strb    w22, [x21, #11]
8:  nop
    str     x22, [x21, #16]
    subs    x22, x22, #1
    b.ne    9b
    mov     x20, xzr
9:  ldr     x0, [sp, x20, lsl #3]    // the count
    add     x1, sp, #48
    mov     x2, #8
    mov     x8, #{READ}
    svc     #0
    ldr     x0, [sp, #48]
    add     x0, x0, #'0'
    str     x0, [sp, #48]
    mov     x0, #1
    add     x1, sp, #48
    mov     x2, #1
    mov     x8, #{WRITE}
    svc     #0
    add     x20, x20, #1
    cmp     x20, #4
    b.ne    9b
    mov     x0, xzr
    mov     x8, #{EXIT}
    svc     #0
"""


def executable(code: bytes) -> bytes:
    """A static ELF file with one segment, which may be read, written and executed."""
    size = HEADERS + len(code)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, LOAD + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, LOAD, LOAD, size, size, 0x1000)
    return identity + header + segment + code


def test_two_breakpoints_and_two_watchpoints_in_user_space(boot: Callable[..., GuestConsole]) -> None:
    program = base64.b64encode(executable(assemble(PROGRAM))).decode()
    script = f"""
set -e
dmesg | grep hw-breakpoint
echo {program} | base64 -d > /program
chmod +x /program
/program
echo
"""
    said = boot().run(script, 60.0).output.decode()
    found = re.search(r"found (\d+) breakpoint and (\d+) watchpoint registers", said)
    assert found is not None, said
    assert [int(number) for number in found.groups()] == [6, 4]
    # Written once and twice in each round, executed once each.
    assert said.split()[-1] == f"{ROUNDS}{2 * ROUNDS}{ROUNDS}{ROUNDS}"
