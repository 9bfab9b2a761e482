"""Another library of the host build in place of the usual one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bulkhead.conformance.backends import native

PROGRAM = """
from bulkhead.conformance import Machine
from bulkhead.conformance.backends import native
from bulkhead.conformance.backends.host import HostBackend
print(native.library(), Machine(HostBackend()).call("vm_kill", vm=64).status)
"""


def run(library: Path | str) -> subprocess.CompletedProcess[str]:
    """A call on the machine of another process."""
    env = {**os.environ, native.CHOSEN: str(library)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_chosen_library_answers(tmp_path: Path) -> None:
    copy = tmp_path / "another.so"
    copy.write_bytes(native.library().read_bytes())
    assert run(copy).stdout == f"{copy} INVALID_ARGUMENT\n"


def test_what_is_no_library_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    answer = run(text)
    assert answer.returncode == 1
    assert f"{native.CHOSEN} names no library that can be loaded" in answer.stderr
    assert str(text) in answer.stderr
