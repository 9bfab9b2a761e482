"""What an attack says about itself. Trust label: STATEMENT.

An attack is one file in tests/attack/<subject>/: its name is the file's, its title the first sentence of the
docstring, and one function decorated with `attack` carries it out. That function returns if the attack was refused and
raises AssertionError, with what was reached in words, if it was not; anything else it raises, an assertion without
words among it, is a defect of the test.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bulkhead.image.variant import Edit

Attacker = Literal["host", "vm", "device", "client", "several"]
"""Who attacks: a client is what sits at the far end of the host's management channel."""
Promise = Literal["P1", "P2", "P3", "P4", "P5", "P6", "P7"]
"""Of engine/docs/threat-model.md."""


@dataclass(frozen=True)
class Machine:
    """The machine that an attack needs: `devices` and `extra` as in QemuConfig."""

    cpu_model: str = "neoverse-n1"
    cpus: int = 2
    devices: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """A declared attack. `removed`: edits that take away the protection that `refused` names, and nothing else;
    `irremovable`: why there are none."""

    subject: str
    name: str
    title: str
    by: Attacker
    against: Promise
    refused: str
    source: str
    removed: tuple[Edit, ...]
    irremovable: str
    machine: Machine
    carry_out: Callable[[Any], None]

    def __str__(self) -> str:
        return self.name


def attack(
    *,
    by: Attacker,
    against: Promise,
    refused: str,
    removed: Edit | tuple[Edit, ...] = (),
    irremovable: str = "",
    source: str = "",
    machine: Machine = Machine(),
) -> Callable[[Callable[[Any], None]], Attack]:
    """Declares the decorated function to carry out the attack of its file, either with `removed` or with `irremovable`.
    `source`: where it was published.
    """

    def declare(function: Callable[[Any], None]) -> Attack:
        _, subject, name = function.__module__.rsplit(".", 2)
        document = sys.modules[function.__module__].__doc__ or ""
        title = " ".join(document.split("\n\n")[0].split()).removesuffix(".")
        edits = (removed,) if isinstance(removed, Edit) else removed
        return Attack(
            subject, name, title, by, against, refused, source, edits, irremovable, machine, function
        )

    return declare
