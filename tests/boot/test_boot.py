"""The engine boots on machines of several sizes and leaves exactly the state that it promises."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from boot import machines
from boot.machines import Booted
from bulkhead import abi
from bulkhead.image import memory_map
from bulkhead.image.memory_map import BLOCK, GIB, PAGE, VIRT, Use
from bulkhead.inspect import checks
from bulkhead.inspect.engine import BLOCKS, EngineView, stopped_view
from bulkhead.inspect.pagetable import Mapping, leaves
from bulkhead.inspect.records import Kind
from bulkhead.machine.boot_info import MAGIC
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

# Stage 2 leaf attributes, Arm ARM DDI 0487 D8.5: RAM Normal Write-Back, inner shareable; devices Device-nGnRE, XN.
RAM_ATTRIBUTES = 0xF << 2 | 3 << 6 | 3 << 8 | 1 << 10
DEVICE_ATTRIBUTES = 1 << 2 | 3 << 6 | 1 << 10 | 1 << 54
# Stage 1 of EL2: AP[2] read-only, XN (D8.4).
READ_ONLY, NEVER_EXECUTE = 1 << 7, 1 << 54
STAGES = 7

SHAPES = {
    "1 CPU, 64 MiB": (1, 64, 0),
    "2 CPUs, 1 GiB": (2, 1024, 0),
    "4 CPUs, 3 GiB, loaded at 160 MiB": (4, 3072, 160 * MIB),
    "8 CPUs, 20 GiB": (8, 20480, 0),
}


@pytest.fixture(scope="module", params=list(SHAPES.values()), ids=list(SHAPES))
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """One boot for each shape; the tests only look."""
    cpus, megabytes, offset = request.param
    image = machines.image(offset, tmp_path_factory.mktemp("image")) if offset else machines.image()
    with machines.boot(QemuConfig(kernel=image, cpus=cpus, memory=megabytes * MIB)) as booted:
        yield booted


@pytest.fixture(scope="module")
def view(booted: Booted) -> Iterator[EngineView]:
    """The stopped machine. The fixture is used after those that talk to it."""
    with stopped_view(booted.machine, booted.symbols) as view:
        yield view


def test_boot_information(booted: Booted) -> None:
    info, config = booted.boot_info, booted.machine.config
    assert (info.magic, info.abi_version, info.cpus) == (MAGIC, abi.load().version, config.cpus)
    assert info.mpidr == tuple(range(config.cpus)) + (0,) * (8 - config.cpus)
    assert (info.gicd, info.gicr) == (0x0800_0000, 0x080A_0000)
    assert (info.uart, info.uart_intid) == (0x0904_0000, 40)
    assert info.initrd == (0, 0)
    assert info.counter_frequency > 0
    assert info.host_image[0] % BLOCK == 0
    assert booted.read(info.host_image[0] + 56, 4) == b"ARM\x64"
    assert booted.read(info.device_tree[0], 4) == bytes.fromhex("d00dfeed")
    assert booted.link.call("ping")["boot_info"] == sum(info.host_image)


def test_log_is_what_the_console_showed(booted: Booted) -> None:
    shown = booted.machine.console.text.replace("\r", "")
    log = booted.log()
    assert log == shown
    config = booted.machine.config
    assert f"{config.cpus} CPUs, SMMU closed" in log
    assert f"RAM {RAM_BASE:#x}..{RAM_BASE + config.memory:#x}" in log


def test_stages_come_in_order(booted: Booted) -> None:
    ticks = [booted.ok("stats", 2, stage)[0] for stage in range(STAGES)]
    assert ticks[0] > 0
    assert ticks == sorted(ticks)
    assert len(set(ticks)) == STAGES
    assert booted.call("stats", 2, STAGES)[0] != 0


def test_configuration(booted: Booted, view: EngineView) -> None:
    config = booted.machine.config
    span = -(-config.memory // GIB) * GIB
    assert (view.config.ram_base, view.config.frames, view.config.cpus) == (
        RAM_BASE,
        span // PAGE,
        config.cpus,
    )


def blocks_of(view: EngineView, *kinds: Kind) -> list[int]:
    """Physical addresses of the blocks inside RAM whose records are of these kinds."""
    count = view.config.frames // (BLOCK // PAGE)
    words = memoryview(view.read_virtual(BLOCKS, 8 * count)).cast("Q")
    return [
        view.config.ram_base + BLOCK * index for index, word in enumerate(words) if Kind(word & 15) in kinds
    ]


def engine_blocks(view: EngineView) -> list[int]:
    """Physical addresses of the blocks inside RAM that are the engine's."""
    end = view.ram.base + view.ram.size
    return [address for address in blocks_of(view, Kind.ENGINE) if address < end]


def test_the_engine_takes_its_image_and_the_top_of_ram(booted: Booted, view: EngineView) -> None:
    taken = engine_blocks(view)
    image = view.physical(memory_map.window("IMAGE").base)
    end = view.ram.base + view.ram.size
    reserved = sorted(set(taken) - {image})
    assert image in taken
    assert reserved == list(range(end - len(reserved) * BLOCK, end, BLOCK))
    assert len(reserved) * BLOCK < view.ram.size // 100 + 8 * MIB


def test_blocks_beyond_ram_are_nobodys(view: EngineView) -> None:
    beyond = range(view.ram.base + view.ram.size, view.ram.base + view.config.frames * PAGE, BLOCK)
    assert {view.owner(address).kind for address in beyond} <= {Kind.ENGINE}


