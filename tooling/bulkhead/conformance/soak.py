"""Random calls for a long time, each compared with the specification. Trust label: TOOL."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter

from bulkhead.conformance import invariants
from bulkhead.conformance.host import HostBackend
from bulkhead.conformance.machine import Machine, describe
from bulkhead.conformance.oracle import Oracle
from bulkhead.conformance.propose import Proposer
from bulkhead.conformance.snapshot import Snapshot
from bulkhead.errors import CheckFailed

LIFE = 2000
"""Steps on one machine before the next."""
RUNS = 0.08
"""Share of calls that load and unload vCPUs, which the specification does not describe."""
TAIL = 12
"""Calls that a failure shows."""


def main(*, minutes: float = 10, seed: int = 0) -> None:
    """Runs for `minutes` on the host build. Raises CheckFailed, with the seed and the last calls, at a difference."""
    seed = seed or secrets.randbelow(1 << 32)
    deadline = time.monotonic() + 60 * minutes
    steps = lives = 0
    covered: Counter[tuple[str, str]] = Counter()
    while time.monotonic() < deadline:
        done, branches = live(random.Random(f"{seed}/{lives}"), LIFE, deadline, f"{seed}, life {lives}")
        steps, lives = steps + done, lives + 1
        covered.update(branches)
    print(f"{steps} calls on {lives} machines agree with the specification; seed {seed}")
    for (name, branch), count in sorted(covered.items()):
        print(f"  {name}: {branch} (in {count} lives)")


def live(choices: random.Random, steps: int, deadline: float, label: str) -> tuple[int, set[tuple[str, str]]]:
    """Up to `steps` calls on a new machine: how many, and the branches of the specification that they took."""
    backend = HostBackend()
    machine = Machine(backend)
    oracle, proposer = Oracle(machine), Proposer(machine, choices)
    history: list[str] = []
    try:
        for step in range(steps):
            if time.monotonic() > deadline:
                return step, oracle.covered
            cpu = choices.randrange(machine.layout.cpus)
            if choices.random() < RUNS:
                name, arguments = proposer.run()
                machine.call(name, cpu=cpu, **arguments)
                oracle.forget()
            else:
                name, arguments = proposer.call()
                oracle.step(name, cpu=cpu, **arguments)
            history.append(describe(name, arguments, cpu))
            if step % 50 == 0:
                invariants.check(Snapshot.take(machine))
    except AssertionError as error:
        lines = "\n  ".join(history[-TAIL:])
        raise CheckFailed(f"{error}\nthe last calls:\n  {lines}", where=f"seed {label}") from error
    finally:
        backend.close()
    return steps, oracle.covered
