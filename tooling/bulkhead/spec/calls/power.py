"""Power of the host's CPUs and of its machine (PSCI 1.1, Arm DEN 0022, chapter 5): what the engine sees to before
firmware is asked. What firmware does then is the machine's; only if it refuses, the host reads its answer.
"""

from __future__ import annotations

from ..events import ScrubVms, StartCpu
from ..state import Power, Run
from ..vcpu import VcpuTransaction
from ..words import Word, negate
from . import running


def cpu_on(t: VcpuTransaction, affinity: Word, entry: Word, context: Word) -> None:
    """A CPU that is off comes up in the engine, which enters the host at `entry` with `context` in x0."""
    power = t.before.inputs.power(affinity)
    t.need(negate(power == Power.ABSENT), "INVALID_PARAMETERS")
    t.need(entry & 3 == 0, "INVALID_ADDRESS")
    t.need(power == Power.OFF, "ALREADY_ON")
    t.emit(StartCpu(affinity, entry, context))
    t.answer(t.before.inputs.firmware)


def cpu_off(t: VcpuTransaction, cpu: Word) -> None:
    """What is loaded on this CPU leaves it first, and can be run elsewhere."""
    running.unload(t, cpu, Run.RUNNABLE)
    t.answer(t.before.inputs.firmware)


def affinity_info(t: VcpuTransaction) -> None:
    """Firmware knows."""
    t.answer(t.before.inputs.firmware)


def system_end(t: VcpuTransaction) -> None:
    """Nothing of a VM outlives the machine, in RAM or in a CPU; and not in the middle of another CPU's call."""
    t.need(t.before.inputs.lock == 0, "DENIED")
    t.emit(ScrubVms())
    t.answer(t.before.inputs.firmware)
