"""What every task does with numbers that make no sense, and with a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from bulkhead.commands import NO_PLACE, at_least, command
from bulkhead.errors import InvalidInput


def failing(error: OSError) -> None:
    """A task in which this happens."""

    @command
    def body(_: Context) -> None:
        raise error

    body(Context())


@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_a_number_that_is_too_small(number: float) -> None:
    with pytest.raises(InvalidInput, match="too small") as caught:
        at_least(1, jobs=number)
    assert "--jobs" in str(caught.value)


def test_the_least_number_is_enough() -> None:
    at_least(1, jobs=1, calls=2)


def test_a_full_disk_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(Exit) as caught:
        failing(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "result")))
    assert caught.value.code == 1
    assert str(tmp_path / "result") in str(caught.value)
    assert "what to do: make room" in str(caught.value)


def test_other_errors_of_the_system_are_defects_and_keep_their_traceback() -> None:
    assert errno.ENOENT not in NO_PLACE
    with pytest.raises(FileNotFoundError):
        failing(FileNotFoundError(errno.ENOENT, "No such file or directory", "somewhere"))
