"""CPUs of the machine go off and come back under running guests, whose vCPUs move."""

from __future__ import annotations

import pytest

from bulkhead.inspect.engine import EngineView
from bulkhead.inspect.records import Kind
from bulkhead.machine.errors import LinkError
from bulkhead.machine.guest import MIB
from bulkhead.machine.hypervisor import Hypervisor
from guests.conftest import READY
from guests.test_many import SCRIPT_SECONDS, SECONDS, destroy_all, machine, prove_alive, start

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

CPUS = 4
BUSY = "for n in 0 1; do (while :; do :; done) & done; echo busy"
LOADED = 0x100
"""In the run state of a vCPU that is loaded: the CPU's number is below."""


def loaded_on(view: EngineView) -> set[int]:
    """CPUs that have a vCPU loaded, as the engine's records say."""
    states = [one.parent for _, one in view.records() if one.kind == Kind.VCPU]
    return {state & ~LOADED for state in states if state & LOADED}


def all_run(host: Hypervisor) -> bool:
    """Whether every CPU has a vCPU loaded."""
    with host.view() as view:
        return loaded_on(view) == set(range(CPUS))


def test_cpus_go_and_come_back_under_running_guests() -> None:
    with machine(CPUS, 768 * MIB) as host:
        consoles = [start(host, 4), start(host, 1)]
        for console in consoles:
            console.wait(READY, SECONDS)
            assert console.run(BUSY, SCRIPT_SECONDS).output.strip() == b"busy"
        for cpu in (3, 1, 2):
            host.shim.cpu_off(cpu)
            with host.view() as view:
                assert cpu not in loaded_on(view)
            with pytest.raises(LinkError):
                host.shim.cpu_off(cpu)
            prove_alive(consoles[0])
        prove_alive(consoles[1])
        for cpu in (1, 3, 2):
            host.shim.cpu_on(cpu)
            with pytest.raises(LinkError):
                host.shim.cpu_on(cpu)
            prove_alive(consoles[cpu % 2])
        with pytest.raises(LinkError):
            host.shim.cpu_off(0)
        host.machine.wait_until(lambda: all_run(host), 60, "all CPUs to run vCPUs again")
        destroy_all(host, consoles)
