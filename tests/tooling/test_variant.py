"""Edits of the engine's sources: exact, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.errors import InvalidInput
from bulkhead.image import variant
from bulkhead.image.build import build
from bulkhead.image.variant import Edit
from bulkhead.provision.paths import REPOSITORY

FILE = "engine/core/src/call/vm_kill.rs"
LINE = "hw.set_vm_word(vm, Field::STATE, State::DYING.0);"


def test_a_text_that_is_there_once_is_replaced() -> None:
    assert Edit("f", "b", "x").apply("abc") == "axc"


@pytest.mark.parametrize(("text", "times"), [("acc", 0), ("bab", 2)])
def test_a_text_that_is_not_there_once_is_refused(text: str, times: int) -> None:
    with pytest.raises(InvalidInput, match=f"is there {times} times"):
        Edit("f", "b", "x").apply(text)


@pytest.mark.parametrize("file", ["engine/core/src/none.rs", "README.md", "hypervisor-shim/el1/src/lib.rs"])
def test_a_file_that_is_no_source_of_the_engine_is_refused(file: str) -> None:
    with pytest.raises(InvalidInput, match="no such source file"):
        variant.check([Edit(file, "a", "b")])


def test_edits_of_one_file_follow_each_other() -> None:
    variant.check([Edit(FILE, LINE, "first"), Edit(FILE, "first", "second")])
    with pytest.raises(InvalidInput, match="is there 0 times"):
        variant.check([Edit(FILE, LINE, "first"), Edit(FILE, LINE, "second")])


def test_the_host_program_is_copied_anew(tmp_path: Path) -> None:
    """Behind a variant with another table of calls there can be a second one."""
    stale = variant.copy_program(tmp_path) / "stale.rs"
    stale.write_text("")
    shim = variant.copy_program(tmp_path)
    assert not stale.exists()
    assert (shim / "payload" / "Cargo.toml").is_file()
    assert (shim / "abi" / "abi.toml").resolve() == tmp_path / "tree" / "engine" / "abi" / "abi.toml"


@pytest.mark.qemu
@pytest.mark.slow
def test_a_variant_is_another_image_and_leaves_the_sources_alone() -> None:
    before = (REPOSITORY / FILE).read_text()
    images = variant.build_variant([Edit(FILE, LINE, "")])
    assert images.sha256 != build("pinned", "payload").sha256
    assert (REPOSITORY / FILE).read_text() == before
    assert variant.build_variant([Edit(FILE, LINE, "")]) == images
