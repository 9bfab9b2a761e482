"""The definitions of the calls and steps. `CALLS[name](state, **arguments)` gives an `Outcome`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from ..state import State
from ..transaction import Outcome, Transaction, run
from ..words import Word
from . import blocks, dma, lifecycle, pages, sharing, tables, vcpus

DEFINITIONS: dict[str, Callable[..., None]] = {
    "host_split": tables.host_split,
    "vm_create": lifecycle.vm_create,
    "vm_kill": lifecycle.vm_kill,
    "vm_destroy": lifecycle.vm_destroy,
    "table_donate": tables.table_donate,
    "table_reclaim": tables.table_reclaim,
    "map": pages.map_,
    "map_block": blocks.map_block,
    "vm_split": blocks.vm_split,
    "reclaim": pages.reclaim,
    "reclaim_block": blocks.reclaim_block,
    "vcpu_create": vcpus.vcpu_create,
    "vcpu_set_entry": vcpus.vcpu_set_entry,
    "activate": lifecycle.activate,
    "share_accept": sharing.share_accept,
    "share_release": sharing.share_release,
    "dma_allow": dma.dma_allow,
    "dma_revoke": dma.dma_revoke,
}
"""Call name → definition; the parameters behind the transaction are the arguments, in register order."""

STEP_DEFINITIONS: dict[str, Callable[..., None]] = {
    "share": sharing.share,
    "unshare": sharing.unshare,
    "relinquish": sharing.relinquish,
    "first_touch": blocks.first_touch,
}
"""What changes ownership without a call of the host: a VM's calls, whose first argument is the VM, and the first touch
of a block.
"""

ARGUMENTS = {
    name: tuple(inspect.signature(definition).parameters)[1:]
    for name, definition in (DEFINITIONS | STEP_DEFINITIONS).items()
}
"""Call or step → names of its arguments; those of a call are x1, x2, ..., as in the table of calls."""


def _run(definition: Callable[..., None], state: State, **arguments: Word) -> Outcome:
    def defined(transaction: Transaction) -> None:
        definition(transaction, **arguments)

    return run(state, defined)


CALLS: dict[str, Callable[..., Outcome]] = {
    name: partial(_run, definition) for name, definition in DEFINITIONS.items()
}
"""Call name → function of a state and the arguments by name."""
STEPS: dict[str, Callable[..., Outcome]] = {
    name: partial(_run, definition) for name, definition in STEP_DEFINITIONS.items()
}
"""The same for steps. After a VM's successful call x0 is zero, and the host gets the exit SHARE."""
