"""What every task does with words that are no numbers, numbers that make no sense, a disk that is full, and signals."""

from __future__ import annotations

import errno
import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

from bulkhead.commands import NO_PLACE, at_least, command
from bulkhead.errors import InvalidInput
from bulkhead.provision.paths import REPOSITORY


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


LONG = """
import sys, tempfile, time
from invoke.collection import Collection
from invoke.program import Program
from bulkhead.commands import command
@command
def long(_):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        print("begun", flush=True)
        time.sleep(60)
Program(namespace=Collection(long)).run(["inv", "long"])
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["as it is", "under nohup"])
def test_a_task_that_is_terminated_leaves_no_files(tmp_path: Path, ignored: bool) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", LONG, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        if ignored:
            child.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.3)
        child.send_signal(signal.SIGTERM if ignored else signal.SIGHUP)
        assert child.wait(20) == 130
    finally:
        child.kill()
        child.communicate()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    """All tasks of a checkout, those of the installed command among them."""
    spec = importlib.util.spec_from_file_location("tasks_of_this_test", REPOSITORY / "tasks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_is_explained(tasks: ModuleType) -> None:
    options = {
        f"{task.name} --{option.names[0]}": option.help
        for task in Collection.from_module(tasks).tasks.values()
        for option in task.get_arguments()
    }
    assert "conform --calls" in options
    assert [name for name, text in options.items() if not text] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["conform", "--calls", "abc"], "'abc' is no whole number\n  where: --calls"),
        (["fuzz", "--minutes", "long"], "'long' is no number\n  where: --minutes"),
    ],
)
def test_a_word_where_a_number_belongs(
    tasks: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        Program(namespace=Collection.from_module(tasks)).run(["inv", *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
