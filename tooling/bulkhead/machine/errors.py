"""What can go wrong with a machine: errors that carry what the machine said. Trust label: TOOL."""

from __future__ import annotations

from typing import Any

from bulkhead.errors import MachineError


def tail(text: str, lines: int = 20) -> str:
    """The last lines of a text, each indented, for use inside a message."""
    kept = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept)


class MachineDied(MachineError):
    """QEMU ended unasked. `status` is its exit status, `output` what it wrote to stderr."""

    def __init__(self, status: int | None, output: str) -> None:
        detail = f"; it said:\n{tail(output)}" if output.strip() else " and said nothing"
        super().__init__(
            f"QEMU ended with status {status}{detail}",
            hint="`run --verbose` prints the command that starts it: try that",
        )
        self.status = status
        self.output = output


class EnginePanic(MachineError):
    """The engine parked all CPUs. `dump`: raw text from UART0, `decoded`: with names and lines."""

    def __init__(self, dump: str, decoded: str) -> None:
        super().__init__(
            f"the engine panicked\n{decoded}", hint="this is a defect of the engine: report it with this dump"
        )
        self.dump = dump
        self.decoded = decoded


class HostProgramPanic(MachineError):
    """The program at EL1 (hypervisor or payload) found itself wrong and stopped; `text` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the program at EL1 panicked: {text}", hint="this is a defect of that program: report it"
        )
        self.text = text


class LinkError(MachineError):
    """The program at the other end of the link refused a request: `code`, its own words, and further
    `fields`.

    Codes: 1 the access faulted (`esr`), 2 malformed request, 3 not in this state, 4 the engine refused the
    call named by `text` (`status` is x0, `detail` x1).
    """

    def __init__(self, operation: str, code: int, text: str, fields: dict[str, Any] | None = None) -> None:
        self.fields = {name: value for name, value in (fields or {}).items() if name != "error"}
        more = "".join(
            f", {name} {value:#x}" for name, value in self.fields.items() if isinstance(value, int)
        )
        super().__init__(
            f"'{operation}' was refused: {text or 'no reason given'} (code {code}{more})", where="link"
        )
        self.operation = operation
        self.code = code
        self.text = text
