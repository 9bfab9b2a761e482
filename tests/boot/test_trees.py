"""Device trees without this or that, with other maps, damaged, or made of noise.

The engine says why it cannot use the machine, or divides it as the tree says, which `boot.division` reads for itself.
It never hangs or panics, and never divides it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fdt
import pytest

from boot import machines
from boot.division import Division, spans
from boot.machines import Spoil
from boot.trees import RAM, STOP, Rebooting, cut, damage, lies, maps, noise, rebooting, rewrite
from bulkhead.image import build
from bulkhead.image.memory_map import GIB
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

TREE = RAM_BASE + RAM // 2
"""Where QEMU puts the tree."""
DRAWN, MANY = 40, 100
KINDS = {"damage": damage, "lies": lies, "maps": maps, "noise": noise}


def as_it_is(tree: bytearray) -> None:
    """As QEMU made it."""


MISSING = {
    "/memory@40000000": "RAM is missing",
    "/cpus": "CPUs are missing",
    "/psci": "PSCI firmware is missing",
    "/intc@8000000": "the GIC is missing",
    "/timer": "the timer is missing",
    "/pl011@9000000": "UART0 is missing",
    "/pl011@9040000": "UART1, the management channel, is missing",
}
"""Nodes without which a machine cannot be used; it can without any other."""
NEEDED = {
    f"{path}#{name}"
    for path, names in {
        "/": ("#size-cells",),
        "/memory@40000000": ("device_type", "reg"),
        "/cpus": ("#address-cells", "#size-cells"),
        "/cpus/cpu@0": ("device_type", "reg"),
        "/psci": ("compatible", "method"),
        "/intc@8000000": ("compatible", "reg", "interrupts", "#interrupt-cells", "#size-cells"),
        "/intc@8000000/its@8080000": ("reg",),
        "/timer": ("compatible", "interrupts"),
        "/pl011@9000000": ("compatible", "reg"),
        "/pl011@9040000": ("compatible", "reg"),
        "/smmuv3@9050000": ("reg",),
        "/pcie@10000000": ("reg", "ranges"),
    }.items()
    for name in names
}
"""Properties of those nodes, and of a few others, without which it cannot: the others' are defaults, or not read."""
ASKED = {path.partition("#")[0] for path in NEEDED} | {"/chosen"}


@pytest.fixture(scope="module")
def machine() -> Iterator[Rebooting]:
    """One machine that boots with every tree."""
    config = QemuConfig(kernel=machines.image(), memory=RAM, halted=True, ignore=(STOP,))
    with rebooting(config) as machine:
        yield machine


def faults(machine: Rebooting, tree: bytes) -> list[str]:
    """Where the machine, which has come up, is not divided as a tree says."""
    symbols = Symbols(build.build("pinned", "payload").elf)
    with stopped_view(machine.machine, symbols) as view:
        return Division.of(tree, TREE).faults(view)


def outcome(machine: Rebooting, change: Spoil) -> str:
    """Why the engine refuses the changed tree; empty: it has come up, and the machine is divided as the tree says."""
    said = machine.boot(change)
    if not said:
        assert faults(machine, machine.tree) == []
    return said


def test_another_division_would_be_noticed(machine: Rebooting) -> None:
    assert outcome(machine, as_it_is) == ""
    place = RAM_BASE + 64 * MIB

    def other(name: str, *words: int) -> bytes:
        tree = bytearray(machine.tree)

        def edit(parsed: fdt.FDT) -> None:
            for cells in ("#address-cells", "#size-cells"):
                parsed.set_property(cells, 2, "/reserved-memory")
            parsed.set_property("reg", list(words), name)

        rewrite(edit)(tree)
        return bytes(tree)

    assert faults(machine, other("/reserved-memory/firmware", 0, place, 0, 4096)) == [
        f"{place:#x} is the host's"
    ]
    assert faults(machine, other("/memory@40000000", 0, RAM_BASE, 0, RAM - 64 * MIB)) != []
    kept = faults(machine, other("/reserved-memory/firmware", 0, RAM_BASE + RAM - 4096, 0, 4096))
    assert len(kept) == 1 and kept[0].startswith("the engine's records are at")
    assert faults(machine, other("/memory@40000000", 0, RAM_BASE, 0, 2 * RAM)) != []
    assert faults(machine, other("/cpus/cpu@2", 2)) == []
    tree = bytearray(machine.tree)
    rewrite(lambda parsed: parsed.remove_node("cpu@1", "/cpus"))(tree)
    assert "2 CPUs instead of 1" in faults(machine, bytes(tree))


