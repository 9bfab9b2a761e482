"""pytest: `--backend host|qemu|all` and the fixtures `machine` and `vm`. Trust label: TOOL.

A test that needs what only one backend has carries its marker (`host` or `qemu`) and is selected by it at
collection; all others run on every backend that was asked for. Every test must leave the machine as it found it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bulkhead.conformance import invariants
from bulkhead.conformance.backend import Backend
from bulkhead.conformance.builder import ORDINARY_RAM, Ranges, Vm, dismantle
from bulkhead.conformance.host import HostBackend
from bulkhead.conformance.machine import Machine
from bulkhead.conformance.snapshot import Changes, Snapshot
from bulkhead.provision.toolchain import Kind as Toolchain

BACKENDS = ("host", "qemu")
FIXTURE = "bulkhead_backend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --backend and --toolchain."""
    group = parser.getgroup("bulkhead")
    kinds = ("pinned", "system")
    group.addoption("--toolchain", choices=kinds, default="pinned", help="compiler of the image for QEMU")
    choices = (*BACKENDS, "all")
    group.addoption(
        "--backend", choices=choices, default="host", help="machine that conformance tests run on"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers."""
    for name in BACKENDS:
        config.addinivalue_line("markers", f"{name}: needs what only the {name} backend has")


def chosen(config: pytest.Config) -> tuple[str, ...]:
    """The backends that were asked for."""
    option = str(config.getoption("--backend"))
    return BACKENDS if option == "all" else (option,)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use a machine run once on each chosen backend that has what they need."""
    if FIXTURE in metafunc.fixturenames:
        only = {name for name in BACKENDS if metafunc.definition.get_closest_marker(name)}
        names = [name for name in chosen(metafunc.config) if not only or name in only]
        parameters = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in names]
        metafunc.parametrize(FIXTURE, parameters, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that need a backend which was not asked for."""
    absent = {item for item in items if _lacks_backend(item)}
    if absent:
        config.hook.pytest_deselected(items=list(absent))
        items[:] = [item for item in items if item not in absent]


def _lacks_backend(item: pytest.Item) -> bool:
    if FIXTURE not in getattr(item, "fixturenames", ()):
        return False
    return item.callspec.params[FIXTURE] not in BACKENDS  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def bulkhead_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The machine of this session: one boot for all tests."""
    backend = _start(str(request.param), request.config.getoption("--toolchain"))
    yield backend
    backend.close()


def _start(name: str, toolchain: Toolchain) -> Backend:
    if name == "host":
        return HostBackend()
    from bulkhead.conformance.qemu import QemuBackend  # needs an image and QEMU, which host tests do not

    return QemuBackend.start(toolchain)


@pytest.fixture
def machine(bulkhead_backend: Backend) -> Iterator[Machine]:
    """The machine under test, as boot leaves it; a test that does not leave it so fails.

    After the test records and tables must agree, and every VM is ended and everything taken back.
    """
    machine = Machine(bulkhead_backend)
    before = Snapshot.take(machine)
    try:
        yield machine
        invariants.check(Snapshot.take(machine))
        invariants.check_reach(machine)
        dismantle(machine)
        if not machine.needs_reset:
            _check_left(before.changes(Snapshot.take(machine)))
    except BaseException:
        machine.needs_reset = True
        raise
    finally:
        if machine.needs_reset:
            bulkhead_backend.reset()


def _check_left(changes: Changes) -> None:
    """Host frames may hold other bytes than before; nothing else may differ."""
    if changes.blocks or changes.frames or changes.vms or changes.host_level2 or changes.dma_level2:
        raise AssertionError(f"the test did not leave the machine as it found it:\n{changes}")


@pytest.fixture
def bulkhead_machine(machine: Machine) -> Machine:
    """The same as `machine`."""
    return machine


@pytest.fixture
def vm(machine: Machine) -> Callable[..., Vm]:
    """Builder of VMs: `vm(slot=0, ram=((base, bytes), ...), vcpus=1)`."""

    def build(slot: int = 0, ram: Ranges = ORDINARY_RAM, vcpus: int = 1) -> Vm:
        return Vm(machine, slot, ram, vcpus)

    return build
