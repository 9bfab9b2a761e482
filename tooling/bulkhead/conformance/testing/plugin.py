"""pytest: hypercalls from tests, on any backend. Trust label: TOOL.

Fixtures: `bulkhead_machine` (a machine as boot leaves it) and `bulkhead_vm` (builder of VMs), with the ini option
`bulkhead_aliases` also as `machine` and `vm`. A test that needs what only some backends have carries their markers
(`host`, `qemu`, `metal`), one that looks at the engine's or a VM's memory `raw_memory`; it is selected by them at
collection. All others run on every backend that was asked for, and leave the machine as they found it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from bulkhead.conformance.backends.backend import Backend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import Changes, Snapshot
from bulkhead.conformance.testing import aliases, failures
from bulkhead.conformance.testing.builder import ORDINARY_RAM, Ranges, Vm, dismantle
from bulkhead.conformance.testing.machine import Machine, difference
from bulkhead.conformance.testing.reach import Reach, ReachChanges
from bulkhead.conformance.testing.seat import NAMES, PSEUDO_TERMINAL, Seat, starter
from bulkhead.machine.qemu import interrupt_on_termination

FIXTURE = "bulkhead_seat"
RAW = "raw_memory"
FAILED = pytest.StashKey[bool]()
LEFT_OUT = pytest.StashKey[set[str]]()
"""Tests that no backend without raw memory can run."""
BY_REACH = pytest.StashKey[list[int]]()
"""For each test on such a backend, how many comparisons saw only the host's reach."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options, all of which begin with --bulkhead."""
    group = parser.getgroup("bulkhead")
    group.addoption("--bulkhead-backend", choices=(*NAMES, "all"), default="host",
                    help="machine that tests run on; all: metal only with --bulkhead-serial")  # fmt: skip
    group.addoption("--bulkhead-serial", metavar="PATH[:BAUD]", default="",
                    help=f"line to metal; {PSEUDO_TERMINAL}: a pseudo-terminal to a QEMU of its own")  # fmt: skip
    group.addoption("--bulkhead-power", metavar="COMMAND", default="",
                    help="shell command that turns the board off and on when it has stopped answering")  # fmt: skip
    group.addoption("--bulkhead-toolchain", choices=("pinned", "system"), default="pinned",
                    help="compiler of the image for QEMU")  # fmt: skip
    parser.addini("bulkhead_aliases", "also name the fixtures `machine` and `vm`", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Declares markers and aliases, and refuses options that cannot mean anything."""
    for name in NAMES:
        config.addinivalue_line("markers", f"{name}: needs what the {name} backend has")
    config.addinivalue_line("markers", f"{RAW}: looks at memory that the host cannot see")
    asked, serial = config.getoption("--bulkhead-backend"), config.getoption("--bulkhead-serial")
    if asked == "metal" and not serial:
        raise pytest.UsageError(
            "--bulkhead-backend metal: no serial device; add --bulkhead-serial PATH[:BAUD],"
            f" or --bulkhead-serial {PSEUDO_TERMINAL} for a pseudo-terminal to a machine in QEMU"
        )
    if serial and asked not in ("metal", "all"):
        raise pytest.UsageError("--bulkhead-serial is for --bulkhead-backend metal or all")
    config.stash[LEFT_OUT], config.stash[BY_REACH] = set(), []
    if config.getini("bulkhead_aliases"):
        config.pluginmanager.register(aliases, "bulkhead-aliases")
    if chosen(config) != ("host",):
        interrupt_on_termination()  # so that machines and their files go with this process
        config.option.verbose = config.option.verbose or 1  # a test that may take long is named before it runs


def chosen(config: pytest.Config) -> tuple[str, ...]:
    """The backends that were asked for."""
    asked = str(config.getoption("--bulkhead-backend"))
    if asked != "all":
        return (asked,)
    return NAMES if config.getoption("--bulkhead-serial") else NAMES[:-1]


def pytest_report_header(config: pytest.Config) -> str:
    """The backends of this run."""
    serial = config.getoption("--bulkhead-serial")
    missing = (
        ""
        if serial or config.getoption("--bulkhead-backend") != "all"
        else " (metal needs --bulkhead-serial)"
    )
    return f"bulkhead: {', '.join(chosen(config))}{f' at {serial}' if serial else missing}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use a machine run once on each chosen backend that has what they need."""
    if FIXTURE not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker
    only = {name for name in NAMES if marker(name)}
    names = [name for name in chosen(metafunc.config) if not only or name in only]
    if "metal" in names and marker(RAW):
        names.remove("metal")
        metafunc.config.stash[LEFT_OUT].add(metafunc.definition.nodeid)
    parameters = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in names]
    metafunc.parametrize(FIXTURE, parameters, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that need a backend which was not asked for; with pytest-xdist, those of one backend share its
    machine (`--dist loadgroup`).
    """
    absent = {item for item in items if FIXTURE in getattr(item, "fixturenames", ()) and not backend_of(item)}
    if absent:
        config.hook.pytest_deselected(items=list(absent))
        items[:] = [item for item in items if item not in absent]
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if backend_of(item) and not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(f"bulkhead-{backend_of(item)}"))


def backend_of(item: pytest.Item) -> str:
    """Name of the backend that a test runs on; empty if it uses none."""
    call = getattr(item, "callspec", None)
    name = call.params.get(FIXTURE) if call else None
    return name if name in NAMES else ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands over what the summary counts."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        left_out = session.config.stash[LEFT_OUT]
        output["bulkhead"] = {"left_out": sorted(left_out), "by_reach": session.config.stash[BY_REACH]}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes over what a worker of pytest-xdist has counted."""
    counted = getattr(node, "workeroutput", {}).get("bulkhead", {"left_out": [], "by_reach": []})
    node.config.stash[LEFT_OUT].update(counted["left_out"])
    node.config.stash[BY_REACH].extend(counted["by_reach"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Says of a failure how to run it again, and of known errors only what they say."""
    report = yield
    backend = backend_of(item)
    if report.failed and backend:
        item.stash[FAILED] = True
        failures.explain(item, call, report, backend)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was not checked."""
    tests, left_out = config.stash[BY_REACH], len(config.stash[LEFT_OUT])
    if tests or left_out:
        terminalreporter.section("bulkhead: without raw memory (metal)")
        terminalreporter.line(f"{left_out} test functions were left out: they are marked {RAW}")
        terminalreporter.line(
            f"after {len(tests)} tests records and tables were not checked; {sum(tests)} comparisons of states"
            " saw only which frames the host reaches"
        )


@pytest.fixture(scope="session")
def bulkhead_seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    """The machine of this session: one boot for all tests."""
    option, name = request.config.getoption, str(request.param)
    start = starter(
        name, option("--bulkhead-toolchain"), option("--bulkhead-serial"), option("--bulkhead-power")
    )
    seat = Seat(name, start)
    yield seat
    seat.close()


@pytest.fixture
def bulkhead_backend(bulkhead_seat: Seat) -> Backend:
    """The driver of the machine, which knows registers and bytes, but no call."""
    return bulkhead_seat.backend()


@pytest.fixture
def bulkhead_machine(request: pytest.FixtureRequest, bulkhead_seat: Seat) -> Iterator[Machine]:
    """The machine under test, as boot leaves it; a test that does not leave it so fails.

    After the test records and tables must agree, where they can be read, and every VM is ended and everything taken
    back. After a failure there is a new machine.
    """
    machine = Machine(bulkhead_seat.backend())
    try:
        before = machine.look()
        yield machine
        if request.node.stash.get(FAILED, False):
            machine.needs_reset = True
        else:
            check_after(machine, before)
    except BaseException:
        machine.needs_reset = True
        raise
    finally:
        if not machine.backend.raw_memory:
            request.config.stash[BY_REACH].append(machine.compared_by_reach)
        if machine.needs_reset:
            bulkhead_seat.renew()


def check_after(machine: Machine, before: Snapshot | Reach) -> None:
    """Everything is consistent, can be taken back, and is then as before, but for the content of host frames."""
    if machine.backend.raw_memory:
        invariants.check(Snapshot.take(machine))
        invariants.check_reach(machine)
    dismantle(machine)
    if machine.needs_reset:
        return
    changes = difference(before, machine.look())
    if changes if isinstance(changes, ReachChanges) else _beyond_contents(changes):
        raise AssertionError(f"the test did not leave the machine as it found it:\n{changes}")


def _beyond_contents(changes: Changes) -> bool:
    return bool(changes.blocks or changes.frames or changes.vms or changes.host_level2 or changes.dma_level2)


@pytest.fixture
def bulkhead_vm(bulkhead_machine: Machine) -> Callable[..., Vm]:
    """Builder of VMs: `bulkhead_vm(slot=0, ram=((base, bytes), ...), vcpus=1)`."""

    def build(slot: int = 0, ram: Ranges = ORDINARY_RAM, vcpus: int = 1) -> Vm:
        return Vm(bulkhead_machine, slot, ram, vcpus)

    return build
