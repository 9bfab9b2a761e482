"""The theorems about the shipped machine code, and that the prover notices when code or specification is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from bulkhead.image.build import Images
from bulkhead.prove.binding import bind
from bulkhead.prove.certificate import Records, certificate, check_same_code
from bulkhead.prove.cli import CERTIFICATE, PROOFS
from bulkhead.prove.exec.errors import ProofFailed
from bulkhead.prove.exec.image import Image
from bulkhead.prove.isolation import prove_step
from bulkhead.prove.leaf_proof import prove as prove_leaf
from bulkhead.prove.preservation import Preservation
from bulkhead.prove.refinement import Refinement
from bulkhead.prove.theorems import REFINED, VM_STEPS, Evidence, Theorem, theorems
from bulkhead.prove.vm_step import VmStep
from bulkhead.spec import CALLS, STEPS, State, Transaction
from bulkhead.spec.calls import DEFINITIONS, STEP_DEFINITIONS
from bulkhead.spec.state import VmWord
from bulkhead.spec.transaction import Outcome, run
from bulkhead.spec.words import Truth, Word, term
from proofs.survivors import is_explained

pytestmark = pytest.mark.slow

STEP = 4


@dataclass
class Seen:
    """What has become of the theorems so far."""

    proved: dict[Theorem, Evidence] = field(default_factory=dict)
    failed: dict[Theorem, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def seen(image: Image, images: Images) -> Iterator[Seen]:
    """Once it is of all theorems it is a certificate, as of `inv prove`."""
    found = Seen()
    yield found
    if len(found.proved) + len(found.failed) == len(list(theorems())):
        record = certificate(image, images.image, images.toolchain, found.proved, found.failed)
        CERTIFICATE.write_text(json.dumps(record, indent=1) + "\n")


@pytest.mark.parametrize("theorem", list(theorems()), ids=lambda theorem: theorem.name)
def test_theorem(image: Image, seen: Seen, theorem: Theorem) -> None:
    """Proved, unless a proof with the same inputs is on record."""
    records = Records(PROOFS, image)
    evidence = records.find(theorem)
    if evidence is None:
        try:
            evidence = theorem.prove(image)
        except ProofFailed as failure:
            seen.failed[theorem] = failure.explanation or str(failure)
            raise
        records.keep(theorem, evidence)
    seen.proved[theorem] = evidence


def test_proved_code_is_what_boots(image: Image, images: Images) -> None:
    check_same_code(image, images.image)


def test_every_condition_of_a_call_is_met_by_some_path(image: Image) -> None:
    """Non-vacuity is part of the proof; here: its evidence names each condition."""
    evidence = Refinement(image, bind(image, "vm_kill")).prove()
    assert evidence.successes == 1
    assert set(evidence.refusals) == {"0:INVALID_ARGUMENT(1)", "1:BAD_STATE"}


def test_certificate_names_image_and_failures(image: Image, images: Images) -> None:
    one, other, *_ = theorems()
    record = json.loads(json.dumps(certificate(image, images.image, "x", {}, {one: "why", other: "not"})))
    assert record["image_sha256"] == images.sha256
    assert record["complete"] is False
    assert [entry["subject"] for entry in record["failed"]] == [one.subject, other.subject]


# The prover must notice a wrong program. A part of the states is enough to notice, and quicker.


def map_with_one_range(image: Image, specification: Callable[..., Outcome] | None = None) -> Refinement:
    """The proof of `map` for VMs with one RAM range."""
    refinement = Refinement(image, bind(image, "map"), specification)
    for number in (1, 2, 3):
        size = refinement.state.vm_word(refinement.arguments["vm"], VmWord.RAM + 2 * number + 1)
        refinement.solver.assume(term(size) == 0)
    return refinement


def refine_with_one_range(image: Image, specification: Callable[..., Outcome] | None = None) -> None:
    """Carries out that proof."""
    map_with_one_range(image, specification).prove()


def mutate(image: Image, call: str, offset: int, bit: int) -> Image:
    """The image with one bit of one instruction of the call flipped."""
    address = image.symbol(bind(image, call).symbol).address + offset
    word = image.instruction(address)
    assert word is not None
    return Image(image.path, {address: word ^ (1 << bit)})


def is_noticed(image: Image, call: str) -> bool:
    try:
        if call == "map":
            refine_with_one_range(image)
        else:
            Refinement(image, bind(image, call)).prove()
    except ProofFailed:
        return True
    return False


@pytest.mark.parametrize("call", ["map", "reclaim"])
def test_bit_flips_are_noticed(image: Image, call: str) -> None:
    """Of random flips all are noticed but those that change nothing, or nothing that anybody looks at.

    Such are SUB with ASR #0 for LSL #0, a sign extension of a 64-bit index, flags that nobody reads, and masks of
    address bits that are zero in every state. That they are is proved for each.
    """
    rng = random.Random(call)
    size = image.symbol(bind(image, call).symbol).size
    flips = [(STEP * rng.randrange(size // STEP), rng.randrange(32)) for _ in range(16)]
    survivors = [flip for flip in flips if not is_noticed(mutate(image, call, *flip), call)]
    start = image.symbol(bind(image, call).symbol).address
    prepare = (
        partial(map_with_one_range, image) if call == "map" else partial(Refinement, image, bind(image, call))
    )
    for offset, bit in survivors:
        word = image.instruction(start + offset)
        assert word is not None
        assert is_explained(prepare, start + offset, word ^ (1 << bit)), image.disassemble(start + offset)


def instructions(image: Image, call: str) -> list[int]:
    """Addresses of the instructions of a call."""
    symbol = image.symbol(bind(image, call).symbol)
    return list(range(symbol.address, symbol.address + symbol.size, STEP))


NOP = 0xD503201F
CRITICAL: dict[str, Callable[[str], bool]] = {
    "TLB maintenance by address": lambda text: text.startswith("tlbi ipas2e1is"),
    "TLB maintenance of the combined entries": lambda text: text.startswith("tlbi vmalle1is"),
    "instruction cache maintenance": lambda text: text.startswith("ic ialluis"),
    "barriers behind table stores": lambda text: text == "dsb ishst",
    "completion barriers": lambda text: text == "dsb ish",
    "context synchronisation": lambda text: text == "isb",
}


@pytest.mark.parametrize("what", CRITICAL)
def test_dropped_maintenance_in_map_is_noticed(image: Image, what: str) -> None:
    """Each single instruction of the kind, replaced by NOP."""
    places = [pc for pc in instructions(image, "map") if CRITICAL[what](image.disassemble(pc))]
    assert places, f"map has no {what}"
    for place in places:
        mutant = Image(image.path, {place: NOP})
        with pytest.raises(ProofFailed) as failure:
            refine_with_one_range(mutant)
        assert "trace" in failure.value.what or "missing" in failure.value.what


def test_a_counterexample_can_be_read(image: Image) -> None:
    """Drop the first comparison of vm_kill: the failure names arguments, state, code and source."""
    first = image.symbol(bind(image, "vm_kill").symbol).address
    compare = next(pc for pc in range(first, first + 64, STEP) if image.disassemble(pc).startswith("cmp"))
    mutant = Image(image.path, {compare: NOP})
    with pytest.raises(ProofFailed) as failure:
        Refinement(mutant, bind(mutant, "vm_kill")).prove()
    text = failure.value.explanation
    assert "vm = 0x" in text and "vm_kill" in text and ".rs:" in text


# The prover must notice a wrong specification.


class WithoutNeed(Transaction):
    """A transaction that forgets one of its conditions."""

    def __init__(self, before: State, forgotten: int) -> None:
        super().__init__(before)
        self._forgotten = forgotten

    def need(self, condition: Truth, status: str, detail: Word = 0, exits: bool = False) -> None:
        if self._forgotten != len(self.needs):
            super().need(condition, status, detail, exits)
        else:
            self._forgotten = -1


def without_need(call: str, forgotten: int, state: State, **arguments: Word) -> Outcome:
    """The call as specified but for one condition."""

    def definition(t: Transaction) -> None:
        DEFINITIONS[call](t, **arguments)

    return run(state, definition, partial(WithoutNeed, forgotten=forgotten))


@pytest.mark.parametrize(
    ("call", "number"),
    [
        *(("reclaim", n) for n in range(7)),
        *(("vm_split", n) for n in range(14)),
        *(("dma_allow", n) for n in range(4)),
    ],
)
def test_dropped_condition_is_noticed(image: Image, call: str, number: int) -> None:
    specification = partial(without_need, call, number)
    with pytest.raises(ProofFailed):
        Refinement(image, bind(image, call), specification).prove()


@pytest.mark.parametrize("number", range(15))
def test_dropped_condition_of_map_is_noticed(image: Image, number: int) -> None:
    specification = partial(without_need, "map", number)
    with pytest.raises(ProofFailed):
        refine_with_one_range(image, specification)


def test_changed_event_is_noticed(image: Image) -> None:
    """A specification that publishes nothing does not describe this code."""

    def silent(state: State, **arguments: Word) -> Outcome:
        class Silent(Transaction):
            def emit(self, event: object) -> None:
                if type(event).__name__ != "Publish":
                    super().emit(event)  # type: ignore[arg-type]  # any other event as it is

        return run(state, lambda t: DEFINITIONS["reclaim"](t, **arguments), Silent)

    with pytest.raises(ProofFailed, match="not specified"):
        Refinement(image, bind(image, "reclaim"), silent).prove()


class WithoutEffect(Transaction):
    """A transaction that leaves one kind of change out: a method of `Transaction` does nothing."""

    def __init__(self, before: State, method: str) -> None:
        super().__init__(before)
        setattr(self, method, lambda *_, **__: None)


FORGOTTEN = [
    ("reclaim", "zero_frame", "secrecy"), ("reclaim_block", "zero_block", "secrecy"),
    ("relinquish", "zero_frame", "secrecy"), ("first_touch", "zero_block", "secrecy"),
    ("map", "set_entry", "invariants"), ("map_block", "set_host_entry", "invariants"),
    ("dma_revoke", "set_dma_entry", "invariants"), ("unshare", "set_entry", "invariants"),
    ("vm_split", "fill_records", "invariants"), ("share_release", "set_record", "invariants"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "effect", "broken"), FORGOTTEN)
def test_a_forgotten_effect_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch, call: str, effect: str, broken: str
) -> None:
    """The theorems about the specification fail when it forgets to scrub, to unmap or to record."""
    definitions = DEFINITIONS | STEP_DEFINITIONS

    def wrong(state: State, **arguments: Word) -> Outcome:
        return run(state, lambda t: definitions[call](t, **arguments), partial(WithoutEffect, method=effect))

    table = CALLS if call in CALLS else STEPS
    monkeypatch.setitem(table, call, wrong)
    with pytest.raises(ProofFailed, match="break" if broken == "invariants" else "could not"):
        Preservation(call).prove() if broken == "invariants" else prove_step(call)


BLOCK_LEAF = "bulkhead_zero_block"


@pytest.mark.parametrize("text", ["stp xzr, xzr, [x", "dc civac", "dsb sy", "add x8", "b."])
def test_a_loop_with_an_instruction_less_is_noticed(image: Image, text: str) -> None:
    """The induction over the zeroing of a block: each instruction of a kind, replaced by NOP."""
    symbol = image.symbol(BLOCK_LEAF)
    places = [
        pc
        for pc in range(symbol.address, symbol.address + symbol.size, STEP)
        if image.disassemble(pc).startswith(text)
    ]
    assert places, f"{BLOCK_LEAF} has no {text}"
    for place in places:
        with pytest.raises(ProofFailed):
            prove_leaf(Image(image.path, {place: NOP}), BLOCK_LEAF)


def test_a_vm_call_with_an_instruction_less_is_noticed(image: Image) -> None:
    """Lock, unlock and TLB maintenance on the way of `relinquish`, each replaced by NOP."""
    covered = VmStep(image, "relinquish").prove().summary.covered
    texts = ("casal", "stlr", "tlbi")
    places = [pc for pc in sorted(covered) if image.disassemble(pc).startswith(texts)]
    assert len(places) >= len(texts)
    for place in places:
        with pytest.raises(ProofFailed):
            VmStep(Image(image.path, {place: NOP}), "relinquish").prove()


@pytest.mark.parametrize("number", range(8))
def test_dropped_condition_of_a_vm_call_is_noticed(image: Image, number: int) -> None:
    def specification(state: State, **arguments: Word) -> Outcome:
        def definition(t: Transaction) -> None:
            STEP_DEFINITIONS["share"](t, **arguments)

        return run(state, definition, partial(WithoutNeed, forgotten=number))

    with pytest.raises(ProofFailed):
        VmStep(image, "share", specification).prove()


def test_all_calls_and_steps_are_proved() -> None:
    assert set(REFINED) | set(VM_STEPS) == set(DEFINITIONS | STEP_DEFINITIONS)
