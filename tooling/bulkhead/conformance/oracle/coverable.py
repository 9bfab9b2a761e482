"""The pairs that single steps on the host backend show, and those that they cannot, with the tests that do.

Trust label: TOOL.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from bulkhead.spec import pairs
from bulkhead.spec.calls import tested
from bulkhead.spec.pairs import Pair, Pairs


@dataclass(frozen=True)
class Elsewhere:
    """Why single steps do not show a pair, and the test that does."""

    why: str
    test: str

    def __str__(self) -> str:
        return f"{self.why}; shown by {self.test}"


_EVERYWHERE = {
    Pair("VM: fast interrupt", "SUCCESS"): Elsewhere(
        "the entry code gives an interrupt of group 0 to the host without asking the part that runs here",
        "tests/boot/test_interrupts.py::test_a_physical_interrupt_of_group_0_ends_a_run",
    ),
}
ELSEWHERE = _EVERYWHERE | {
    pair: Elsewhere("the host build has no CPUs that firmware turns on and off", "inv conform --backend qemu")
    for pair in pairs.everything()
    if pair.step in tested.POWER
}
"""Pairs that single steps on the host backend do not show."""


_ONE_STEP = "it lasts no longer than another CPU's step, which random turns do not meet"
_GOES = "the CPU that calls, or the machine, is gone"
_POWER, _END = "tests/boot/test_psci.py", "tests/boot/test_end.py"
_FAULT = "tests/boot/test_faults.py, by a debugger at the instruction"
ELSEWHERE_ON_QEMU = _EVERYWHERE | {
    Pair("VM: SError", "SUCCESS"): Elsewhere("QEMU has no SErrors", "the host backend"),
    Pair("VM: SError", "SUCCESS alive"): Elsewhere("QEMU has no SErrors", "the host backend"),
    Pair("VM: interrupt", "SUCCESS"): Elsewhere("QEMU withdraws no interrupt that it has signalled", _FAULT),
    **{
        Pair(f"VM: {kind} abort", "SUCCESS mapped meanwhile"): Elsewhere(_ONE_STEP, "the host backend")
        for kind in ("data", "instruction")
    },
    **{
        Pair(f"{caller}TRNG_RND{width}", "3. NO_ENTROPY"): Elsewhere("QEMU's RNDR never fails", _FAULT)
        for caller in ("", "VM: ")
        for width in (32, 64)
    },
    **{
        Pair(f"VM: PSCI_SYSTEM_{how}", "SUCCESS"): Elsewhere(
            "the VM is killed while it runs", "the host backend"
        )
        for how in ("OFF", "RESET")
    },
    Pair("PSCI_CPU_ON", "SUCCESS"): Elsewhere(_GOES, _POWER),
    Pair("PSCI_CPU_OFF", "SUCCESS"): Elsewhere(_GOES, _POWER),
    Pair("PSCI_CPU_OFF", "SUCCESS unloaded"): Elsewhere(_GOES, _POWER),
    Pair("PSCI_SYSTEM_OFF", "SUCCESS"): Elsewhere(_GOES, _END),
    Pair("PSCI_SYSTEM_RESET", "SUCCESS"): Elsewhere(_GOES, _END),
}
"""Pairs that turns of real VMs on QEMU do not show."""


@cache
def of_booted() -> tuple[Pair, ...]:
    """Beside those of ownership, what the booted engine must show: of vCPUs, other calls, and the lock."""
    locked = (pair for pair in owned() if pair.label == pairs.busy(pair.step).label)
    others = (pair for pair in pairs.everything() if pair.step in pairs.tested_table())
    return (*locked, *(pair for pair in others if pair not in ELSEWHERE_ON_QEMU))


@cache
def owned() -> tuple[Pair, ...]:
    """Of calls and steps that change ownership."""
    return tuple(pair for pair in pairs.everything() if _is_wanted(pair) and pair.step in pairs.table())


@cache
def of_vcpus() -> tuple[Pair, ...]:
    """Of vCPUs, and of calls beside ownership."""
    return tuple(
        pair for pair in pairs.everything() if _is_wanted(pair) and pair.step in pairs.tested_table()
    )


def wanted() -> tuple[Pair, ...]:
    """All that a run must show."""
    return (*owned(), *of_vcpus())


def table() -> dict[str, Pairs]:
    """Step → its pairs, of those that a run must show."""
    found = {
        step: Pairs(
            tuple(pair for pair in own.refusals if _is_wanted(pair)),
            {shape: pair for shape, pair in own.successes.items() if _is_wanted(pair)},
        )
        for step, own in pairs.whole_table().items()
    }
    return {step: own for step, own in found.items() if own.refusals or own.successes}


def elsewhere() -> dict[Elsewhere, list[Pair]]:
    """Reason → the pairs that the host backend does not show for it."""
    found: dict[Elsewhere, list[Pair]] = {}
    for pair, reason in ELSEWHERE.items():
        found.setdefault(reason, []).append(pair)
    return found


def _is_wanted(pair: Pair) -> bool:
    return pair not in pairs.UNREACHABLE and pair not in ELSEWHERE
