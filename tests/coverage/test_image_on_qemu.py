"""The tests that boot execute the shipped image at EL2, line by line and branch by branch."""

from __future__ import annotations

import pytest

from bulkhead.coverage import el2

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_line_and_branch_of_arch_is_covered_or_explained() -> None:
    el2.main()
