"""The tests of the host build execute engine/core, line by line and branch by branch."""

from __future__ import annotations

import pytest

from bulkhead.coverage import host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_line_and_branch_is_covered_or_explained() -> None:
    host.main()
