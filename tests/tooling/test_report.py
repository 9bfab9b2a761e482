"""The report: what is missing is missing, what failed is named with its command, and the page needs nothing else."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bulkhead.errors import BuildError, CheckFailed, InvalidInput
from bulkhead.machine.errors import MachineDied
from bulkhead.provision import checks
from bulkhead.report import baselines, certificate, overview, page, results, table
from bulkhead.report.judge import Verdict
from bulkhead.report.overview import WANTED, Line, Wanted

CONFORM = {
    "backend": "qemu", "calls": 100, "successes": 30, "sequences": 2, "unreachable": ["map: SUCCESS"],
    "pairs": {"map: 1. INVALID_ARGUMENT(1)": 3, "map: SUCCESS zeroed": 4, "map: 2. NOT_FOUND": 0},
}  # fmt: skip
DEFECT = {"name": "no_scrub", "promise": "P6", "title": "no zeros", "by": "conform", "step": "", "seconds": 1}
FILE = {"lines": 2, "covered": 1, "branches": 2, "covered_branches": 2, "missing": [[1, "never happens"]]}
GOOD: Mapping[str, Mapping[str, Any]] = {
    "tests": {"passed": 2, "skipped": 0, "failures": [], "durations": {"test_a": 1.5, "test_b": 0.2}},
    "histories": {"histories": 5, "explained": 5, "calls": 20},
    "defects": {"defects": [{**DEFECT, "found": True}]},
    "coverage": {"scope": "core", "on": "host", "files": {"engine/core/src/lib.rs": FILE}},
    "fuzz": {"executions": 1000, "corpus": 10, "features": 20, "differences": 0},
    "sanitize": {"crates": 20, "calls": "300 passed", "threads": {"a storm": 3}},
    "attacks": {"attacks": [{"name": "theft", "refused": True, "reached": "a fault"}]},
    "storms": {"storms": 8, "total": {"calls": 1000}},
    "proofs": {"proved": [{"subject": "map", "claim": "refinement", "seconds": 2.0}], "failed": []},
}
BAD: Mapping[str, Mapping[str, Any]] = {
    "tests": {**GOOD["tests"], "failures": [{"test": "test_c", "phase": "call", "text": "<b>", "replay": "pytest c"}]},
    "histories": {"histories": 5, "explained": 4, "calls": 20},
    "defects": {"defects": [{**DEFECT, "found": False, "command": "inv defects --name no_scrub"}]},
    "coverage": {"scope": "core", "on": "host", "files": {"a.rs": {**FILE, "missing": [[1, ""]]}}},
    "fuzz": {**GOOD["fuzz"], "differences": 1, "failures": ["map differs"]},
    "sanitize": {"crates": 0, "calls": "", "threads": {}},
    "attacks": {"attacks": [{"name": "theft", "refused": False, "reached": "", "command": "inv attack --name theft"}]},
    "storms": {"storms": 0, "total": {"calls": 0}},
    "proofs": {**GOOD["proofs"], "failed": [{"subject": "map", "claim": "P4", "why": "frame 7 has two owners"}]},
}
INNER = """
import pytest
@pytest.fixture
def afterwards():
    yield
    raise ValueError("too late")
