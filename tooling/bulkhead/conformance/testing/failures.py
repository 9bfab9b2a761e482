"""What a failed test says: known errors without the way through this package, and the command that repeats it.

Trust label: TOOL.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from bulkhead.errors import BulkheadError


def explain(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, backend: str) -> None:
    """Completes the report of a test that failed on `backend`."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, BulkheadError):
        report.longrepr = f"{place(item, call)}\n{type(error).__name__}: {error}"
    report.sections.append(("run it again", replay(item, backend)))


def place(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """Where in the test's own file it was, with the line."""
    assert call.excinfo is not None
    own = [entry for entry in call.excinfo.traceback if entry.path == item.path]
    if not own:
        return f"{item.nodeid}, {call.when}"
    line = str(own[-1].statement).strip()
    return f"{own[-1].path}:{own[-1].lineno + 1}: in {own[-1].name}\n>   {line}"


def replay(item: pytest.Item, backend: str) -> str:
    """A command for a shell that runs this test alone, in the same way."""
    config = item.config
    words = [_short(Path(sys.executable), config.rootpath), "-m", "pytest"]
    if config.option.inifilename:
        words += ["-c", _short(config.invocation_params.dir / config.option.inifilename, config.rootpath)]
    for setting in config.option.override_ini or ():
        words += ["-o", setting]
    words += [plain(item.nodeid), "--bulkhead-backend", backend]
    if backend == "metal":
        words += ["--bulkhead-serial", str(config.getoption("--bulkhead-serial"))]
    if config.getoption("--bulkhead-power"):
        words += ["--bulkhead-power", str(config.getoption("--bulkhead-power"))]
    if config.getoption("--bulkhead-toolchain") != "pinned":
        words += ["--bulkhead-toolchain", str(config.getoption("--bulkhead-toolchain"))]
    line = shlex.join(words)
    return line if Path.cwd() == config.rootpath else f"(cd {shlex.quote(str(config.rootpath))} && {line})"


def plain(nodeid: str) -> str:
    """The id of a test as the command line takes it: without the group that pytest-xdist adds behind an @."""
    return re.sub(r"@[^\[\]]*$", "", nodeid)


def _short(path: Path, place: Path) -> str:
    """Relative if it is below `place`, where the command is to run."""
    return str(path.relative_to(place)) if path.is_relative_to(place) else str(path)
