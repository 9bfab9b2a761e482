"""A stock guest on an engine built with an option. What the option does: `tests/boot/test_branch_history.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.image.build import Images, build
from bulkhead.machine.guest_console import GuestConsole

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]


@pytest.fixture(scope="module")
def images() -> Images:
    """With the branch history overwritten at each entry to EL2."""
    return build("pinned", "shim", ("spectre-bhb",))


def test_a_stock_guest_comes_to_its_user_space(boot: Callable[..., GuestConsole]) -> None:
    run = boot(cpus=2).run("nproc; dd if=/dev/urandom bs=4096 count=64 2>/dev/null | wc -c", 60.0)
    assert run.output.decode().split()[-2:] == ["2", "262144"]
