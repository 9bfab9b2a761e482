"""Random steps on the host build of a defective engine, in a process of its own: `python -m bulkhead.defects.trial`.

Trust label: TOOL. `BULKHEAD_HOST_LIBRARY` names the library. Ends with one line of JSON: whether a step differed from
the specification, how it reads, and after how many. A step that does not return is told by a watching thread, and ends
the process; what kills the process is told by the one that started it (`hunt`).
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from types import FrameType

from bulkhead.conformance.backends import host
from bulkhead.conformance.sequences.life import KITS, Life
from bulkhead.conformance.testing.machine import describe
from bulkhead.errors import MachineError
from bulkhead.spec.pairs import Pair

STEP_SECONDS = 10
"""A step that takes longer does not return."""
LIVES = 1000
LIFE = 400
"""Steps on one machine: short lives, so that all begin often."""


@dataclass(frozen=True)
class Verdict:
    """What the steps have shown; `step` is empty if nothing was wrong in all of `steps`."""

    step: str
    steps: int


def main(seed: str, seconds: float) -> int:
    """Steps until one differs, at most `seconds`."""
    counted, seen = Counter[str](), Counter[Pair]()
    watching(counted)
    deadline = time.monotonic() + seconds
    for life in range(LIVES):
        machine = Life(KITS[life % len(KITS)], random.Random(f"{seed}/{life}"), seen)
        try:
            machine.run(LIFE)
        except AssertionError as error:
            return tell(Verdict(str(error), counted["steps"]))
        except MachineError as error:
            return tell(Verdict(f"{under_way(traced(error))}\n  {error}", counted["steps"]))
        counted["steps"] += machine.calls
        if time.monotonic() > deadline:
            break
    return tell(Verdict("", counted["steps"]))


def tell(verdict: Verdict) -> int:
    """The last line."""
    print(json.dumps(asdict(verdict)), flush=True)
    return 0


def watching(counted: Counter[str]) -> None:
    """Ends the process from another thread when the main thread stays in one step."""

    def watch() -> None:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        last, since = None, time.monotonic()
        while True:
            time.sleep(1)
            step = engine_call(sys._current_frames().get(main_thread))
            if step is None or step is not last:
                last, since = step, time.monotonic()
            elif time.monotonic() - since > STEP_SECONDS:
                text = under_way(outward(step))
                tell(Verdict(f"{text}\n  has not returned after {STEP_SECONDS} s", counted["steps"]))
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def engine_call(frame: FrameType | None) -> FrameType | None:
    """The frame that waits for the engine's library, if the innermost one does."""
    return frame if frame is not None and frame.f_code.co_filename == host.__file__ else None


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def traced(error: BaseException) -> list[FrameType]:
    """The frames that an exception came through, the innermost first."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def under_way(frames: Iterable[FrameType]) -> str:
    """The step that is being made in these frames, as a line for people."""
    for frame in frames:
        values = frame.f_locals
        if isinstance(values.get("name"), str):
            numbers = values.get("arguments") or {
                key: values[key] for key in ("vm", "x1", "x2", "x3") if key in values
            }
            return describe(values["name"], numbers, values.get("cpu", 0))
    return "a step"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
