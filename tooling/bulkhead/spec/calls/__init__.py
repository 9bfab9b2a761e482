"""The definitions of the calls. `CALLS[name](state, **arguments)` gives an `Outcome`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from ..state import State
from ..transaction import Outcome, Transaction, run
from ..words import Word
from . import lifecycle, pages, tables, vcpus

DEFINITIONS: dict[str, Callable[..., None]] = {
    "host_split": tables.host_split,
    "vm_create": lifecycle.vm_create,
    "vm_kill": lifecycle.vm_kill,
    "vm_destroy": lifecycle.vm_destroy,
    "table_donate": tables.table_donate,
    "table_reclaim": tables.table_reclaim,
    "map": pages.map_,
    "reclaim": pages.reclaim,
    "vcpu_create": vcpus.vcpu_create,
    "vcpu_set_entry": vcpus.vcpu_set_entry,
    "activate": lifecycle.activate,
}
"""Call name → definition; the parameters behind the transaction are the arguments, in register order."""

ARGUMENTS = {
    name: tuple(inspect.signature(definition).parameters)[1:] for name, definition in DEFINITIONS.items()
}
"""Call name → names of its arguments x1, x2, ..., as in the table of calls."""


def _call(name: str, state: State, **arguments: Word) -> Outcome:
    def definition(transaction: Transaction) -> None:
        DEFINITIONS[name](transaction, **arguments)

    return run(state, definition)


CALLS: dict[str, Callable[..., Outcome]] = {name: partial(_call, name) for name in DEFINITIONS}
"""Call name → function of a state and the arguments by name."""