def expected_devices(cpus: int) -> set[int]:
    """Pages of the allow-list that the host may reach."""
    pages = set()
    for device in VIRT:
        if device.use in (Use.HOST, Use.BOTH):
            for instance in range(cpus if device.stride else 1):
                base = device.base + instance * device.stride
                pages |= set(range(base, base + device.size, PAGE))
    return pages


def test_the_host_reaches_its_ram_and_the_listed_devices(booted: Booted, view: EngineView) -> None:
    mappings = list(view.host_mappings())
    assert all(one.address == one.output for one in mappings)
    ram = [one for one in mappings if one.output >= RAM_BASE]
    devices = [one for one in mappings if one.output < RAM_BASE]
    assert {one.output for one in devices} == expected_devices(view.config.cpus)
    assert {(one.attributes & ~3, one.size) for one in devices} == {(DEVICE_ATTRIBUTES, PAGE)}
    assert {one.attributes & ~3 for one in ram} == {RAM_ATTRIBUTES}
    # What boot has put there for the host, less the one table that the split block took from itself.
    reached = sum(one.size for one in ram)
    assert reached == len(blocks_of(view, Kind.HOST, Kind.SPLIT)) * BLOCK - PAGE
    untouched = blocks_of(view, Kind.UNCLEARED)
    assert len(untouched) * BLOCK == view.ram.size - len(engine_blocks(view)) * BLOCK - reached - PAGE
    assert checks.isolation_faults(view) == []


def test_what_the_host_was_told_is_what_it_has(booted: Booted, view: EngineView) -> None:
    # The address of the boot information is behind the host program; here without asking the host.
    place = next(
        at for at in view.ram.find(b"BULKHEAD") if at % PAGE == 0 and view.owner(at).kind == Kind.HOST
    )
    info = machines.BootInfo.decode(view.ram.read(place, machines.BOOT_INFO.size))
    told = {at for base, size in info.host_ram for at in range(base, base + size, BLOCK)}
    split, size = info.split_block
    blocks = range(view.ram.base, view.ram.base + view.ram.size, BLOCK)
    assert told == set(blocks) - set(engine_blocks(view))
    assert size == BLOCK
    assert view.block_record(view.frame(split) // 512) == Kind.SPLIT
    table, *others = [view.record(view.frame(split) + slot) for slot in range(512)]
    assert table.kind == Kind.HOST_TABLE
    assert {one.kind for one in others} == {Kind.HOST}
    for base, size in (info.host_image, info.device_tree):
        assert {view.owner(at).kind for at in range(base & -PAGE, base + size, PAGE)} == {Kind.HOST}


def engine_mappings(view: EngineView, name: str) -> list[Mapping]:
    """Leaves of the engine's stage 1 in a window."""
    window = memory_map.window(name)
    every = leaves(view.ram.words, view.el2_root, 0)
    return [one for one in every if window.base <= one.address < window.base + window.size]


def test_nothing_of_the_engine_is_writable_and_executable(view: EngineView) -> None:
    every = list(leaves(view.ram.words, view.el2_root, 0))
    executable = [one for one in every if not one.attributes & NEVER_EXECUTE]
    assert all(one.attributes & READ_ONLY for one in executable)
    image = memory_map.window("IMAGE")
    outside = [one for one in executable if not image.base <= one.address < image.base + image.size]
    # The one page that turned the MMU on, at its physical address.
    assert [(one.address, one.output, one.size) for one in outside] == [
        (view.physical(image.base),) * 2 + (PAGE,)
    ]


def test_every_mapping_of_the_engine_is_in_a_window(view: EngineView) -> None:
    load = view.physical(memory_map.window("IMAGE").base)
    inside = sum(len(engine_mappings(view, one.name)) for one in memory_map.WINDOWS)
    every = [one for one in leaves(view.ram.words, view.el2_root, 0) if one.address != load]
    assert len(every) == inside


def test_the_ram_window_shows_the_hosts_blocks_only(view: EngineView) -> None:
    shown = {one.output for one in engine_mappings(view, "RAM")}
    base = memory_map.window("RAM").base
    assert all(one.address - base == one.output for one in engine_mappings(view, "RAM"))
    blocks = set(range(view.ram.base, view.ram.base + view.ram.size, BLOCK))
    assert shown == blocks - set(engine_blocks(view))


def test_stacks_lie_between_guards(view: EngineView) -> None:
    mapped = {one.address for one in engine_mappings(view, "PERCPU")}
    base, stride = memory_map.window("PERCPU").base, memory_map.PERCPU_STRIDE
    wanted = {
        base + cpu * stride + area.offset + page
        for cpu, area in itertools.product(range(view.config.cpus), memory_map.PERCPU_AREAS)
        for page in range(0, area.size, PAGE)
    }
    assert mapped == wanted


def test_generated_files_are_current() -> None:
    for path, text in memory_map.derivations().items():
        assert path.read_text() == text, f"{path} is stale: run `python -m bulkhead.image.memory_map`"


def test_a_map_that_overlaps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clash = memory_map.Device("CLASH", 0x0904_0000, PAGE, Use.HOST, "overlaps UART1")
    monkeypatch.setattr(memory_map, "VIRT", (*VIRT, clash))
    with pytest.raises(ValueError, match="overlaps"):
        memory_map.check()
