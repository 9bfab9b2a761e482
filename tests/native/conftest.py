"""The scene that most tests of calls start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.testing.machine import MASK
from native.exceptions import Exceptions
from native.scene import Scene


@pytest.fixture
def scene(machine: Machine) -> Scene:
    """VMs in every state on the machine under test."""
    return Scene.set(machine)


@pytest.fixture
def guest(machine: Machine, vm: Callable[..., Vm]) -> Iterator[Exceptions]:
    """A loaded vCPU of an ACTIVE VM with one page and two vCPUs."""
    one = vm(vcpus=2)
    one.page()
    one.activate()
    machine.ok("vcpu_run", vcpu=one.contexts[0])
    exceptions = Exceptions(machine, one)
    exceptions.backend.events()
    yield exceptions
    exceptions.identify(MASK)
    exceptions.backend.set_entropy(True)
