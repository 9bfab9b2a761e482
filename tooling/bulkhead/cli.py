"""The `bulkhead` command, which comes with the installed package. Trust label: TOOL.

`bulkhead --print-completion-script bash` (or zsh, fish) prints what the shell is to evaluate.
"""

from __future__ import annotations

from collections.abc import Callable

from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.program import Program

from bulkhead import abi, commands
from bulkhead.commands import ended_by
from bulkhead.errors import BulkheadError, InvalidInput


class Command(Program):
    """Invoke's program with this project's errors: what cannot be understood ends it with status 2."""

    def parse_core(self, argv: list[str] | None) -> None:
        """See Program."""
        self._understand(lambda: super(Command, self).parse_core(argv))

    def parse_tasks(self) -> None:
        """See Program."""
        self._understand(super().parse_tasks)

    def _understand(self, parse: Callable[[], None]) -> None:
        try:
            parse()
        except (ParseError, ValueError) as error:  # ValueError: no number for an option of invoke's own
            hint = f"`{self.binary} --help` lists the tasks, `{self.binary} --help TASK` the options of one"
            raise ended_by(InvalidInput(str(error), where="the command line", hint=hint)) from error


def main() -> None:
    """Does what the command line says; ends the process."""
    try:
        version = abi.release()
    except BulkheadError as error:
        raise SystemExit(f"bulkhead: {error}") from error
    program = Command(
        name="bulkhead",
        binary="bulkhead",
        binary_names=["bulkhead"],
        version=version,
        namespace=Collection.from_module(commands),
    )
    program.run()
