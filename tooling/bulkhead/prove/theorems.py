"""The list of what is proved: subject × claim. A claim that is not in this list is not proved.

- refinement: the machine code of the call does what its specification says, and nothing unsafe;
- invariants: the call or step, as specified, leads from states with the invariants to such states;
- isolation: the call or step, as specified, keeps integrity and secrecy (`bulkhead.spec.promises`);
- reachability: the pairs of the call or step that no state with the invariants allows are those that the specification
  lists (`bulkhead.spec.pairs`);
- reach: in states with the invariants, the hardware reaches for a domain only what records grant it;
- contract: the machine code of a leaf function does what the proofs of its callers take for granted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bulkhead.spec import CALLS, STEPS

from .binding import bind
from .exec.image import Image
from .isolation import REACH, prove_reach, prove_step
from .leaf_proof import prove as prove_leaf
from .leaves import LEAVES, LOOPS
from .preservation import Preservation
from .reachability import prove as prove_reachability
from .refinement import Refinement
from .vm_step import VmStep

REFINED = (
    "vm_create", "map", "map_block", "vm_split", "reclaim", "reclaim_block", "host_split", "table_donate",
    "table_reclaim", "vcpu_create", "vm_kill", "vm_destroy", "share_accept", "share_release", "dma_allow", "dma_revoke",
    "vcpu_set_entry", "activate", "first_touch",
)  # fmt: skip
"""Calls and steps whose machine code is proved to do what the specification says."""
VM_STEPS = ("share", "unshare", "relinquish")
"""The same for calls of VMs."""

ASSUMPTIONS = (
    "the semantics of A64 in bulkhead.prove.isa, z3 and bitwuzla are right",
    "memory is as laid out by boot: windows do not overlap, records are backed, CONFIG is constant after boot; the "
    "tables of host and devices above level 2 lead to HOST_L2 and DMA_L2",
    "calls and first_touch are entered with the ownership lock held, the host's VTTBR_EL2 in place and the registers "
    "of the handlers; a VM's step with its context in a frame recorded as its vCPU; dispatcher, exception vectors and "
    "world switch are not covered",
    "no other CPU changes a frame record during a call; vcpu_run, which takes no lock, is not covered",
    "bulkhead_measure_words and bulkhead_measure_frame compute SHA-256, bulkhead_smmu_invalidate empties the SMMU's "
    "TLBs of the devices' translations (tested, not proved)",
    "TLB, cache and barrier instructions do what the Arm ARM says; their order and operands are proved",
    "boot leaves a state that has the invariants; a context that is reset was zero but for what is written",
)
"""What the theorems rest on."""


@dataclass(frozen=True)
class Evidence:
    """What one proof covered, for the certificate: numbers of paths, instructions, questions."""

    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Theorem:
    """A claim about a subject, and the function that proves it of an image or raises ProofFailed."""

    subject: str
    claim: str
    check: Callable[[Image], dict[str, Any]] = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.subject}: {self.claim}"

    def prove(self, image: Image) -> Evidence:
        """Raises ProofFailed."""
        started = time.perf_counter()
        details = self.check(image)
        return Evidence(round(time.perf_counter() - started, 2), details)


def refinement(call: str) -> Theorem:
    """The machine code of the call refines its specification."""

    def check(image: Image) -> dict[str, Any]:
        proof = VmStep(image, call) if call in VM_STEPS else Refinement(image, bind(image, call))
        result = proof.prove()
        return {
            "paths": result.summary.paths,
            "longest_path": result.summary.longest_path,
            "instructions": len(result.summary.covered),
            "successes": result.successes,
            "refusals": result.refusals,
            "solver": asdict(result.statistics),
        }

    return Theorem(call, "refinement", check)


def invariance(call: str) -> Theorem:
    """The call keeps the invariants."""

    def check(_: Image) -> dict[str, Any]:
        kept = Preservation(call).prove()
        return {"invariants": list(kept.invariants), "solver": asdict(kept.statistics)}

    return Theorem(call, "invariants", check)


def step_isolation(call: str) -> Theorem:
    """The call keeps integrity and secrecy."""

    def check(_: Image) -> dict[str, Any]:
        return {"promises": ["integrity", "secrecy"], "solver": asdict(prove_step(call))}

    return Theorem(call, "isolation", check)


def reachability(step: str) -> Theorem:
    """What the specification calls unreachable is, and nothing else can be proved to be."""

    def check(_: Image) -> dict[str, Any]:
        unreachable, statistics = prove_reachability(step)
        return {"unreachable": [pair.label for pair in unreachable], "solver": asdict(statistics)}

    return Theorem(step, "reachability", check)


def reach(domain: str) -> Theorem:
    """What a domain reaches is granted to it."""

    def check(_: Image) -> dict[str, Any]:
        return {"promises": ["reach"], "solver": asdict(prove_reach(domain))}

    return Theorem(domain, "reach", check)


def contract(leaf: str) -> Theorem:
    """The leaf function keeps its contract."""

    def check(image: Image) -> dict[str, Any]:
        kept = prove_leaf(image, leaf)
        return {
            "paths": kept.summary.paths,
            "longest_path": kept.summary.longest_path,
            "instructions": len(kept.summary.covered),
        }

    return Theorem(leaf, "contract", check)


def theorems() -> Iterator[Theorem]:
    """All of them, leaves first."""
    yield from map(contract, [*LEAVES, *LOOPS])
    yield from map(refinement, (*REFINED, *VM_STEPS))
    yield from map(invariance, (*CALLS, *STEPS))
    yield from map(step_isolation, (*CALLS, *STEPS))
    yield from map(reachability, (*CALLS, *STEPS))
    yield from map(reach, REACH)
