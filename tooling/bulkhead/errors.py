"""The one exception hierarchy: every error says what went wrong, where, and what to do next.

Trust label: TOOL. Only these exceptions reach a user as a message; anything else is a defect of the tooling and
shows its traceback.
"""

from __future__ import annotations

from pathlib import Path


class BulkheadError(Exception):
    """Base of all errors that are meant for the person at the terminal.

    `what` is the failure in one sentence, `where` the file, command or address it concerns, `hint` the next step.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  what to do: {self.hint}")
        return "\n".join(lines)


class InvalidInput(BulkheadError):
    """A value given by the user (option, file, image) cannot be used."""


class ProvisionError(BulkheadError):
    """A tool or a file that the project needs could not be provided."""


class NetworkError(ProvisionError):
    """A download failed."""


class PinUnavailable(ProvisionError):
    """The mirror does not carry the pinned version of a package."""


class IntegrityError(ProvisionError):
    """A downloaded file does not have the recorded hash."""


class NeedsRoot(ProvisionError):
    """A system package is missing and this user may not install it."""


class BuildError(BulkheadError):
    """A compiler, linker or image step failed."""


class MachineError(BulkheadError):
    """A machine (QEMU or a board) could not be started, driven or stopped."""


class MachineTimeout(MachineError):
    """A machine did not answer within its time limit."""


class CheckFailed(BulkheadError):
    """A check, test or proof ran and its answer is no."""
