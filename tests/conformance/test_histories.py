"""Calls of several CPUs at once: each history on the booted engine has an explanation by the specification, and engines
whose locks and claims are broken have histories that do not.

A few hundred by default; `inv soak` carries out 5,000 and leaves in `ci/baselines/histories.json` what it found about
which engine.
"""

from __future__ import annotations

from random import Random

import pytest

from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.histories.campaign import SPARE_BLOCKS, Counts, Ground
from bulkhead.conformance.histories.cli import FULL, carry_out, run
from bulkhead.errors import CheckFailed
from bulkhead.image.build import build
from bulkhead.image.variant import Edit, build_variant
from bulkhead.inspect.records import Kind
from bulkhead.provision import qemu
from bulkhead.report import baselines
from defects.lock.call_changes_unlocked import DEFECT as EARLY_UNLOCK

MANY = 500
LIMIT = 1500
"""Histories after which a broken engine has got away."""
DISPATCH, RUN = "engine/core/src/call/dispatch.rs", "engine/core/src/vcpu/run.rs"
BROKEN = {
    "the lock is released before the changes": EARLY_UNLOCK.edits,
    "map releases the lock after its checks": (
        Edit(
            "engine/core/src/call/map.rs",
            "    withdraw_from_host(hw, frame);\n",
            "    hw.unlock();\n    withdraw_from_host(hw, frame);\n",
        ),
    ),
    "no lock": (
        Edit("engine/arch/src/machine.rs", "let taken = exchange(LOCK.as_ptr(), 0, 1);", "let taken = true;"),
    ),
    "BUSY with an effect": (
        Edit(
            DISPATCH,
            "    if !hw.try_lock() {\n",
            "    if !hw.try_lock() {\n        let _ = ownership_call(hw, function, regs);\n",
        ),
    ),
    "a vCPU is claimed by a plain store": (
        Edit(
            RUN,
            "|| !hw.exchange_frame_record(frame, record, claimed) {\n        return Err(Outcome::BUSY);\n    }\n",
            "{\n        return Err(Outcome::BUSY);\n    }\n    hw.set_frame_record(frame, claimed);\n",
        ),
    ),
}


@pytest.mark.qemu
@pytest.mark.slow
def test_histories_are_explained() -> None:
    of_two, of_four = carry_out(MANY, seed=1).values()
    for counts in (of_two, of_four):
        assert counts.explained == counts.histories
        assert counts.overlapping > counts.histories // 20
    assert of_two.histories + of_four.histories == MANY
    assert of_two.busy > MANY // 20  # four are more than this computer may have, and meet by chance
    assert of_two.reordered > 0


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.parametrize("edits", BROKEN.values(), ids=BROKEN)
def test_a_broken_engine_has_a_history_without_explanation(edits: tuple[Edit, ...]) -> None:
    counts = Counts()
    with pytest.raises(CheckFailed, match="no order of atomic steps explains this history") as failure:
        run(build_variant(edits), 2, LIMIT, "broken", counts)
    print(counts.histories, failure.value)
    assert "then at once" in str(failure.value)
    assert "--replay" in str(failure.value)


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.slow
def test_what_the_host_program_is_in_is_no_block_to_play_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """When few whole blocks are left: giving that one away ends the program, or changes what it notes."""
    backend = QemuBackend(build("pinned", "payload"), str(qemu.ensure()))
    try:
        ground = Ground(backend, Random(1), cpus=2)
        assert backend.programs
        left = sorted(backend.programs) + ground.machine.blocks(Kind.HOST)[-SPARE_BLOCKS + 1 :]
        monkeypatch.setattr(ground.machine, "blocks", lambda _kind: left)
        used = ground.resources().blocks
    finally:
        backend.close()
    assert len(used) == SPARE_BLOCKS
    assert not backend.programs & {*used}


def test_the_record_is_about_this_engine() -> None:
    claimed = baselines.claimed("histories")
    assert claimed["explained"] == claimed["histories"] >= FULL
