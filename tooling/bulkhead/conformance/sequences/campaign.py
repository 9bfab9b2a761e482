"""Conformance of booted machines: as many steps as are asked for, on one machine after the other, and what they showed.

Trust label: TOOL. A seed determines every step.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bulkhead.conformance.backends import trapping
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.oracle.oracle import DMA_WINDOWS
from bulkhead.conformance.sequences.aim import Aim
from bulkhead.conformance.sequences.blind import BlindOracle
from bulkhead.conformance.sequences.booted import BootedOracle
from bulkhead.conformance.sequences.booted_vcpus import BootedVcpus
from bulkhead.conformance.sequences.guide_turns import Turns
from bulkhead.conformance.sequences.second_touch import touch_twice
from bulkhead.conformance.sequences.trial import Judge, Trial
from bulkhead.conformance.testing.builder import RAM
from bulkhead.conformance.testing.machine import Machine
from bulkhead.conformance.testing.seat import NAMES, PSEUDO_TERMINAL, starter
from bulkhead.errors import BulkheadError, CheckFailed, InvalidInput, MachineError
from bulkhead.image.build import Images, build
from bulkhead.provision import qemu as program
from bulkhead.provision.paths import runner
from bulkhead.report import baselines, results
from bulkhead.spec import pairs
from bulkhead.spec.pairs import Pair

LIFE = 2500
"""Steps on one machine before the next, which has all its blocks whole and untouched again."""
SHORT_LIFE = 800
"""Steps on a machine without an SMMU and random numbers."""
ALL = 20_000
"""Calls after which every pair must have been seen."""
KEPT = "conform_qemu"
"""Name of the claim."""
LOST_MAX = 3
"""Machines that stop answering before a run ends."""
EVERYTHING = 10_000
"""More blocks than there are."""
BESIDE = "turns of vCPUs need raw memory to be followed"
"""Why pairs of vCPUs and of calls beside ownership are not counted on metal."""
CPU_MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
"""One after the other."""
WINDOWS = ("dma_allow", "dma_revoke")
"""Calls that need an SMMU."""
SHORT = 2000
"""Steps of the short form, on metal."""
FULL = {"qemu": ALL, "metal": SHORT}
"""Steps of a run that is not reduced."""


@dataclass(frozen=True)
class Board:
    """A machine that took part."""

    cpus: int
    frames: int
    smmu: bool
    calls: int


@dataclass
class Findings:
    """What the steps of one backend showed. `undecided` are the pairs that it cannot show, and why; `lost` says what
    happened to machines that did not get to the end; `options` of the command are those that name the machine.
    """

    backend: str
    seed: int
    undecided: dict[Pair, str]
    options: str = ""
    lost: list[str] = field(default_factory=list)
    counts: Counter[Pair] = field(default_factory=Counter)
    successes: int = 0
    boards: list[Board] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Steps taken."""
        return sum(board.calls for board in self.boards)

    @property
    def asked(self) -> tuple[Pair, ...]:
        """Pairs that should be seen."""
        return tuple(pair for pair in pairs.every_reachable() if pair not in self.undecided)

    @property
    def missing(self) -> list[Pair]:
        """Those that were not."""
        return [pair for pair in self.asked if not self.counts[pair]]

    def command(self, calls: int) -> str:
        """What does the same again."""
        return f"{runner()} conform --backend {self.backend} --calls {calls} --seed {self.seed}{self.options}"

    def data(self) -> dict[str, Any]:
        """As results are kept."""
        return {
            "backend": self.backend,
            "calls": self.calls,
            "successes": self.successes,
            "sequences": len(self.boards),
            "machines": [asdict(board) for board in self.boards],
            "pairs": {str(pair): self.counts[pair] for pair in self.asked},
            "unreachable": [str(pair) for pair in pairs.unreachable()],
            "undecided": {str(pair): why for pair, why in self.undecided.items()},
            "lost": self.lost,
            "seed": self.seed,
        }


