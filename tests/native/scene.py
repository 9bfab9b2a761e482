"""A machine in the middle of its work: VMs in every state, and for each call one that would succeed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.testing.machine import ABI
from bulkhead.inspect.records import Kind, Shared, VmState
from native.guest import FOREVER, code, hvc

MIB = 1 << 20
RAM = 0x4000_0000
GIB = 1 << 30
RANGES = ((RAM, 8 * MIB), (RAM + GIB, PAGE), (RAM + 2 * GIB, 4 * MIB))
"""RAM of each VM: three ranges, the second a single page; the others in GiBs that have no table."""
FREE_SLOT, NEW, LIVE, DEAD = 63, 0, 1, 2
"""Slots: no VM, BUILDING, ACTIVE, DYING."""
BLOCK_IPA = RAM + 6 * MIB
"""RAM of every VM that a whole block can be mapped at."""
IPA = RAM + 5 * PAGE
"""A page of every VM's RAM that has tables and is not mapped."""
UNCOVERED = RAM + 4 * MIB
"""RAM whose level 3 table is missing in the VM under construction."""

Arguments = dict[str, int]
SHARE = next(line.value for line in ABI.exits if line.name == "SHARE")
PROGRAM = code(*hvc(ABI.call("share").id, RAM), FOREVER)
"""What a VM here does when it runs: it shares its first page, which is this one."""


def zeroed(what: str, content: bytes) -> None:
    """AssertionError naming the first byte of `what` that is not zero."""
    __tracebackhide__ = True
    first = len(content) - len(content.lstrip(b"\0"))
    assert first == len(content), f"{what} is not zero: {content[first : first + 32]!r} at {first:#x}"


