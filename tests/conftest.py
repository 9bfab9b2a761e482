"""What all tests share: Hypothesis draws the same examples every time, and no example has a time limit of its own;
Ctrl-C interrupts, also when a script that runs the tests in the background has had it ignored, which is inherited.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from bulkhead.conformance.testing.plugin import backend_of

settings.register_profile(
    "bulkhead",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("bulkhead")
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers one runs all tests of a file, because they share machines; `--dist loadgroup`."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if not backend_of(item) and not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --storms, and the short form of an option that everybody types here."""
    machines = ("host", "qemu", "metal", "all")
    parser.addoption(
        "--backend", dest="bulkhead_backend", choices=machines, help="the same as --bulkhead-backend"
    )
    help = (
        "so many lifecycle storms, less those that an earlier run with this engine has done (default: a few), "
        "and sixteen busy VMs on each model with each number of CPUs (default: one number for each)"
    )
    parser.addoption("--storms", type=int, default=0, help=help)
