"""The self-test at boot, a build option: it passes, leaves nothing behind, and stops at what is wrong, by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.testing.builder import dismantle
from bulkhead.image.build import Images, build
from bulkhead.image.variant import Edit, build_variant
from bulkhead.machine.qemu import MIB, QemuConfig, QemuMachine
from instructions import patches

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
FEATURES = ("self-test",)
MOV_X0_0, RET = 0xD2800000, 0xD65F03C0


@pytest.fixture(scope="module")
def images() -> Images:
    return build("pinned", "payload", FEATURES)


def is_store_of_zero(word: int) -> bool:
    """STR or STP of XZR (Arm ARM DDI 0487, C6.2)."""
    return word & 31 == 31 and (word >> 24 in (0xF8, 0xF9) or word >> 22 in (0x2A4, 0x2A2, 0x2A6))


def boot_text(images: Images) -> str:
    """UART0 from reset until boot is over, one way or the other."""
    with QemuMachine(QemuConfig(kernel=images.image, memory=256 * MIB, ignore=("BULKHEAD STOP",))) as machine:
        done = re.compile(r"self-test: \d+ ownership transitions|BULKHEAD STOP.*\n")
        machine.wait_until(lambda: done.search(machine.console.text) is not None, 30, "the self-test's end")
        return machine.console.text


def test_the_host_finds_what_it_finds_without_it(images: Images) -> None:
    """Records, tables and split blocks are those of a boot of the shipped image, and calls work."""
    found = []
    for one in (images, build("pinned", "payload")):
        backend = QemuBackend(one)
        try:
            machine = Machine(backend)
            found.append(Snapshot.take(machine))
            Vm(machine, 5).page()
            dismantle(machine)
            said = re.search(
                r"self-test: (\d+) ownership transitions in \d+ ticks", backend.machine.console.text
            )
            assert (said is not None and int(said[1]) > 500) == (one is images)
        finally:
            backend.close()
    assert not found[0].changes(found[1])


def test_without_an_smmu_it_passes_too(images: Images) -> None:
    """There are no DMA windows then."""
    with QemuMachine(QemuConfig(kernel=images.image, memory=256 * MIB, smmu=False)) as machine:
        machine.wait_until(lambda: "ownership transitions" in machine.console.text, 30, "the self-test's end")


def test_a_frame_that_is_not_zeroed_stops_the_boot(images: Images, tmp_path: Path) -> None:
    """The stores of `bulkhead_zero_frame` are NOPs: the first step that hands out a frame with old content is named."""
    stores = patches.places(images, is_store_of_zero, "bulkhead_zero_frame")
    changed = images
    for number, address in enumerate(stores):
        directory = tmp_path / str(number)
        directory.mkdir()
        changed = patches.patched(changed, address, patches.NOP, directory)
    text = boot_text(changed)
    assert "BULKHEAD STOP self-test: table_donate of level 2" in text, text
    assert "specified is 0x0" in text


def test_a_call_without_effect_stops_the_boot(images: Images, tmp_path: Path) -> None:
    """`vm_kill` answers SUCCESS and does nothing."""
    (first, _), (second, _), *_ = patches.function(images, "call", "vm_kill", "vm_kill")
    (tmp_path / "second").mkdir()
    changed = patches.patched(images, first, MOV_X0_0, tmp_path)
    text = boot_text(patches.patched(changed, second, RET, tmp_path / "second"))
    assert "BULKHEAD STOP self-test: vm_destroy of a VM with pages" in text, text


def test_a_protection_left_out_of_the_sources_stops_the_boot() -> None:
    """The host keeps what a VM no longer shares: `unshare` does not take it out of the host's tables."""
    edit = Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    if record.sharing() == Sharing::ACCEPTED {\n        withdraw_from_host(p, frame);\n        // As",
        "    if record.sharing() == Sharing::ACCEPTED {\n        // As",
    )
    text = boot_text(build_variant([edit], "payload", FEATURES))
    assert "BULKHEAD STOP self-test: unshare: the page" in text, text


def test_the_shipped_image_has_none_of_it() -> None:
    """Not even its text."""
    assert b"self-test: " not in build("pinned", "payload").image.read_bytes()