def wanted(*, smmu: bool, without: Collection[Pair]) -> list[Pair]:
    """The pairs that a machine with or without an SMMU can show."""
    windows = [pair for pair in pairs.reachable() if pair.step in WINDOWS]
    refusals = [pair for pair in windows if pair.label == "1. NOT_SUPPORTED"]
    beyond = {*(refusals if smmu else set(windows) - set(refusals)), *without}
    return [pair for pair in pairs.reachable() if pair not in beyond]


def live(
    judge: Judge,
    findings: Findings,
    calls: int,
    steps: int,
    *,
    smmu: bool,
    first: Callable[[], Sequence[Pair]] = tuple,
) -> None:
    """One machine, from its boot on; `first` is done before all else, and gives the pairs that it has shown.

    CheckFailed says what differs, and how to see it again. A machine that stops answering is noted, and left; the third
    ends the run.
    """
    number = len(findings.boards)
    choices = Random(f"{findings.seed}/{number}")
    aim = Aim(choices, wanted(smmu=smmu, without=findings.undecided), findings.counts)
    turns = Turns(judge, findings.counts, choices) if isinstance(judge, BootedVcpus) else None
    trial = Trial(judge, aim, choices, turns)
    layout = judge.machine.layout
    replay = findings.command(calls)
    try:
        findings.counts.update(first())
        trial.run(steps)
    except AssertionError as error:
        raise CheckFailed(f"{error}\n  machine {number}, step {trial.steps}", where=replay) from error
    except MachineError as error:  # what the last step has done is not known
        findings.lost.append(f"machine {number}, step {trial.steps}: {error}")
        if len(findings.lost) == LOST_MAX:
            raise CheckFailed("\n".join(findings.lost), where=replay) from error
    except BulkheadError as error:
        error.hint = f"{error.hint or ''}\n  to see it again: {replay}".strip()
        raise
    findings.successes += trial.successes
    findings.boards.append(Board(layout.cpus, layout.frames, smmu, trial.steps))


def on_qemu(
    calls: int = ALL, seed: int = 0, *, thorough: bool = False, images: Images | None = None
) -> Findings:
    """The shipped image in QEMU, or another. `thorough` compares the whole state after each step. CheckFailed."""
    undecided = {pair: str(elsewhere) for pair, elsewhere in coverable.ELSEWHERE_ON_QEMU.items()}
    findings = Findings("qemu", seed or secrets.randbelow(1 << 32), undecided)
    images, executable = images or build("pinned", "payload"), str(program.ensure())
    while findings.calls < calls:
        smmu = bool(findings.boards)  # the first has none, and no source of random numbers
        steps = min(LIFE, calls - findings.calls) if smmu else min(SHORT_LIFE, calls)
        backend = QemuBackend(
            images,
            executable,
            cpus=2 if smmu else 3,
            cpu_model=CPU_MODELS[max(len(findings.boards) - 1, 0) % len(CPU_MODELS)],
            extra=() if smmu else ("-machine", "dtb-randomness=off"),
            untouched=EVERYTHING,
            smmu=smmu,
        )
        try:
            judge = BootedVcpus(Machine(backend), trapping.program(RAM), thorough=thorough)
            live(judge, findings, calls, steps, smmu=smmu, first=partial(_first, judge, backend))
        finally:
            backend.close()
    return findings


def _first(judge: BootedOracle, backend: QemuBackend) -> tuple[Pair, ...]:
    """What random steps would show seldom or never: CPUs that meet, refusals of the one machine without an SMMU."""
    shown = tuple(touch_twice(judge, backend))
    if judge.has_dma:
        return shown
    for name in WINDOWS:
        judge.step(name, block=judge.machine.layout.split_block)
    return (*shown, *(Pair(name, "1. NOT_SUPPORTED") for name in WINDOWS))


