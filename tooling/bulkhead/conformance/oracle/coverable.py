"""The pairs that single steps on the host backend show, and those that they cannot, with the tests that do.

Trust label: TOOL.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from bulkhead.spec import pairs
from bulkhead.spec.pairs import Pair, Pairs


@dataclass(frozen=True)
class Elsewhere:
    """Why single steps do not show a pair, and the test that does."""

    why: str
    test: str

    def __str__(self) -> str:
        return f"{self.why}; shown by {self.test}"


_PSCI, _FAULTS, _HOST = (
    "tests/boot/test_psci.py::",
    "tests/boot/test_faults.py::",
    "tests/spec/test_vcpus.py::",
)
_RANDOM = "tests/spec/test_conform.py::test_random_sequences_are_as_specified_and_see_every_pair"
_EVERYWHERE = {
    Pair("VM: fast interrupt", "SUCCESS"): Elsewhere(
        "the entry code gives an interrupt of group 0 to the host without asking the part that runs here",
        "tests/boot/test_interrupts.py::test_a_physical_interrupt_of_group_0_ends_a_run",
    ),
}
_POWER = {
    Pair("PSCI_CPU_ON", "1. INVALID_PARAMETERS"): _PSCI + "test_a_cpu_that_does_not_exist",
    Pair("PSCI_CPU_ON", "2. INVALID_ADDRESS"): _PSCI + "test_an_entry_that_is_no_instruction",
    Pair("PSCI_CPU_ON", "3. ALREADY_ON"): _PSCI + "test_a_running_cpu_is_not_started_again",
    Pair("PSCI_CPU_ON", "SUCCESS"): _PSCI + "test_every_cpu_starts_and_calls",
    Pair("PSCI_CPU_OFF", "SUCCESS"): _PSCI + "test_a_cpu_goes_and_comes_back",
    Pair("PSCI_CPU_OFF", "SUCCESS unloaded"): _PSCI + "test_a_cpu_goes_off_with_a_vcpu_loaded",
    Pair("PSCI_AFFINITY_INFO", "SUCCESS"): _PSCI + "test_every_cpu_starts_and_calls",
    Pair("PSCI_SYSTEM_OFF", "1. DENIED"): _PSCI + "test_no_end_while_ownership_changes",
    Pair("PSCI_SYSTEM_OFF", "SUCCESS"): _PSCI + "test_the_end",
    Pair("PSCI_SYSTEM_RESET", "1. DENIED"): _PSCI + "test_no_end_while_ownership_changes",
    Pair("PSCI_SYSTEM_RESET", "SUCCESS"): _PSCI + "test_the_end",
}
ELSEWHERE = _EVERYWHERE | {
    pair: Elsewhere("the host build has no CPUs that firmware turns on and off", test)
    for pair, test in _POWER.items()
}
"""Pairs that single steps on the host backend do not show."""

_GOES = "the CPU that calls, or the machine, is gone; or all CPUs are on"
_NO_SERROR = "QEMU has no SErrors"
_ENDS = "the VM is killed in the middle of its turn"
ELSEWHERE_ON_QEMU = _EVERYWHERE | {
    Pair("VM: SError", "SUCCESS"): Elsewhere(_NO_SERROR, _HOST + "test_deaths"),
    Pair("VM: SError", "SUCCESS alive"): Elsewhere(_NO_SERROR, _FAULTS + "test_a_vm_dies_of_an_serror"),
    Pair("VM: PSCI_SYSTEM_OFF", "SUCCESS"): Elsewhere(_ENDS, _HOST + "test_deaths"),
    Pair("VM: PSCI_SYSTEM_RESET", "SUCCESS"): Elsewhere(_ENDS, _HOST + "test_deaths"),
    Pair("VM: interrupt", "SUCCESS"): Elsewhere(
        "QEMU withdraws no interrupt that it has signalled",
        _FAULTS + "test_a_timer_interrupt_that_goes_before_it_is_taken",
    ),
    **{
        Pair(f"VM: {kind} abort", "SUCCESS mapped meanwhile"): Elsewhere(
            "it takes another CPU's step at that moment", _RANDOM
        )
        for kind in ("data", "instruction")
    },
    **{
        Pair(f"{caller}TRNG_RND{width}", "3. NO_ENTROPY"): Elsewhere(
            "QEMU's random numbers never run dry", _FAULTS + "test_random_numbers_run_dry"
        )
        for caller in ("", "VM: ")
        for width in (32, 64)
    },
    **{
        pair: Elsewhere(_GOES, test)
        for pair, test in _POWER.items()
        if pair.is_success and pair.step != "PSCI_AFFINITY_INFO"
    },
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
