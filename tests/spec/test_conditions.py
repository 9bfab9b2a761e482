"""Every condition of every call in the specification is broken once, alone, and the engine answers as it says.

How many conditions a call has is what the specification itself says when the call succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.builder import dismantle
from bulkhead.conformance.oracle import Oracle
from bulkhead.inspect.records import VmState
from bulkhead.spec import ARGUMENTS, CALLS
from native.scene import ADDRESSES, LIVE, Scene
from native.test_frames import TAKES_HOST_FRAME, TAKES_OWN_FRAME
from native.test_priority import ERRORS, Error

Case = Callable[[Machine], dict[str, int]]
"""Prepares a machine and gives the arguments of a call that breaks one condition."""
VCPUS = 8


def with_error(machine: Machine, call: str, error: Error) -> dict[str, int]:
    """What the tests of error priority break."""
    scene = Scene.set(machine)
    error.first(scene)
    return scene.good(call) | error.broken(scene)


def with_address(machine: Machine, call: str, argument: str, what: str) -> dict[str, int]:
    """A frame that the call must not take."""
    scene = Scene.set(machine)
    return scene.good(call) | {argument: scene.frames()[what][0]}


def table_cases(call: str) -> Iterator[Case]:
    """The errors that `test_priority` lists, and every address that is no frame to give."""
    for group in ERRORS.get(call, ()):
        yield from (partial(with_error, call=call, error=error) for error in group)
    own = TAKES_OWN_FRAME.get(call)
    for argument in [own[0]] if own else [name for one, name in TAKES_HOST_FRAME if one == call]:
        yield from (partial(with_address, call=call, argument=argument, what=what) for what in ADDRESSES)


def missing_vcpu(machine: Machine, index: int) -> dict[str, int]:
    """A VM under construction whose first missing vCPU is `index`; with all of them it lacks its entry only."""
    vm = Vm(machine, vcpus=VCPUS)
    for number in range(index):
        vm.vcpu(number)
    return {"vm": 0}


def remaining_vcpu(machine: Machine, index: int) -> dict[str, int]:
    """A dying VM that has nothing left but its root and vCPU `index`."""
    vm = Vm(machine, vcpus=VCPUS)
    vm.vcpu(index)
    vm.kill()
    return {"vm": 0}


def other_cases(call: str) -> Iterator[Case]:
    """Conditions about other things than one argument."""
    match call:
        case "activate":
            yield from (partial(missing_vcpu, index=index) for index in range(VCPUS + 1))
        case "vm_destroy":
            yield from (partial(remaining_vcpu, index=index) for index in range(VCPUS))
            yield lambda machine: {"vm": Vm(machine).cover().kill().slot}
        case "table_reclaim":
            yield lambda machine: {"table": Vm(machine).cover().tables[2, 0x4000_0000]}
        case "reclaim":
            yield lambda machine: {"frame": Scene.set(machine).frame}
            yield lambda machine: {"frame": Scene.set(machine).live.contexts[0]}
            yield loaded_and_dying
        case "vcpu_set_entry":
            yield lambda machine: {"vcpu": Scene.set(machine).frame, "entry": 0, "context": 0}
            yield lambda machine: {"vcpu": Vm(machine, vcpus=2).vcpu(1), "entry": 0, "context": 0}
        case "host_split":
            yield lambda machine: {"block": machine.layout.split_block, "table": machine.take()}


def loaded_and_dying(machine: Machine) -> dict[str, int]:
    """A vCPU that is loaded on a CPU while its VM is dying."""
    scene = Scene.set(machine)
    assert scene.live.slot == LIVE
    machine.ok("vcpu_run", vcpu=scene.live.contexts[0], cpu=1)
    scene.live.kill()
    return {"frame": scene.live.contexts[0]}


def clear(machine: Machine) -> None:
    """Ends all VMs; frames may be taken again."""
    dismantle(machine)
    machine.forget_taken()
    assert all(machine.vm_word(slot, 0) == VmState.FREE for slot in range(64))


@pytest.mark.parametrize("call", CALLS)
def test_every_condition(machine: Machine, call: str) -> None:
    oracle = Oracle(machine)
    for case in (*table_cases(call), *other_cases(call)):
        oracle.forget()
        arguments = case(machine)
        oracle.step(call, **{name: arguments.get(name, 0) for name in ARGUMENTS[call]})
        clear(machine)
    arguments = Scene.set(machine).good(call)
    oracle.forget()
    oracle.step(call, **{name: arguments.get(name, 0) for name in ARGUMENTS[call]})
    broken = {int(branch.split(".")[0]) for _, branch in oracle.covered if branch != "SUCCESS"}
    assert broken == set(range(1, oracle.conditions[call] + 1))
