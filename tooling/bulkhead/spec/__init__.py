"""What the engine's calls do: the one statement that tests, generators and proofs share.

Trust label: STATEMENT. The same text runs on plain integers (the oracle of the conformance tests) and on
solver terms (the theorem about the machine code). Start with `calls.pages.map_`, which reads top-down:
the conditions in the order of their errors, then the changes in the order in which they happen.

`calls.DEFINITIONS` and `calls.STEP_DEFINITIONS` change ownership and are proved. `calls.tested` has everything else:
`vcpu_run`, what a vCPU does, discovery. The engine is tested against these, not proved. `dispatch` leads from registers
and syndromes to definitions; `promises` and `declassified` say what none of them may do.

Use as an oracle::

    state = plain.from_words(...)              # or plain.from_grounds(...), on a memory image
    outcome = CALLS["map"](state, vm=0, ipa=0x4000_0000, frame=0x8020_0000, mode=0)
    outcome.status, outcome.detail, outcome.results, outcome.state, outcome.events
"""

from .calls import ARGUMENTS, CALLS, STEPS
from .state import Config, Record, State
from .transaction import Outcome, Transaction

__all__ = ["ARGUMENTS", "CALLS", "STEPS", "Config", "Outcome", "Record", "State", "Transaction"]