def on_metal(
    calls: int = SHORT, seed: int = 0, *, serial: str = PSEUDO_TERMINAL, power: str = ""
) -> Findings:
    """The payload over a serial line, reset between lives; what the host sees is compared. CheckFailed."""
    touched = "all blocks have been touched when this backend starts"
    undecided = {pair: touched for pair in pairs.reachable() if "NOT_CLEARED" in pair.label}
    undecided |= {pair: touched for pair in pairs.reachable() if pair.step == "first_touch"}
    undecided |= {pair: BESIDE for pair in pairs.every_reachable() if pair not in pairs.reachable()}
    backend = starter("metal", "pinned", serial, power)()
    try:
        has_smmu = Machine(backend).ok("features").results["features"] & DMA_WINDOWS != 0
        beyond = {*pairs.reachable()} - {*wanted(smmu=has_smmu, without=())}
        undecided |= dict.fromkeys(beyond, f"the machine has {'an' if has_smmu else 'no'} SMMU")
        options = f" --serial {serial}" if serial != PSEUDO_TERMINAL else ""
        options += f" --power {shlex.quote(power)}" if power else ""
        findings = Findings("metal", seed or secrets.randbelow(1 << 32), undecided, options)
        while findings.calls < calls:
            if findings.boards:
                backend.reset()
            steps = min(LIFE, calls - findings.calls)
            live(BlindOracle(Machine(backend)), findings, calls, steps, smmu=has_smmu)
    finally:
        backend.close()
    return findings


def conclude(findings: Findings, calls: int, seconds: float) -> Path:
    """Keeps what was found. CheckFailed if a machine was lost, or pairs are missing after so many calls that all must
    have been seen.
    """
    where = results.write(
        "conform", findings.backend, findings.data(), command=findings.command(calls), seconds=seconds,
        reduced=calls < FULL[findings.backend],
    )  # fmt: skip
    if findings.lost:
        raise CheckFailed("\n".join(findings.lost), where=findings.command(calls))
    if calls >= ALL and findings.missing:
        raise CheckFailed(
            f"never seen: {', '.join(map(str, findings.missing))}", where=findings.command(calls)
        )
    return where


def main(
    backend: str,
    *,
    calls: int = 0,
    seed: int = 0,
    thorough: bool = False,
    serial: str = PSEUDO_TERMINAL,
    power: str = "",
    record: bool = False,
) -> Findings:
    """Runs, prints, keeps and gives back what was found; without `calls`, as many as the backend is worth; with
    `record`, a full run on `qemu` becomes the claim that tests check. CheckFailed at a difference.
    """
    started = time.monotonic()
    if backend not in FULL:
        raise InvalidInput(f"there is no backend '{backend}'", hint=f"choose from {', '.join(NAMES)}")
    calls, seed = calls or FULL[backend], seed or secrets.randbelow(1 << 32)
    again = Findings(backend, seed, {}).command(calls)
    with results.failing("conform", backend, command=again, reduced=calls < FULL[backend]):
        if backend == "qemu":
            findings = on_qemu(calls, seed, thorough=thorough)
        else:
            findings = on_metal(calls, seed, serial=serial, power=power)
    seconds = time.monotonic() - started
    where = conclude(findings, calls, seconds)
    seen = len(findings.counts)
    print(
        f"{findings.calls} steps on {len(findings.boards)} machines agree with the specification, "
        f"{100 * findings.successes // findings.calls} % successes, {seen} pairs seen, "
        f"{len(findings.missing)} missing, {seconds:.0f} s; seed {findings.seed}"
    )
    for pair in findings.missing:
        print(f"  not seen: {pair}")
    print(f"results: {where}")
    if record and backend == "qemu" and calls >= ALL:
        baselines.keep(KEPT, claim(findings))
    return findings


def claim(findings: Findings) -> dict[str, Any]:
    """The result of a full run as it is checked in: all but the counts of single pairs."""
    rarest = min(findings.asked, key=lambda pair: findings.counts[pair])
    kept = {"calls": findings.calls, "successes": findings.successes, "machines": len(findings.boards)}
    seen = {"pairs": len(findings.asked), "rarest": f"{rarest} ({findings.counts[rarest]})"}
    return kept | seen | {"missing": len(findings.missing), "seed": findings.seed}
