"""The scene that most tests of calls start from."""

from __future__ import annotations

import pytest

from bulkhead.conformance import Machine
from native.scene import Scene


@pytest.fixture
def scene(machine: Machine) -> Scene:
    """VMs in every state on the machine under test."""
    return Scene.set(machine)
