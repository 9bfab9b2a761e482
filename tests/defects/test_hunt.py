"""Who looks for defects neither finds what is not there nor loses what is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.defects import Defect, Edit, Finder, cli, conformance, suite
from bulkhead.defects.hunt import Finding, Verdict, hunt, search
from bulkhead.errors import BuildError, CheckFailed
from bulkhead.image import build
from bulkhead.report import results

KILL = "engine/core/src/call/vm_kill.rs"
LINE = "    hw.set_vm_word(vm, Field::STATE, State::DYING.0);\n"
RANDOM = conformance()


def seeded(new: str, old: str = LINE, found_by: Finder = RANDOM) -> Defect:
    """A defect of vm_kill."""
    return Defect("family", "name", "title", "P4", (Edit(KILL, old, new),), found_by)


def test_an_edit_that_does_not_fit_is_told() -> None:
    finding = hunt(seeded("", "there is no such text"))
    assert finding.verdict is Verdict.BROKEN
    assert "is there 0 times" in finding.step


@pytest.mark.slow
def test_an_engine_that_does_not_compile_is_told() -> None:
    finding = hunt(seeded("    this is no Rust\n"))
    assert finding.verdict is Verdict.BROKEN
    assert "does not build" in finding.step


@pytest.mark.slow
def test_a_test_that_fails_is_named_with_what_it_said() -> None:
    finding = hunt(seeded("", found_by=suite("tests/native/test_effects.py::test_vm_kill", backend="host")))
    assert finding.verdict is Verdict.FOUND, finding.step
    assert finding.by.startswith("tests/native/test_effects.py::test_vm_kill")


@pytest.mark.slow
def test_tests_that_pass_find_nothing() -> None:
    answer = search((), suite("tests/native/test_effects.py::test_vm_kill", backend="host"))
    assert answer.verdict is Verdict.SURVIVED, answer.step


@pytest.mark.slow
def test_tests_that_do_not_exist_find_nothing() -> None:
    answer = search((), suite("tests/native/test_effects.py::test_no_such_thing", backend="host"))
    assert answer.verdict is Verdict.BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("verdict", [Verdict.SURVIVED, Verdict.BROKEN])
def test_a_defect_that_is_not_found_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verdict: Verdict
) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path))
    monkeypatch.setattr(cli, "hunt", lambda one: Finding(one, verdict, "nobody", "nothing", 0))
    with pytest.raises(CheckFailed, match="1 of 1 defects are not found: entry_before_record"):
        cli.main("entry_before_record")
    kept = results.read(tmp_path / "defects-all.reduced.json").data["defects"]
    assert [(one["name"], one["found"]) for one in kept] == [("entry_before_record", False)]


def test_images_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(build.OTHER, str(tmp_path))
    with pytest.raises(BuildError, match=r"there is no bulkhead\.elf, bulkhead\.img, payload\.elf, payload\.img"):
        build.build("pinned", "payload")