def test_good(): pass
def test_bad(): assert 1 == 2
def test_late(afterwards): pass
def test_left_out(): pytest.skip("no")
@pytest.mark.xdist_group("a group")
def test_wrong(bulkhead_machine): bulkhead_machine.refuses("map", "TABLE_MISSING", 2, vm=64, ipa=4096)
"""


NAMED = """
import pathlib, time, pytest
@pytest.mark.parametrize("number", range(4))
def test_named(number):
    deadline = time.monotonic() + 10
    while f"::test_named[{number}]" not in pathlib.Path("output").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results go to a directory of the test, about an engine 'a'; the specification knows two pairs."""
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    monkeypatch.setattr(results, "_shipped_hash", lambda anew: "a")
    monkeypatch.setattr(results, "_native_hash", lambda: "a")
    monkeypatch.setattr(baselines, "DIRECTORY", tmp_path / "baselines")
    monkeypatch.setattr(certificate.read, "__defaults__", (tmp_path / "certificate.json",))
    (tmp_path / "baselines").mkdir()
    known = {"map: 1. INVALID_ARGUMENT(1)": "", "map: 2. NOT_FOUND": "", "map: SUCCESS": "a page has a mode"}
    monkeypatch.setattr("bulkhead.report.pairs.specified", lambda: known)
    return tmp_path


def line(kind: str, data: Mapping[str, Any], variant: str = "qemu") -> Line:
    path = results.write(kind, variant, data, command=f"inv {kind}")
    return overview.line((kind, variant), Wanted(kind, ""), [results.read(path)])


def row(title: str) -> Line:
    """The line of the overview with this title."""
    (found,) = [one for one in overview.overview(overview.gather()[0]) if one.what == title]
    return found


def shown() -> tuple[str, str]:
    """The table and the page."""
    found, broken = overview.gather()
    lines = [*overview.overview(found), *broken]
    console = Console(file=io.StringIO(), width=200)
    table.show(lines, found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), page.render(lines, found, "a")


def test_without_results_everything_is_missing() -> None:
    lines = overview.overview([])
    assert [one.verdict for one in lines] == [Verdict.MISSING] * len(WANTED)
    terminal, html = shown()
    assert terminal.count("no result") == len(WANTED)
    assert html.count("No result:") == 11


@pytest.mark.parametrize("kind", GOOD)
def test_good_and_bad_results(kind: str) -> None:
    assert line(kind, GOOD[kind]).verdict is Verdict.FINE
    assert line(kind, BAD[kind]).verdict is Verdict.WRONG


def test_the_self_check_of_the_attacks_has_a_line_and_a_table_of_its_own() -> None:
    one = {"name": "theft", "removed": "a lock", "reached": "a panic", "seconds": 1, "command": "inv attack"}
    for outcome, verdict in (("succeeded", Verdict.FINE), ("broken", Verdict.WRONG)):
        data = {"noticed": [{**one, "outcome": outcome, "noticed": outcome == "succeeded"}]}
        assert line("attacks", data, "self_check").verdict is verdict
        terminal, html = shown()
        assert row("attacks, self-check").verdict is verdict and "a lock" in html
        assert ("without its protection: broken" in terminal) is (verdict is Verdict.WRONG)


@pytest.mark.parametrize("kind", [*GOOD, "conform"])
def test_a_result_without_what_its_kind_needs_is_wrong_and_harms_no_other(kind: str) -> None:
    assert line(kind, {"note": 1}).verdict is Verdict.WRONG
    assert "lacks what its kind needs" in shown()[1]


def test_a_result_about_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    results.write("fuzz", "host", GOOD["fuzz"], command="inv fuzz")
    monkeypatch.setattr(results, "_native_hash", lambda: "b")
    assert row("fuzzing, host").verdict is Verdict.STALE
    assert "about another engine" in shown()[1]


def histories(count: int, when: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of them; a full one has 5,000."""
    monkeypatch.setattr("time.time", lambda: when)
    data = {"histories": count, "explained": count, "calls": 4 * count}
    results.write("histories", "qemu", data, command=f"inv histories --count {count}", reduced=count < 5000)


def test_a_reduced_run_says_so_and_replaces_no_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    histories(500, 1.0, monkeypatch)
    alone = row("histories")
    assert (alone.verdict, alone.reduced, alone.full) == (Verdict.REDUCED, True, "none for this engine")
    assert "reduced: 500 of 500 histories" in shown()[0]
    histories(5000, 2.0, monkeypatch)
    full = row("histories")
    assert (full.verdict, full.reduced) == (Verdict.FINE, False)
    histories(400, 3.0, monkeypatch)
    both = row("histories")
    assert (both.verdict, both.reduced) == (Verdict.FINE, True)
    assert (both.figure.split()[0], both.full.split()[0]) == ("400", "5,000")
    assert both.command == "inv histories --count 5000"


