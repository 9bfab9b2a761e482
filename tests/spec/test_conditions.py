"""Every condition of every call and step in the specification is broken once, alone, and the engine answers as it says.

Which conditions a call has is what the specification itself says when the call succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.testing.builder import dismantle
from bulkhead.inspect.records import Kind, VmState
from bulkhead.spec import ARGUMENTS, CALLS
from native.scene import ADDRESSES, BLOCK_IPA, IPA, LIVE, MIB, NEW, RAM, Scene
from native.test_priority import ERRORS, Error

Case = Callable[[Machine], dict[str, int]]
"""Prepares a machine and gives the arguments of a call that breaks one condition."""
VCPUS = 8
FRAME_ARGUMENTS = {
    "host_split": ("table",), "vm_create": ("root",), "table_donate": ("table",), "map": ("frame",),
    "vcpu_create": ("frame",), "vm_split": ("table", "host_table"), "table_reclaim": ("table",), "reclaim": ("frame",),
    "vcpu_set_entry": ("vcpu",),
}  # fmt: skip
"""Call → its arguments that must be frames of split blocks."""
TOP = 1 << 39
BLOCK_ADDRESSES = ("one page off", "behind the last frame", "engine", "split", "another VM's")
"""Keys of `blocks`."""
VM_CALLS = ("share", "unshare", "relinquish")


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
    for argument in FRAME_ARGUMENTS.get(call, ()):
        yield from (partial(with_address, call=call, argument=argument, what=what) for what in ADDRESSES)
        yield partial(with_changes, call=call, changes=lambda scene, name=argument: {name: uncleared(scene)})
        if argument in ("table", "host_table", "root", "frame"):
            yield partial(
                with_changes, call=call, changes=lambda scene, name=argument: {name: scene.new.root}
            )
    if "block" in ARGUMENTS[call]:
        for what in BLOCK_ADDRESSES:
            yield partial(
                with_changes, call=call, changes=lambda scene, key=what: {"block": blocks(scene)[key]}
            )


def with_changes(machine: Machine, call: str, changes: Callable[[Scene], dict[str, int]]) -> dict[str, int]:
    """A call that would succeed but for some arguments."""
    scene = Scene.set(machine)
    return scene.good(call) | changes(scene)


class AllTouched(Exception):
    """The backend has touched all RAM when it started, and its memory cannot be changed from outside."""


def uncleared(scene: Scene) -> int:
    """A block that nobody has touched since boot. AllTouched if there is none."""
    backend, layout = scene.machine.backend, scene.machine.layout
    if not scene.machine.blocks(Kind.UNCLEARED):
        if not isinstance(backend, HostBackend):
            raise AllTouched
        number = (scene.machine.take_block() - layout.ram_base) // BLOCK
        backend.poke(layout.block_records + 8 * number, int(Kind.UNCLEARED).to_bytes(8, "little"))
        backend.poke(layout.host_level2 + 8 * number, bytes(8))
        scene.machine.needs_reset = True
    return scene.machine.blocks(Kind.UNCLEARED)[0]


def blocks(scene: Scene) -> dict[str, int]:
    """Addresses that are not those of a block that a call takes."""
    return {
        "one page off": scene.whole + PAGE,
        "behind the last frame": scene.machine.layout.end,
        "engine": scene.machine.blocks(Kind.ENGINE)[-1],
        "split": scene.machine.layout.split_block,
        "another VM's": scene.vm_block,
    }


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
            yield partial(with_changes, call=call, changes=lambda scene: {"block": uncleared(scene)})
        case "dma_allow":
            yield partial(with_changes, call=call, changes=lambda scene: {"block": uncleared(scene)})
        case "dma_revoke" | "reclaim_block" | "vm_split":
            yield partial(
                with_changes, call=call, changes=lambda scene: {"block": scene.machine.take_block()}
            )
        case "map":
            yield partial(with_changes, call=call, changes=block_in_the_way)
        case "map_block":
            yield from (partial(with_changes, call=call, changes=changes) for changes in BLOCK_MAPPINGS)
        case "share_accept" | "share_release":
            yield from (partial(with_changes, call=call, changes=changes) for changes in SHARED_PAGES)
    if call == "reclaim_block":
        yield lambda machine: {"block": Scene.set(machine).vm_block}
    if call == "vm_split":
        yield partial(with_changes, call=call, changes=lambda scene: {"block": scene._dying_block()})
        yield partial(with_changes, call=call, changes=lambda scene: {"host_table": scene.frame})


def block_in_the_way(scene: Scene) -> dict[str, int]:
    """A page where a block is mapped."""
    scene.new.block(BLOCK_IPA)
    return {"ipa": BLOCK_IPA + PAGE}


BLOCK_MAPPINGS: tuple[Callable[[Scene], dict[str, int]], ...] = (
    lambda scene: {"vm": 64},
    lambda scene: {"vm": scene.dead.slot},
    lambda scene: {"ipa": BLOCK_IPA + PAGE},
    lambda scene: {"ipa": TOP},
    lambda scene: {"ipa": RAM + 8 * MIB},
    lambda scene: {"ipa": RAM + (1 << 30)},
    lambda scene: {"ipa": RAM},
    lambda scene: {"vm": Vm(scene.machine, 5, vcpus=1).slot},
)
"""What `map_block` refuses: slot, state, address, RAM, and tables."""
SHARED_PAGES: tuple[Callable[[Scene], dict[str, int]], ...] = (
    lambda scene: {"vm": 64},
    lambda scene: {"vm": scene.dead.slot},
    lambda scene: {"ipa": RAM + 1},
    lambda scene: {"ipa": TOP},
    lambda scene: {"ipa": RAM + (1 << 31)},
    lambda scene: {"ipa": RAM + 4 * MIB},
    lambda scene: {"ipa": BLOCK_IPA} if scene.live.block(BLOCK_IPA) else {},
    lambda scene: {"ipa": IPA},
    lambda scene: {"vm": NEW, "ipa": RAM},
)
"""What `share_accept` and `share_release` refuse: slot, state, address, tables, a block, no page, one not shared."""


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


def check_all_broken(oracle: Oracle, call: str, beyond: tuple[str, ...] = ()) -> None:
    """Each condition but those `beyond` this machine was the one that failed, once at least."""
    broken = {branch for name, branch in oracle.covered if name == call and branch != "SUCCESS"}
    wanted = {branch for branch in oracle.conditions[call] if not branch.endswith(beyond)}
    assert broken == wanted


@pytest.mark.raw_memory
@pytest.mark.parametrize("call", CALLS)
def test_every_condition(machine: Machine, call: str) -> None:
    oracle = Oracle(machine)
    beyond = ["NOT_SUPPORTED"]
    for case in (*table_cases(call), *other_cases(call)):
        oracle.forget()
        try:
            arguments = case(machine)
            oracle.step(call, **{name: arguments.get(name, 0) for name in ARGUMENTS[call]})
        except AllTouched:
            beyond += [f"NOT_CLEARED({register})" for register in range(1, 6)]
        clear(machine)
    arguments = Scene.set(machine).good(call)
    oracle.forget()
    oracle.step(call, **{name: arguments.get(name, 0) for name in ARGUMENTS[call]})
    check_all_broken(oracle, call, tuple(beyond))


@pytest.mark.parametrize("call", ["dma_allow", "dma_revoke"])
def test_there_are_no_windows_without_an_smmu(call: str) -> None:
    backend = HostBackend(features=0)
    oracle = Oracle(Machine(backend))
    assert oracle.step(call, block=oracle.machine.take_block()).status == "NOT_SUPPORTED"
    backend.close()


@pytest.mark.host
@pytest.mark.parametrize("call", VM_CALLS)
def test_every_condition_of_a_vm_call(machine: Machine, call: str) -> None:
    oracle = Oracle(machine)
    scene = Scene.set(machine)
    if call == "share":
        scene.accept()
    scene.live.block(BLOCK_IPA)
    oracle.forget()
    for arguments in VM_ARGUMENTS:
        oracle.vm_step(call, LIVE, *arguments)
    if call == "share":
        oracle.step("share_release", vm=LIVE, ipa=RAM)
        oracle.vm_step("unshare", LIVE, RAM)
    if call == "unshare":
        oracle.vm_step("share", LIVE, RAM)
    oracle.vm_step(call, LIVE, RAM)
    check_all_broken(oracle, call)


VM_ARGUMENTS = (
    (RAM + 1,), (TOP,), (RAM - PAGE,), (RAM, 1), (RAM, 0, 1), (RAM + (1 << 30),), (RAM + 4 * MIB,), (BLOCK_IPA,),
    (IPA,), (RAM,),
)  # fmt: skip
"""x1, x2 and x3 of calls of the live VM; the last is refused by the state of the page, if the call looks at it."""
