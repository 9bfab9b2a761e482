"""The promises of isolation: they follow from the invariants, and no call breaks them.

About the specification alone, like `preservation`; `bulkhead.spec.promises` mentions no call. `REACH` are claims about
one state, at one arbitrary address; those about a step are proved at one arbitrary word of RAM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bulkhead.spec import promises
from bulkhead.spec.calls import STEP_DEFINITIONS
from bulkhead.spec.invariants import BY_MAP, is_vm
from bulkhead.spec.invariants import config as config_invariant
from bulkhead.spec.state import State
from bulkhead.spec.words import Truth, all_of, below

from . import smt
from .exec.errors import ProofFailed
from .exec.solver import Solver, Statistics
from .preservation import Preservation
from .smt import Bits
from .symbolic import fact, unknown_state

ADDRESS = smt.variable("address")
VM = smt.variable("vm")
IPA_FRAMES = 1 << 27
"""Pages of a VM's 39-bit addresses."""


@dataclass(frozen=True)
class Reach:
    """A claim about what one kind of domain reaches at `ADDRESS`, when there is such an address."""

    exists: Callable[[State], Truth]
    walk: Callable[[State], promises.Reached]
    claim: Callable[[State], Truth]


def _in_ram(state: State) -> Truth:
    return below(ADDRESS, state.config.frames)


REACH: Mapping[str, Reach] = {
    "host": Reach(
        _in_ram,
        lambda state: promises.flat_walk(state, state.host_entry, ADDRESS),
        lambda state: promises.host_reach(state, ADDRESS),
    ),
    "devices": Reach(
        _in_ram,
        lambda state: promises.flat_walk(state, state.dma_entry, ADDRESS),
        lambda state: promises.device_reach(state, ADDRESS),
    ),
    "VMs": Reach(
        lambda state: all_of(is_vm(state, VM), below(ADDRESS, IPA_FRAMES)),
        lambda state: promises.vm_walk(state, VM, ADDRESS),
        lambda state: promises.vm_reach(state, VM, ADDRESS),
    ),
}
"""Domain → what P7 says of it."""


class Known:
    """A state of which the invariants are known at every key that is asked for."""

    def __init__(self) -> None:
        self.solver = Solver()
        self._instantiating = False
        self.state = unknown_state(self._touch)
        self.solver.assume(fact(config_invariant(self.state.config)))

    def _touch(self, name: str, key: Bits) -> None:
        if self._instantiating:
            return
        self._instantiating = True
        try:
            for _, invariant in BY_MAP[name]:
                self.solver.assume(fact(invariant(self.state, key)))
        finally:
            self._instantiating = False


def prove_reach(domain: str) -> Statistics:
    """What the domain reaches is granted to it; ProofFailed if not."""
    known, reach = Known(), REACH[domain]
    known.solver.assume(fact(reach.exists(known.state)))
    claim, reached = fact(reach.claim(known.state)), fact(reach.walk(known.state).valid)
    if not known.solver.satisfiable(reached):
        raise ProofFailed(f"the {domain} reach nothing in any state")
    known.solver.prove(claim, f"the {domain} can reach what they are not granted")
    return known.solver.statistics


def prove_step(call: str) -> Statistics:
    """The call or step keeps integrity and secrecy; ProofFailed if not."""
    step, word = Preservation(call), smt.variable("any_word")
    solver, before, after = step.solver, step.state, step.outcome.committed
    actor = step.arguments["vm"] if "vm" in step.arguments and call in STEP_DEFINITIONS else None
    solver.assume(fact(below(word, before.config.frames << 9)))
    solver.prove(
        fact(promises.integrity(before, after, word, actor)), f"{call} can change a page of a VM that lives"
    )
    solver.prove(
        fact(promises.secrecy(before, after, word)), f"{call} can let the host see what it could not"
    )
    return solver.statistics