def test_a_record_of_a_full_run_counts_for_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    baselines.keep("histories", {"histories": 5000, "explained": 5000})
    baselines.keep("marathons", {"marathons": 3})
    (baselines.DIRECTORY / "limits.json").write_text('{"instructions": 75}')
    assert row("histories").verdict is Verdict.FINE
    histories(500, 1.0, monkeypatch)
    assert (row("histories").verdict, row("histories").full) == (
        Verdict.FINE, "kept: 5,000 of 5,000 histories explained",
    )  # fmt: skip
    assert row("marathons").verdict is Verdict.FINE
    monkeypatch.setattr(results, "_shipped_hash", lambda anew: "b")
    histories(500, 2.0, monkeypatch)
    assert (row("histories").verdict, row("marathons").verdict) == (Verdict.REDUCED, Verdict.STALE)
    assert "another engine" in row("histories").full


def test_a_full_run_that_failed_is_not_hidden_by_a_reduced_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailed), results.failing("histories", "qemu", command="inv histories --seed 7"):
        raise CheckFailed("no order explains this", where="a story")
    assert row("histories").verdict is Verdict.WRONG
    histories(500, time.time() + 1, monkeypatch)
    assert row("histories").verdict is Verdict.WRONG
    terminal, html = shown()
    assert "no order explains this" in terminal and "inv histories --seed 7" in terminal
    assert "where: a story" in html


@pytest.mark.parametrize(
    ("error", "said"),
    [(MachineDied(1, "no RAM"), "QEMU ended"), (ZeroDivisionError("of seconds"), "ZeroDivisionError: of seconds")],
    ids=["a machine that died", "a defect of the tooling"],
)
def test_any_end_by_an_error_replaces_an_earlier_result(error: Exception, said: str) -> None:
    results.write("histories", "qemu", GOOD["histories"], command="inv histories")
    assert row("histories").verdict is Verdict.FINE
    with pytest.raises(type(error)), results.failing("histories", "qemu", command="inv histories --seed 7"):
        raise error
    assert row("histories").verdict is Verdict.WRONG
    terminal, _ = shown()
    assert said in terminal and "inv histories --seed 7" in terminal


def test_a_failure_that_cannot_be_kept_is_still_the_one_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(anew: bool) -> str:
        raise BuildError("the engine does not build")

    monkeypatch.setattr(results, "_shipped_hash", broken)
    with pytest.raises(CheckFailed), results.failing("histories", "qemu", command="inv histories"):
        raise CheckFailed("no order explains this")
    assert "the engine does not build" in capsys.readouterr().err


def test_what_was_asked_wrongly_leaves_no_result() -> None:
    with pytest.raises(InvalidInput), results.failing("histories", "qemu", command="inv histories"):
        raise InvalidInput("no such line")
    assert results.read_all() == []


def test_the_certificate_is_a_result(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps({"elf_sha256": "a", **GOOD["proofs"]}))
    assert (row("proofs").verdict, row("proofs").figure) == (Verdict.FINE, "1 theorems proved, 0 failed")
    path.write_text(json.dumps({"elf_sha256": "b", **GOOD["proofs"]}))
    assert row("proofs").verdict is Verdict.STALE
    path.write_text(json.dumps({"elf_sha256": "a", **BAD["proofs"]}))
    assert row("proofs").verdict is Verdict.WRONG
    assert "frame 7 has two owners" in shown()[1]
    path.write_text("{")
    assert "the certificate cannot be read" in shown()[0]


def test_pairs() -> None:
    assert line("conform", CONFORM).verdict is Verdict.PARTLY
    assert "2 of 3 pairs, the rarest seen 3 times; 100 calls, 30% succeed" in line("conform", CONFORM).figure
    seen = {**CONFORM["pairs"], "map: 2. NOT_FOUND": 1}  # type: ignore[dict-item]
    assert line("conform", {**CONFORM, "pairs": seen}).verdict is Verdict.FINE
    assert line("conform", {**CONFORM, "pairs": {**seen, "map: SUCCESS": 1}}).verdict is Verdict.WRONG
    assert line("conform", {**CONFORM, "backend": "metal"}, "metal").verdict is Verdict.FINE
    assert line("conform", {**CONFORM, "undecided": {"map: 2. NOT_FOUND": "no such machine"}}).verdict is Verdict.FINE
    assert line("conform", {**CONFORM, "pairs": seen, "failures": ["map differs"]}).verdict is Verdict.WRONG