def test_each_node_missing(machine: Rebooting) -> None:
    machine.boot(as_it_is)
    paths = {path: span for path, span in spans(machine.tree) if "#" not in path and path != "/"}
    assert set(MISSING) <= set(paths)
    some = {path.partition("@")[0]: path for path in paths if "virtio_mmio" in path}
    paths = {path: span for path, span in paths.items() if "virtio_mmio" not in path or path in some.values()}
    said = {path: outcome(machine, cut(span)) for path, span in paths.items()}
    unexpected = {path: text for path, text in said.items() if not text.startswith(MISSING.get(path, ""))}
    assert unexpected == {}
    # The engine does not miss the last CPU; without the first one a redistributor is nobody's.
    assert {path for path, text in said.items() if text} == {*MISSING, "/cpus/cpu@0"}


def test_each_property_missing(machine: Rebooting) -> None:
    machine.boot(as_it_is)
    found = {
        path: span for path, span in spans(machine.tree) if "#" in path and path.partition("#")[0] in ASKED
    }
    said = {path: outcome(machine, cut(span)) for path, span in found.items()}
    assert {path for path, text in said.items() if text} == NEEDED


def pieces(*regions: tuple[int, int]) -> Spoil:
    """RAM in several nodes, as for NUMA."""

    def edit(tree: fdt.FDT) -> None:
        tree.remove_node("memory@40000000", "/")
        for node, (base, size) in enumerate(regions):
            tree.set_property("device_type", "memory", f"/memory@{base:x}")
            tree.set_property(
                "reg", [base >> 32, base & 0xFFFF_FFFF, size >> 32, size & 0xFFFF_FFFF], f"/memory@{base:x}"
            )
            tree.set_property("numa-node-id", node, f"/memory@{base:x}")

    return rewrite(edit)


MAPS = {
    "two nodes": pieces((RAM_BASE, RAM // 2), (RAM_BASE + RAM // 2, RAM // 2)),
    "two nodes that meet in a block": pieces((RAM_BASE, 65 * MIB), (RAM_BASE + 65 * MIB, RAM - 65 * MIB)),
    "a hole": pieces((RAM_BASE, 64 * MIB), (RAM_BASE + 96 * MIB, RAM - 96 * MIB)),
    "a hole at odd addresses": pieces(
        (RAM_BASE, 64 * MIB + 1), (RAM_BASE + 96 * MIB - 1, RAM - 96 * MIB + 1)
    ),
    "a start and an end at odd addresses": pieces((RAM_BASE + 1, RAM - 3)),
    "a page by itself": pieces((RAM_BASE, RAM - 8 * MIB), (RAM_BASE + RAM - 4 * MIB, 4096)),
    "eight pieces": pieces(*((RAM_BASE + index * 32 * MIB, 31 * MIB) for index in range(8))),
}


@pytest.mark.parametrize("change", MAPS.values(), ids=MAPS.keys())
def test_ram_in_pieces(machine: Rebooting, change: Spoil) -> None:
    assert outcome(machine, change) == ""


def test_64_gib_of_ram() -> None:
    """Nobody has reserved them: the engine touches its own part only."""
    config = QemuConfig(kernel=machines.image(), cpus=8, memory=64 * GIB, halted=True, ignore=(STOP,))
    with rebooting(config) as machine:
        assert outcome(machine, as_it_is) == ""


@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS.keys())
def test_trees_at_random(machine: Rebooting, change: Callable[[int], Spoil]) -> None:
    said = [outcome(machine, change(seed)) for seed in range(DRAWN)]
    assert len({text.partition(" (")[0] for text in said}) > 1
    assert "" in said or change is noise


@pytest.mark.slow
@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS.keys())
def test_many_trees_at_random(machine: Rebooting, change: Callable[[int], Spoil]) -> None:
    for seed in range(DRAWN, DRAWN + MANY):
        outcome(machine, change(seed))
