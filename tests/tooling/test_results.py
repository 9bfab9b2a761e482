"""Results and claims: written and read, about one engine each."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.report import baselines, cli, results


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results go to a directory of the test, and the engine's hash is 'a'."""
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    monkeypatch.setattr(results, "_shipped_hash", lambda anew: "a")
    monkeypatch.setattr(results, "_native_hash", lambda: "b")
    monkeypatch.setattr(baselines, "DIRECTORY", tmp_path)
    return tmp_path


def test_what_is_written_is_read(place: Path) -> None:
    results.write("conform", "qemu", {"calls": 7}, command="inv conform", seconds=1.5)
    results.write("conform", "host", {"calls": 8}, command="inv conform")
    host, qemu = results.read_all()
    assert (host.variant, host.native, host.engine, host.seconds, host.data) == ("host", True, "b", None, {"calls": 8})
    assert (qemu.native, qemu.engine, qemu.seconds, qemu.command) == (False, "a", 1.5, "inv conform")
    assert sorted(path.name for path in (place / "results").iterdir()) == ["conform-host.json", "conform-qemu.json"]


def test_a_result_of_another_engine_is_not_current(monkeypatch: pytest.MonkeyPatch) -> None:
    results.write("fuzz", "default", {}, command="inv fuzz")
    assert results.read_all()[0].current
    monkeypatch.setattr(results, "_shipped_hash", lambda anew: "other")
    assert not results.read_all()[0].current


@pytest.mark.parametrize(("kind", "data"), [("../up", {}), ("", {}), ("fuzz", {"engine": "mine"})])
def test_what_cannot_be_a_result_is_refused(kind: str, data: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        results.write(kind, "default", data, command="inv fuzz")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "fuzz"}'])
def test_a_file_that_is_no_result_is_named(place: Path, text: str) -> None:
    (place / "fuzz-default.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"fuzz-default\.json"):
        results.read(place / "fuzz-default.json")


@pytest.mark.parametrize("name", ["file", "file/below", "dangling"])
def test_a_place_that_can_be_no_directory(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (place / "file").write_text("")
    (place / "dangling").symlink_to(place / "nowhere" / "at all")
    monkeypatch.setenv(results.PLACE, str(place / name))
    with pytest.raises(InvalidInput, match="let BULKHEAD_RESULTS name a directory") as caught:
        results.write("fuzz", "default", {}, command="inv fuzz")
    assert caught.value.where == str(place / name)
    begun = False
    with pytest.raises(InvalidInput), results.failing("fuzz", "default", command="inv fuzz"):
        begun = True  # which may take an hour, to find that its result cannot be kept
    assert not begun


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_page_that_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv(results.PLACE, str(place / name))
    with pytest.raises(InvalidInput, match="let BULKHEAD_RESULTS name a directory"):
        cli.main()


def test_a_claim_holds_for_its_engine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert baselines.kept("histories") is None
    with pytest.raises(CheckFailed, match="not kept"):
        baselines.claimed("histories")
    baselines.keep("histories", {"histories": 5000})
    assert baselines.kept("histories") == baselines.claimed("histories") == {"histories": 5000}
    monkeypatch.setattr(results, "_shipped_hash", lambda anew: "other")
    with pytest.raises(CheckFailed, match="another engine"):
        baselines.kept("histories")