@dataclass
class Scene:
    """`new` is BUILDING with one of two vCPUs, `live` is ACTIVE, `dead` is DYING; each has a page at RAM."""

    machine: Machine
    new: Vm
    live: Vm
    dead: Vm

    @classmethod
    def set(cls, machine: Machine) -> Scene:
        """Builds all of it."""
        new = Vm(machine, NEW, ram=RANGES, vcpus=2)
        live, dead = Vm(machine, LIVE, ram=RANGES), Vm(machine, DEAD, ram=RANGES)
        for vm in (new, live, dead):
            vm.page(RAM, content=PROGRAM)
            vm.vcpu(0)
        live.activate()
        dead.table(3, RAM + 2 * MIB)
        dead.kill()
        return cls(machine, new, live, dead)

    @cached_property
    def frame(self) -> int:
        """A host frame that any call may take."""
        return self.machine.take()

    @cached_property
    def other(self) -> int:
        """Another one."""
        return self.machine.take()

    @cached_property
    def whole(self) -> int:
        """A block that is wholly the host's."""
        return self.machine.take_block()

    @cached_property
    def vm_block(self) -> int:
        """A whole block of the VM under construction."""
        return self.new.block(BLOCK_IPA)

    @cached_property
    def block_of_live(self) -> int:
        """A whole block of the live VM."""
        return self.live.block(BLOCK_IPA)

    def offer(self) -> int:
        """The live VM shares its page at RAM, by its own call. Where."""
        if self.machine.known.frame(self.live.pages[RAM]).shared == Shared.PRIVATE:
            backend = self.machine.backend
            if isinstance(backend, HostBackend):
                arguments = [ABI.call("share").id, RAM, *[0] * 16]
                backend.vm_call(0, LIVE, arguments)
            else:
                vcpu = self.live.contexts[0]
                runs = (self.machine.ok("vcpu_run", vcpu=vcpu).results["class"] for _ in range(100))
                assert SHARE in runs, "the VM does not share its page"
                self.machine.ok("vcpu_put")
        return RAM

    def accept(self) -> int:
        """The live VM shares its page at RAM, and the host has mapped it. Where."""
        if self.machine.known.frame(self.live.pages[RAM]).shared != Shared.ACCEPTED:
            self.machine.ok("share_accept", vm=LIVE, ipa=self.offer())
        return RAM

    def window(self) -> int:
        """A block that is a DMA window."""
        if self.machine.known.block(self._open).kind != Kind.DMA:
            self.machine.ok("dma_allow", block=self._open)
        return self._open

    @cached_property
    def _open(self) -> int:
        return self.machine.take_block()

    def good(self, call: str) -> Arguments:
        """Arguments with which a call succeeds here."""
        slot = {"vm": NEW}
        made: dict[str, Callable[[], Arguments]] = {
            "host_split": lambda: {"block": self.whole, "table": self.frame},
            "vm_create": lambda: {
                "vm": FREE_SLOT, "root": self.frame, "vcpus": 1, "ram0_base": RAM, "ram0_size": MIB,
            },
            "vm_kill": lambda: slot,
            "vm_destroy": lambda: {"vm": self._emptied()},
            "table_donate": lambda: slot | {"ipa": UNCOVERED, "level": 3, "table": self.frame},
            "table_reclaim": lambda: {"table": self.dead.tables[3, RAM + 2 * MIB]},
            "map": lambda: slot | {"ipa": IPA, "frame": self.frame, "mode": 0},
            "reclaim": lambda: {"frame": self.dead.pages[RAM]},
            "vcpu_create": lambda: slot | {"index": 1, "frame": self.frame},
            "vcpu_set_entry": lambda: {"vcpu": self.new.contexts[0], "entry": RAM, "context": 7},
            "activate": lambda: {"vm": self._completed()},
            "map_block": lambda: slot | {"ipa": BLOCK_IPA, "block": self.whole},
            "vm_split": lambda: {"block": self.vm_block, "table": self.frame, "host_table": self.other},
            "reclaim_block": lambda: {"block": self._dying_block()},
            "share_accept": lambda: {"vm": LIVE, "ipa": self.offer()},
            "share_release": lambda: {"vm": LIVE, "ipa": self.accept()},
            "dma_allow": lambda: {"block": self.whole},
            "dma_revoke": lambda: {"block": self.window()},
            "vcpu_run": lambda: {"vcpu": self.live.contexts[0]},
        }  # fmt: skip
        return made[call]()

    def _dying_block(self) -> int:
        """A block of the VM under construction, which is dying now."""
        block = self.vm_block
        if self.machine.known.vm(NEW) == VmState.BUILDING:
            self.new.kill()
        return block

    def _emptied(self) -> int:
        """The dying VM with nothing left but its root."""
        for frame in (*self.dead.pages.values(), *self.dead.contexts.values()):
            if self.machine.known.frame(frame).kind != Kind.HOST:
                self.machine.ok("reclaim", frame=frame)
        for _, table in sorted(self.dead.tables.items(), reverse=True):
            if self.machine.known.frame(table).kind != Kind.HOST:
                self.machine.ok("table_reclaim", table=table)
        return DEAD

    def _completed(self) -> int:
        """The VM under construction with everything that `activate` asks for."""
        if 1 not in self.new.contexts:
            self.new.vcpu(1)
        if self.machine.known.frame(self.new.contexts[0]).parent == 0:
            self.new.entry()
        return NEW

    # Frames that are not what a call wants, by what they are

    def frames(self) -> dict[str, tuple[int, str]]:
        """What it is → an address, and the status of a call that wants a frame of a split block there."""
        layout = self.machine.layout
        engine = self.machine.blocks(Kind.ENGINE)[-1]
        return {
            "one byte off": (self.frame + 1, "INVALID_ARGUMENT"),
            "half a page off": (self.frame + PAGE // 2, "INVALID_ARGUMENT"),
            "below RAM": (layout.ram_base - PAGE, "INVALID_ARGUMENT"),
            "address zero": (0, "INVALID_ARGUMENT"),
            "behind the last frame": (layout.end, "INVALID_ARGUMENT"),
            "last page of 64 bits": ((1 << 64) - PAGE, "INVALID_ARGUMENT"),
            "bit 63 set": (self.frame | 1 << 63, "INVALID_ARGUMENT"),
            "bit 48 set": (self.frame | 1 << 48, "INVALID_ARGUMENT"),
            "first frame of a whole block": (self.whole, "NEEDS_SPLIT"),
            "last frame of a whole block": (self.whole + BLOCK - PAGE, "NEEDS_SPLIT"),
            "first frame of an engine block": (engine, "NOT_OWNED"),
            "last frame of an engine block": (engine + BLOCK - PAGE, "NOT_OWNED"),
            "host table": (self.machine.host_table(self.frame), "NOT_OWNED"),
        }

    def owned(self) -> dict[str, int]:
        """Frames of split blocks by what they are."""
        return {
            "host frame": self.frame,
            "page": self.new.pages[RAM],
            "page of another VM": self.live.pages[RAM],
            "page of a dying VM": self.dead.pages[RAM],
            "root table": self.new.root,
            "level 2 table": self.new.tables[2, RAM],
            "level 3 table": self.new.tables[3, RAM],
            "vCPU": self.new.contexts[0],
            "vCPU of another VM": self.live.contexts[0],
            "in a block of a VM": self.block_of_live + 5 * PAGE,
            "in a DMA window": self.window() + 5 * PAGE,
            "shared page": self.live.pages[self.accept()],
        }


ADDRESSES = (
    "one byte off", "half a page off", "below RAM", "address zero", "behind the last frame", "last page of 64 bits",
    "bit 63 set", "bit 48 set", "first frame of a whole block", "last frame of a whole block",
    "first frame of an engine block", "last frame of an engine block", "host table",
)  # fmt: skip
"""Keys of `Scene.frames`."""
OWNED = (
    "host frame", "page", "page of another VM", "page of a dying VM", "root table", "level 2 table", "level 3 table",
    "vCPU", "vCPU of another VM", "in a block of a VM", "in a DMA window", "shared page",
)  # fmt: skip
"""Keys of `Scene.owned`."""
