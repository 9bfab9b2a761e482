"""What the main job shows: progress while it works, the guest's output, a summary, or JSON alone on stdout.

Trust label: TOOL.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bulkhead.errors import BulkheadError

if TYPE_CHECKING:
    from bulkhead.machine.run import RunResult
    from bulkhead.machine.shim import Stats

STAGES = {
    "tools": "looking for QEMU", "guest": "reading the guest", "build": "building the image",
    "count": "counting the instructions of a boot", "boot": "booting engine and hypervisor", "start": "creating the VM",
    "script": "running the script in the guest",
    "destroy": "destroying the VM and checking what is left",
}  # fmt: skip


class Reporter:
    """Progress and summary on stderr; stdout belongs to the guest's output, or to JSON."""

    def __init__(self, *, json: bool, verbose: bool, live: bool) -> None:
        """`live`: the guest's output is shown as it comes."""
        self._json = json
        self._verbose = verbose
        self._live = live
        self._console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def stage(self, name: str, result: RunResult) -> Iterator[None]:
        """Show that a stage is under way, and note its seconds in `result`."""
        start = time.monotonic()
        waiting = (
            self._console.status(STAGES[name]) if self._console.is_terminal else contextlib.nullcontext()
        )
        with waiting:
            yield
        result.seconds[name] = time.monotonic() - start
        if self._verbose:
            self._console.print(f"bulkhead: {STAGES[name]}: {result.seconds[name]:.1f} s")

    def say(self, text: str) -> None:
        """One line for the person at the terminal."""
        if not self._json:
            self._console.print(f"bulkhead: {text}", markup=False, soft_wrap=True)

    def verbose_line(self, line: str) -> None:
        """A line for those who want to see everything, unbroken so that it can be pasted."""
        if self._verbose:
            print(line, file=sys.stderr)

    def output(self, data: bytes) -> None:
        """The guest's output, exactly."""
        if not self._json:
            _write(data)

    def live_output(self, data: bytearray, shown: int) -> int:
        """Show what the guest printed beyond the first `shown` bytes; the new count."""
        self.output(bytes(data[shown:]))
        return len(data)

    def finish(self, result: RunResult) -> None:
        """The error if there was one, and the summary."""
        if self._json:
            print(json.dumps(as_json(result), indent=2))
            return
        if self._live and result.output:
            self._console.print()
        if result.error:
            self._console.print(f"bulkhead: {result.error}", markup=False, soft_wrap=True)
        if result.stats is not None:
            self._console.print(summary(result, result.stats))


def _write(data: bytes) -> None:
    view = memoryview(data)
    sys.stdout.flush()
    try:
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]
    except BrokenPipeError as error:
        raise BulkheadError("nobody reads the output any more") from error


def as_json(result: RunResult) -> dict[str, Any]:
    """The result as plain data; output as text, counters by name."""
    plain = asdict(result)
    plain["output"] = result.output.decode(errors="replace")
    return plain


def summary(result: RunResult, stats: Stats) -> Table:
    """The table at the end of a run."""
    table = Table("what", "how much", title=f"VM: {result.outcome}", title_justify="left")
    for name, count in result.instructions.items():
        table.add_row(f"boot: {name}", f"{count:,} instructions")
    for name, seconds in result.seconds.items():
        table.add_row(f"time: {STAGES.get(name, name)}", f"{seconds:.1f} s")
    table.add_section()
    for name, count in sorted(stats.calls.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(f"call: {name}", f"{count:,}")
    table.add_section()
    for name, count in sorted(stats.exits.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(f"exit: {name}", f"{count:,}")
    table.add_section()
    table.add_row("pages given to the VM", f"{stats.pages_mapped:,}")
    table.add_row("pages taken back", f"{stats.pages_reclaimed:,}")
    table.add_row("launch measurement", Text(result.measurement, overflow="fold"))
    verified = f"{result.frames_of_vm:,} frames, all zero" if result.scrub_verified else "not verified"
    table.add_row("left of the VM in RAM", verified)
    return table
