"""A pytest plugin that tells `hunt` of the first failure: `-p bulkhead.defects.witness`. Trust label: TOOL.

The file that `BULKHEAD_WITNESS` names gets one JSON object: the test, whether it failed as a test (by an assertion, a
check, or a machine that did not do what it must) and not otherwise, and what it said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed, MachineError

PLACE = "BULKHEAD_WITNESS"
_SOUND = (AssertionError, CheckFailed, MachineError)
"""What a test says of an engine; all else is of the test's own making."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes the first failure."""
    report = yield
    place = Path(os.environ[PLACE])
    if report.failed and call.excinfo is not None and not place.exists():
        error = call.excinfo.value
        sound = isinstance(error, _SOUND)
        text = str(error) if str(error).strip() else type(error).__name__
        place.write_text(json.dumps({"test": item.nodeid, "sound": sound, "step": text}))
    return report
