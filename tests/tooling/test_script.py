"""The dialogue with a shell, held with a real shell on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator

import pytest

from bulkhead.machine.script import ScriptResult, ScriptRun


class Shell:
    """An interactive shell on a pseudo-terminal, with echo and prompt, as a guest's serial port has it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.seen = bytearray()
        environment = {"PATH": os.environ["PATH"], "PS1": "guest# ", "HOME": "/"}
        self.process = subprocess.Popen(
            ["sh", "-i"], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def read(self) -> None:
        if select.select([self.master], [], [], 0.05)[0]:
            self.seen += os.read(self.master, 65536)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.close()


def run(shell: Shell, script: str, greetings: int = 1) -> ScriptResult:
    dialogue = ScriptRun(script)
    limit = time.monotonic() + 20
    for _ in range(greetings):
        os.write(shell.master, dialogue.greeting())
    while not dialogue.ready(shell.seen):
        assert time.monotonic() < limit, shell.seen
        shell.read()
    os.write(shell.master, dialogue.commands())
    while (result := dialogue.result(shell.seen)) is None:
        assert time.monotonic() < limit, shell.seen
        shell.read()
    return result


@pytest.mark.parametrize(
    ("script", "output", "status"),
    [
        ("echo hello", b"hello\n", 0),
        ("printf no-newline", b"no-newline", 0),
        ("echo one; echo two >&2; exit 7", b"one\ntwo\n", 7),
        ("false", b"", 1),
        ("printf 'a\\nb\\n' | while read x; do echo \"<$x>\"; done", b"<a>\n<b>\n", 0),
        ("cat", b"", 0),
        ("printf '%s\\n' 'quotes \"and\" $dollars `ticks`'", b'quotes "and" $dollars `ticks`\n', 0),
        ("echo BULKHEAD-END-", b"BULKHEAD-END-\n", 0),
        ("exit 130", b"", 130),
    ],
)
def test_exactly_what_the_script_printed(shell: Shell, script: str, output: bytes, status: int) -> None:
    assert run(shell, script) == ScriptResult(output, status)


def test_a_long_script_and_long_output(shell: Shell) -> None:
    script = "\n".join(f"echo line {number} {'x' * 60}" for number in range(400))
    result = run(shell, script)
    assert result.output == "".join(f"line {n} {'x' * 60}\n" for n in range(400)).encode()


def test_greetings_that_were_sent_again_do_not_matter(shell: Shell) -> None:
    assert run(shell, "echo hello", greetings=4) == ScriptResult(b"hello\n", 0)
    assert run(shell, "echo again") == ScriptResult(b"again\n", 0)


@pytest.mark.parametrize("lost", [1, 10, 30, 45, 55])
def test_half_a_greeting_is_no_greeting(shell: Shell, lost: int) -> None:
    """What was typed while the serial port was being opened is lost; the terminal would still be as it was."""
    dialogue = ScriptRun("")
    os.write(shell.master, dialogue.greeting()[lost:] + b"echo the-$((5 + 1))th\n")
    limit = time.monotonic() + 20
    while b"the-6th" not in shell.seen:
        assert time.monotonic() < limit, shell.seen
        shell.read()
    assert dialogue.ready(shell.seen) == (lost <= 1)
