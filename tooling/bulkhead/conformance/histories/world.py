"""Where a search is: the specification's state, and what that does not hold. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bulkhead.spec import Record, State

from .guest import Guest


@dataclass(frozen=True)
class World:
    """The specification's state, which frame's vCPU each CPU has loaded, how far the vCPUs (by frame) have come, and
    the world that this one came of.
    """

    state: State
    loaded: tuple[int | None, ...]
    guests: Mapping[int, Guest] = field(default_factory=dict)
    before: World | None = None

    def then(self, state: State, loaded: tuple[int | None, ...] | None = None) -> World:
        """The world behind an atomic step."""
        return World(state, self.loaded if loaded is None else loaded, self.guests, self)

    def with_guest(self, frame: int, guest: Guest) -> World:
        """The same, but for how far a vCPU has come."""
        return World(self.state, self.loaded, {**self.guests, frame: guest}, self)

    def with_record(self, frame: int, record: Record) -> World:
        """The same, but for the record of a frame."""
        state = replace(self.state, frame=self.state.frame.copy())
        state.frame.set(frame, record, True)
        return self.then(state)

    @property
    def path(self) -> list[State]:
        """All states up to this one, the first one first."""
        states: list[State] = []
        world: World | None = self
        while world is not None:
            states.append(world.state)
            world = world.before
        return states[::-1]


class Unlike(Exception):
    """A step answered, or goes on, otherwise than here."""


Rest = Callable[[World], "Taken"]
"""What is left of a step."""


@dataclass(frozen=True)
class Taken:
    """The world after an atomic step, and what is left to do, if anything."""

    world: World
    rest: Rest | None = None
