"""What the host can load, block by block and, in split blocks, frame by frame. Trust label: TOOL.

It is what remains of a comparison of states where nobody can read the engine's records: hardware itself answers, and
a frame that moved between the host and anybody else shows. What moved between two others does not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE, Backend


@dataclass(frozen=True)
class ReachChanges:
    """Addresses of blocks, or of frames of split blocks, that the host reaches no more, and those it reaches now."""

    lost: tuple[int, ...]
    gained: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.lost or self.gained)

    def __str__(self) -> str:
        lines = [f"the host no longer reaches {address:#x}" for address in self.lost]
        lines += [f"the host reaches {address:#x} now" for address in self.gained]
        return "\n".join(lines) or "nothing that the host can see"


@dataclass(frozen=True)
class Reach:
    """Address of each block, and of each frame of a split one → whether a load by the host works there."""

    reached: dict[int, bool]

    @classmethod
    def take(cls, backend: Backend, split: Collection[int]) -> Reach:
        """Tries all of RAM; `split` are the addresses of the split blocks."""
        layout = backend.layout
        blocks = range(layout.ram_base, layout.end, BLOCK)
        reached = dict(zip(blocks, backend.survey(layout.ram_base, BLOCK, layout.blocks), strict=True))
        for block in split:
            frames = range(block, block + BLOCK, PAGE)
            reached |= zip(frames, backend.survey(block, PAGE, FRAMES_IN_BLOCK), strict=True)
        return cls(reached)

    def changes(self, after: Reach) -> ReachChanges:
        """What `after` differs in. A block that was split in between counts by its frames from then on."""
        new = after.reached
        lost = [address for address, was in self.reached.items() if was and not new.get(address)]
        gained = [address for address, now in new.items() if now and not self.reached.get(address)]
        return ReachChanges(tuple(sorted(lost)), tuple(sorted(gained)))
