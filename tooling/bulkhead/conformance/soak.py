"""Random calls for a long time, each compared with the specification. Trust label: TOOL."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter

from bulkhead.conformance import invariants
from bulkhead.conformance.backend import PAGE
from bulkhead.conformance.builder import RAM, Vm
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
VM_CALLS = 0.2
"""Share of steps that a VM takes."""
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
    running_vm(machine)
    oracle, proposer = Oracle(machine), Proposer(machine, choices)
    history: list[str] = []
    try:
        for step in range(steps):
            if time.monotonic() > deadline:
                return step, oracle.covered
            cpu = choices.randrange(machine.layout.cpus)
            history.append(one_step(oracle, proposer, choices, cpu))
            if step % 50 == 0:
                invariants.check(Snapshot.take(machine))
                invariants.check_reach(machine)
    except AssertionError as error:
        lines = "\n  ".join(history[-TAIL:])
        raise CheckFailed(f"{error}\nthe last calls:\n  {lines}", where=f"seed {label}") from error
    finally:
        backend.close()
    return steps, oracle.covered


def running_vm(machine: Machine) -> None:
    """A VM that can make calls from the start, with pages; what random calls seldom complete."""
    vm = Vm(machine)
    for number in range(3):
        vm.page(RAM + number * PAGE)
    vm.activate()
    machine.forget_taken()


def one_step(oracle: Oracle, proposer: Proposer, choices: random.Random, cpu: int) -> str:
    """A call of the host, one of a VM, or one that loads or unloads a vCPU; as text."""
    kind = choices.random()
    by_vm = proposer.vm_call() if kind < VM_CALLS else None
    if by_vm is not None:
        name, vm, (x1, x2, x3) = by_vm
        oracle.vm_step(name, vm, x1, x2, x3, cpu=cpu)
        return f"VM {vm}: {name}({x1:#x}, {x2:#x}, {x3:#x}) on CPU {cpu}"
    if kind < VM_CALLS + RUNS:
        name, arguments = proposer.run()
        oracle.machine.call(name, cpu=cpu, **arguments)
        oracle.forget()
    else:
        name, arguments = proposer.call()
        oracle.step(name, cpu=cpu, **arguments)
    return describe(name, arguments, cpu)