def test_a_lost_machine_is_a_failure() -> None:
    seen = {**CONFORM["pairs"], "map: 2. NOT_FOUND": 1}  # type: ignore[dict-item]
    lost = {**CONFORM, "pairs": seen, "lost": ["machine 2, step 31: QEMU ended"]}
    found = line("conform", lost)
    assert found.verdict is Verdict.WRONG
    assert "1 machine lost" in found.figure
    assert "conform qemu, lost: machine 2, step 31: QEMU ended" in shown()[0]
    assert line("conform", {**lost, "lost": []}).verdict is Verdict.FINE


def test_the_page_shows_pairs_never_seen_and_those_that_cannot_be() -> None:
    results.write("conform", "qemu", CONFORM, command="inv conform")
    html = shown()[1]
    assert re.search(r"2\. NOT_FOUND</code></td><td class=\"n zero\">0<", html)
    assert "unreachable: a page has a mode" in html


def test_the_page_says_why_nobody_has_seen_a_pair() -> None:
    pairs = {name: count for name, count in CONFORM["pairs"].items() if count}  # type: ignore[attr-defined]
    told = {"map: 2. NOT_FOUND": "two CPUs at once; shown by tests/a.py::test_b"}
    results.write("conform", "host", {**CONFORM, "pairs": pairs, "undecided": told}, command="inv conform")
    assert "host: two CPUs at once; shown by tests/a.py::test_b" in shown()[1]


def test_failures_with_their_commands() -> None:
    for kind, data in BAD.items():
        results.write(kind, "all", data, command=f"inv {kind}")
    terminal, html = shown()
    for command in ("pytest c", "inv proofs", "inv defects --name no_scrub", "inv attack --name theft"):
        assert command in terminal
        assert command in html
    assert "no reason given" in html
    assert "<pre>&lt;b&gt;</pre>" in html


def test_a_file_that_is_no_result_is_named() -> None:
    results.directory().mkdir()
    (results.directory() / "fuzz-host.json").write_text("{")
    terminal, html = shown()
    assert "this is no result of a run" in terminal
    assert "rm " in html


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, and remembers what the page would load."""

    EMPTY = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        places = [str(value) for name, value in attrs if name in ("src", "href")]
        self.loaded += [place for place in places if not place.startswith("#")]
        assert tag not in ("script", "link", "img", "iframe")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_alone() -> None:
    for kind, data in (*GOOD.items(), ("conform", CONFORM)):
        results.write(kind, "qemu", data, command=f"inv {kind}")
    html = shown()[1]
    parser = Balance()
    parser.feed(html)
    assert (parser.open, parser.loaded) == ([], [])
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.slow
def test_the_name_of_a_test_is_printed_before_it_runs(tmp_path: Path) -> None:
    """Each of these passes only if its name is in the output while it runs; with the command of `inv test --fast`."""
    (tmp_path / "test_named.py").write_text(NAMED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    xdist_group\n")
    command = checks._pytest(fast=True, backend="host").command
    with (tmp_path / "output").open("w") as output:
        done = subprocess.run(
            command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, timeout=100, check=False
        )
    assert done.returncode == 0, (tmp_path / "output").read_text()
    assert "4 passed" in (tmp_path / "output").read_text()


@pytest.mark.slow
def test_what_a_run_of_the_tests_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "bulkhead.report.record", "-n", "2",
               "--dist", "loadgroup", "test_inner.py", "--record", "fast"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stdout
    monkeypatch.undo()
    data = json.loads((tmp_path / "results" / "tests-fast.json").read_text())
    assert (data["passed"], data["skipped"], data["command"]) == (1, 1, "inv test --fast")
    assert {(one["test"].split("::")[1], one["phase"]) for one in data["failures"]} == {
        ("test_bad", "call"), ("test_late", "teardown"), ("test_wrong[host]", "call"),
    }  # fmt: skip
    assert len(data["durations"]) == 5
    wrong = next(one for one in data["failures"] if "wrong" in one["test"])
    again = subprocess.run(
        shlex.split(wrong["replay"]), cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert "1 failed" in again.stdout
    assert "got INVALID_ARGUMENT" in wrong["text"]
