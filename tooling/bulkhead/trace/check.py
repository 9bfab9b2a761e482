"""Barriers, TLB and cache maintenance and the order of stores: checked in the instruction trace.

Trust label: TOOL. QEMU has no use for most of them. A machine whose calls are recorded instruction by instruction
(`bulkhead.trace`), each compared with the steps that the specification's events stand for: what, with which operands,
in which order, under the lock.

    differences = check_calls(images)       # of the shipped engine, or of a variant; empty if all is as specified
"""

from __future__ import annotations

from collections.abc import Callable

from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.errors import MachineError
from bulkhead.image.build import Images
from bulkhead.provision import qemu
from bulkhead.trace.every_step import take_every_step
from bulkhead.trace.probe import Probe
from bulkhead.trace.traced import TracedMachine

CAPACITY = 1 << 20
"""Records: a call that zeroes a block makes about half as many."""
Calls = Callable[[TracedMachine], None]
"""Calls on a machine."""


def check_calls(
    images: Images, sequence: Calls = take_every_step, *, done: list[TracedMachine] | None = None
) -> list[str]:
    """Takes every step that changes ownership on a machine that boots `images`; what differs, a text each.

    Or takes those of another sequence; `done` gets the machine. MachineError if it does not get to the end, unless
    something differed before.
    """
    with Probe(images.elf, capacity=CAPACITY) as probe:
        backend = QemuBackend(images, str(qemu.ensure()), extra=probe.options(), untouched=1)
        try:
            machine = TracedMachine(backend, probe)
            sequence(machine)
        except (AssertionError, MachineError) as error:
            if not machine.differences:
                raise
            machine.differences.append(str(error))
        finally:
            backend.close()
    if done is not None:
        done.append(machine)
    return machine.differences
