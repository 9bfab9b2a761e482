"""The program of a VM in a history: calls about its pages, one after the other, each followed by a report to the host.

Trust label: TOOL. Which calls they are also stands in the vCPU's x0, the `context` of `vcpu_set_entry`, a byte each, so
that a program of steps says by itself what its VMs do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.caller import HOST_CALL, HVC, WFI, branch, constant, copy
from bulkhead.conformance.testing.machine import ABI

ENTRY = 0x4000_0000
"""First address of a VM's RAM, where its program is."""
CALLS = ("share", "unshare", "relinquish")
IN_BLOCK, NOWHERE = 6, 7
"""Numbers of places that are no pages: in the VM's block, if it has one, and where there is nothing."""
VmCall = tuple[str, int]
"""A call and its address."""
Answer = tuple[int, int]
"""x0 and x1."""


def address(place: int) -> int:
    """Where a place is: pages follow the program."""
    return {IN_BLOCK: ENTRY + BLOCK, NOWHERE: ENTRY + 3 * BLOCK}.get(place, ENTRY + place * PAGE)


def context(calls: Sequence[tuple[str, int]]) -> int:
    """The x0 that stands for up to eight calls, of which each names a place."""
    return sum((1 + CALLS.index(name) | place << 2) << 8 * n for n, (name, place) in enumerate(calls))


def calls_of(context: int) -> tuple[VmCall, ...]:
    """What that x0 stands for."""
    codes = [code for code in context.to_bytes(8, "little") if code & 3]
    return tuple((CALLS[(code & 3) - 1], address(code >> 2)) for code in codes)


def code(context: int) -> list[int]:
    """The instructions, two in each word."""
    words = constant(3, 0)
    for name, ipa in calls_of(context):
        words += [*constant(0, ABI.call(name).id), *constant(1, ipa), *constant(2, 0), HVC]
        words += [copy(2, 1), copy(1, 0), *constant(0, HOST_CALL), HVC]
    words += [WFI, branch(4, 0)]
    words += [WFI] * (len(words) % 2)
    return [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]


@dataclass(frozen=True)
class Guest:
    """How far a vCPU has come: the calls that are left, and whether the first one has succeeded and is to be reported.

    `refused`: answers that it may have got before an interrupt, and not reported yet.
    """

    left: tuple[VmCall, ...] = ()
    succeeded: bool = False
    refused: frozenset[Answer] = frozenset()

    def reports(self) -> Iterator[Answer]:
        """What it may report without a further call."""
        yield from self.refused
        if self.succeeded:
            yield 0, self.left[0][1]

    def done(self) -> Guest:
        """After its report."""
        return Guest(self.left[1:])

    def may_know(self, answer: Answer) -> Guest:
        """It may have been refused."""
        return replace(self, refused=self.refused | {answer})
