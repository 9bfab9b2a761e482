"""Shared pages: the host's two calls, and on the host build every decision about the VM's three."""

from __future__ import annotations

import pytest

from bulkhead.conformance import HostFault, Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend, Next
from bulkhead.conformance.oracle.snapshot import Snapshot, unpack
from bulkhead.conformance.testing.machine import ABI, MASK, filler
from bulkhead.inspect.records import FrameRecord, Kind, Shared
from native.scene import BLOCK_IPA, IPA, LIVE, MIB, RAM, Scene

LEAF = 0x7FF
PC = 32
"""Word of a vCPU context."""
EXITS = {line.name: line.value for line in ABI.exits}
INVALID, BAD_STATE = ABI.status("INVALID_ARGUMENT") & MASK, ABI.status("BAD_STATE") & MASK
SHARE, UNSHARE, RELINQUISH = (ABI.call(name).id for name in ("share", "unshare", "relinquish"))
RESUME = Next("resume", 0, (0, 0, 0))


def page_of(scene: Scene) -> int:
    """The page that the live VM shares."""
    return scene.live.pages[RAM]


def host_leaf(machine: Machine, frame: int) -> int:
    """The host's level 3 descriptor of a frame of a split block."""
    return machine.entry(machine.host_table(frame), frame % BLOCK // PAGE)


def unreachable(machine: Machine, frame: int) -> None:
    """The host program cannot load or store there."""
    assert host_leaf(machine, frame) == 0
    with pytest.raises(HostFault):
        machine.backend.memory(frame, 8)
    with pytest.raises(HostFault):
        machine.backend.write(frame, b"mine")


# The host's side, on any backend


@pytest.mark.raw_memory
def test_an_offered_page_is_still_out_of_reach(scene: Scene) -> None:
    before = Snapshot.take(scene.machine)
    frame = page_of(scene)
    private = scene.machine.frame_record(frame)
    scene.offer()
    records = before.changes(Snapshot.take(scene.machine)).frames
    assert records[frame] == (private, scene.machine.frame_record(frame))
    assert scene.machine.frame_record(frame).shared == Shared.OFFERED
    unreachable(scene.machine, frame)
    scene.machine.refuses("share_release", "BAD_STATE", vm=LIVE, ipa=RAM)


@pytest.mark.raw_memory
def test_share_accept(scene: Scene) -> None:
    machine, frame = scene.machine, page_of(scene)
    scene.offer()
    offered = machine.frame_record(frame)
    content = machine.physical(frame)
    reply, changes = machine.observe("share_accept", vm=LIVE, ipa=RAM)
    assert reply.results == {"frame": frame}
    accepted = FrameRecord(Kind.VM_PAGE, 0, LIVE, offered.slot, offered.parent, Shared.ACCEPTED)
    assert changes.frames == {frame: (offered, accepted)}
    assert changes.contents == {machine.host_table(frame)}
    assert not (changes.blocks or changes.vms or changes.host_level2 or changes.dma_level2)
    assert host_leaf(machine, frame) == frame | LEAF
    assert machine.backend.memory(frame, PAGE) == content
    machine.backend.write(frame + 2048, b"from the host")
    assert machine.physical(frame + 2048, 13) == b"from the host"
    assert machine.vm_walk(LIVE, RAM) == frame


@pytest.mark.raw_memory
def test_share_release(scene: Scene) -> None:
    machine, frame = scene.machine, page_of(scene)
    scene.accept()
    machine.backend.write(frame + 2048, b"from the host")
    accepted = machine.frame_record(frame)
    _, changes = machine.observe("share_release", vm=LIVE, ipa=RAM)
    assert changes.frames == {frame: (accepted, machine.frame_record(frame))}
    assert machine.frame_record(frame).shared == Shared.OFFERED
    assert changes.contents == {machine.host_table(frame)}
    assert not (changes.blocks or changes.vms or changes.host_level2 or changes.dma_level2)
    unreachable(machine, frame)
    assert machine.physical(frame + 2048, 13) == b"from the host"
    assert machine.vm_walk(LIVE, RAM) == frame
    machine.ok("share_accept", vm=LIVE, ipa=RAM)
    assert machine.backend.memory(frame + 2048, 13) == b"from the host"


@pytest.mark.raw_memory
@pytest.mark.parametrize("accepted", [False, True], ids=["offered", "accepted"])
def test_a_shared_page_of_a_dying_vm_comes_back_zeroed(scene: Scene, accepted: bool) -> None:
    machine, frame = scene.machine, page_of(scene)
    (scene.accept if accepted else scene.offer)()
    scene.live.kill()
    machine.refuses("share_accept", "BAD_STATE", vm=LIVE, ipa=RAM)
    machine.refuses("share_release", "BAD_STATE", vm=LIVE, ipa=RAM)
    machine.ok("reclaim", frame=frame)
    assert machine.frame_record(frame) == FrameRecord(Kind.HOST)
    assert host_leaf(machine, frame) == frame | LEAF
    assert machine.backend.memory(frame, PAGE) == bytes(PAGE)


def test_a_shared_page_is_nothing_that_the_host_could_give(scene: Scene) -> None:
    machine, frame = scene.machine, page_of(scene)
    scene.accept()
    machine.refuses("map", "NOT_OWNED", "frame", vm=LIVE, ipa=IPA, frame=frame)
    machine.refuses("vcpu_create", "NOT_OWNED", "frame", vm=0, index=1, frame=frame)
    machine.refuses("host_split", "ALREADY_MAPPED", block=frame & -BLOCK, table=scene.frame)
    machine.refuses("dma_allow", "NOT_OWNED", "block", block=frame & -BLOCK)


# The VM's side: decisions


class Caller:
    """The live VM, whose HVC the fake machine carries out; its program counter is that of the HVC before and after a
    call that has to be repeated."""

    def __init__(self, scene: Scene) -> None:
        assert isinstance(scene.machine.backend, HostBackend)
        self.machine, self.backend = scene.machine, scene.machine.backend
        self.vcpu = scene.live.contexts[0]

    def call(self, function: int, *arguments: int) -> tuple[tuple[int, ...], Next, bool]:
        """x0 to x17 afterwards, what happens next, and whether the call is repeated."""
        values = [function, *arguments, 0, 0][: max(4, len(arguments) + 1)]
        values += [filler(register) for register in range(len(values), 18)]
        before = self._pc()
        regs, decision = self.backend.vm_call(0, LIVE, values)
        moved = self._pc() - before
        assert moved in (0, 4)
        if moved == 0:
            assert regs == tuple(values), "a call that is repeated leaves its arguments alone"
        return regs, decision, moved == 0

    def ok(self, function: int, ipa: int) -> None:
        """A call that succeeds, of which the host hears."""
        regs, decision, again = self.call(function, ipa)
        assert (regs[0], again) == (0, False)
        assert regs[1:4] == (ipa, 0, 0)
        assert regs[4:] == tuple(filler(register) for register in range(4, 18))
        assert decision == Next("exit", EXITS["SHARE"], (function, ipa, 0))

    def refuses(self, status: int, detail: int, function: int, *arguments: int) -> None:
        """A call that changes nothing, of which the host does not hear."""
        before = self._state()
        regs, decision, again = self.call(function, *arguments)
        assert (regs[:2], decision, again) == ((status, detail), RESUME, False)
        assert self._state() == before

    def repeats(self, decision: Next, function: int, ipa: int) -> None:
        """A call that changes nothing and is executed again."""
        before = self._state()
        _, next_, again = self.call(function, ipa)
        assert (next_, again) == (decision, True)
        assert self._state() == before

    def shared(self, ipa: int) -> Shared:
        """How far the page at `ipa` is shared."""
        frame = self.machine.vm_walk(LIVE, ipa)
        assert frame is not None
        return self.machine.frame_record(frame).shared

    def _pc(self) -> int:
        return unpack(self.machine.physical(self.vcpu))[PC]

    def _state(self) -> object:
        """Everything but the vCPU's context."""
        snapshot = Snapshot.take(self.machine)
        changes = {block: bytearray(content) for block, content in snapshot.contents.items()}
        block = self.vcpu & -BLOCK
        changes[block][self.vcpu - block : self.vcpu - block + PAGE] = bytes(PAGE)
        return snapshot.blocks, snapshot.host_level2, snapshot.vms, snapshot.records, changes


@pytest.fixture
def caller(scene: Scene) -> Caller:
    """The live VM as a caller."""
    return Caller(scene)


@pytest.mark.host
def test_the_life_of_a_shared_page(scene: Scene, caller: Caller) -> None:
    machine, frame = scene.machine, page_of(scene)
    caller.refuses(BAD_STATE, 0, UNSHARE, RAM)
    caller.ok(SHARE, RAM)
    caller.refuses(BAD_STATE, 0, SHARE, RAM)
    machine.ok("share_accept", vm=LIVE, ipa=RAM)
    caller.refuses(BAD_STATE, 0, SHARE, RAM)
    assert caller.shared(RAM) == Shared.ACCEPTED
    machine.backend.write(frame, b"mine")
    caller.ok(UNSHARE, RAM)
    assert caller.shared(RAM) == Shared.PRIVATE
    unreachable(machine, frame)
    machine.refuses("share_accept", "BAD_STATE", vm=LIVE, ipa=RAM)
    caller.ok(SHARE, RAM)
    caller.ok(UNSHARE, RAM)
    assert machine.physical(frame, 4) == b"mine"


@pytest.mark.host
@pytest.mark.parametrize("shared", list(Shared), ids=lambda shared: shared.name)
def test_relinquish(scene: Scene, caller: Caller, shared: Shared) -> None:
    machine, frame = scene.machine, page_of(scene)
    {Shared.PRIVATE: lambda: 0, Shared.OFFERED: scene.offer, Shared.ACCEPTED: scene.accept}[shared]()
    machine.backend.poke(frame, b"a secret")
    caller.ok(RELINQUISH, RAM)
    assert machine.frame_record(frame) == FrameRecord(Kind.HOST)
    assert machine.vm_walk(LIVE, RAM) is None
    assert machine.backend.memory(frame, PAGE) == bytes(PAGE)
    caller.repeats(Next("exit", EXITS["MEM_FAULT"], (RAM, 0, 0)), RELINQUISH, RAM)
    machine.ok("map", vm=LIVE, ipa=RAM, frame=frame, mode=0)
    assert caller.shared(RAM) == Shared.PRIVATE


@pytest.mark.host
def test_the_order_of_unshare(scene: Scene, caller: Caller) -> None:
    """The leaf goes, then the TLBs, then the page is written back; only then is it the VM's alone."""
    scene.accept()
    caller.backend.events()
    caller.ok(UNSHARE, RAM)
    assert [event.name for event in caller.backend.events()] == [
        "Lock", "SetTableEntry", "InvalidateHostPageFromVm", "CleanFrame", "SetFrameRecord", "Unlock",
    ]  # fmt: skip


@pytest.mark.host
def test_the_order_of_relinquish(scene: Scene, caller: Caller) -> None:
    """Out of both tables and all TLBs, zeroed, and the host's last."""
    scene.accept()
    caller.backend.events()
    caller.ok(RELINQUISH, RAM)
    assert [event.name for event in caller.backend.events()] == [
        "Lock", "SetTableEntry", "InvalidateVmPage", "SetTableEntry", "InvalidateHostPageFromVm", "ZeroFrame",
        "InvalidateInstructions", "SetFrameRecord", "SetTableEntry", "Publish", "Unlock",
    ]  # fmt: skip


ARGUMENTS = [
    *((1, (address,)) for address in (RAM + 1, RAM + 2048, RAM - PAGE, RAM + 8 * MIB, 0)),
    *((1, (address,)) for address in (1 << 39, 1 << 63, MASK & -PAGE)),
    (1, (0, 5, 5)), (2, (RAM, 1)), (2, (RAM, 1 << 63, 1)), (3, (RAM, 0, 1)), (3, (RAM, 0, MASK)),
]  # fmt: skip


@pytest.mark.host
@pytest.mark.parametrize("function", [SHARE, UNSHARE, RELINQUISH], ids=["share", "unshare", "relinquish"])
def test_arguments_out_of_their_domain(scene: Scene, caller: Caller, function: int) -> None:
    scene.accept()
    for detail, arguments in ARGUMENTS:
        caller.refuses(INVALID, detail, function, *arguments)
        with scene.machine.locked():
            caller.refuses(INVALID, detail, function, *arguments)


@pytest.mark.host
@pytest.mark.parametrize("function", [SHARE, UNSHARE, RELINQUISH], ids=["share", "unshare", "relinquish"])
def test_what_the_host_has_to_do_first(scene: Scene, caller: Caller, function: int) -> None:
    machine, vm = scene.machine, scene.live
    for ipa in (IPA, RAM + 4 * MIB, RAM + (1 << 30)):
        caller.repeats(Next("exit", EXITS["MEM_FAULT"], (ipa, 0, 0)), function, ipa)
    block = vm.block(BLOCK_IPA)
    for ipa in (BLOCK_IPA, BLOCK_IPA + BLOCK - PAGE):
        caller.repeats(Next("exit", EXITS["NEEDS_SPLIT"], (ipa, 0, 0)), function, ipa)
    machine.ok("vm_split", block=block, table=machine.take(), host_table=machine.take())
    caller.ok(SHARE, BLOCK_IPA + PAGE)
    machine.ok("share_accept", vm=LIVE, ipa=BLOCK_IPA + PAGE)
    assert machine.backend.memory(block + PAGE, PAGE) == bytes(PAGE)
    unreachable(machine, block + 2 * PAGE)
    caller.ok(RELINQUISH, BLOCK_IPA + PAGE)


@pytest.mark.host
@pytest.mark.parametrize("function", [SHARE, UNSHARE, RELINQUISH], ids=["share", "unshare", "relinquish"])
def test_while_the_lock_is_taken_the_call_is_repeated(scene: Scene, caller: Caller, function: int) -> None:
    with scene.machine.locked():
        caller.repeats(RESUME, function, RAM)
    if function != UNSHARE:
        caller.ok(function, RAM)


@pytest.mark.host
def test_a_killed_vm_that_still_runs_can_do_no_harm(scene: Scene, caller: Caller) -> None:
    """Between the kill and the vCPU's next exit its calls may still come."""
    frame = page_of(scene)
    scene.accept()
    scene.live.kill()
    caller.ok(UNSHARE, RAM)
    unreachable(scene.machine, frame)
    scene.machine.ok("reclaim", frame=frame)
    caller.repeats(Next("exit", EXITS["MEM_FAULT"], (RAM, 0, 0)), SHARE, RAM)


@pytest.mark.host
@pytest.mark.parametrize("where", ["page", "block"])
def test_a_fault_that_is_none_any_more_is_retried(scene: Scene, caller: Caller, where: str) -> None:
    """Another CPU has mapped it, or is cutting the block: no exit."""
    ipa = IPA if where == "page" else BLOCK_IPA + 3 * PAGE

    def fault() -> Next:
        syndrome = 0x24 << 26 | 1 << 25 | 0x07
        return caller.backend.exception(0, caller.vcpu, syndrome, far=ipa, hpfar=ipa >> 12 << 4)

    assert fault() == Next("exit", EXITS["MEM_FAULT"], (ipa, 0, 0))
    with scene.machine.locked():
        assert fault() == RESUME
    if where == "page":
        scene.live.page(ipa)
    else:
        scene.live.block(BLOCK_IPA)
    assert fault() == RESUME
