"""Short names of the fixtures, where the ini option `bulkhead_aliases` asks for them. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.conformance.testing.builder import Vm
from bulkhead.conformance.testing.machine import Machine


@pytest.fixture
def machine(bulkhead_machine: Machine) -> Machine:
    """The same as `bulkhead_machine`."""
    return bulkhead_machine


@pytest.fixture
def vm(bulkhead_vm: Callable[..., Vm]) -> Callable[..., Vm]:
    """The same as `bulkhead_vm`."""
    return bulkhead_vm
