"""Whether a history has an explanation: an order of atomic steps that fits real time, all answers and the final memory.

Trust label: TOOL. Linearizability as M. Herlihy and J. Wing define it (TOPLAS 12(3), 1990), for calls that are one
atomic step or several. The search goes depth first and takes what began first first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bulkhead.errors import CheckFailed
from bulkhead.spec.plain import MAPS

from .model import begin, lock_answers
from .program import Event, History, changed_otherwise
from .world import Rest, Unlike, World

Item = TypeVar("Item")
STEPS_MAX = 300_000
"""Atomic steps that one search may try."""
EASY = 200
"""A search that has tried more of them remembers which ways led nowhere."""


@dataclass(frozen=True)
class Explanation:
    """Events in the order of their first atomic steps, and the world behind them."""

    order: tuple[Event, ...]
    world: World
    busy: int
    """Events that answered BUSY because another held the lock."""

    @property
    def reordered(self) -> bool:
        """Whether no order explains it in which every event takes place before those that began later."""
        return list(self.order) != sorted(self.order, key=lambda event: event.began)


@dataclass(frozen=True)
class Unexplained:
    """Why not: the order that came farthest, and what is wrong behind it."""

    order: tuple[Event, ...]
    reasons: tuple[str, ...]


@dataclass
class Node:
    """A place in the search: what each CPU does next, the world, and the order so far."""

    left: tuple[tuple[Event, ...], ...]
    open: tuple[Rest | None, ...]
    world: World
    order: tuple[Event, ...]


class Search:
    """Of one machine. `differences`: what memory and a final world differ in; `counters`: for `activate`, by VM."""

    def __init__(self, differences: Callable[[World], Sequence[str]], counters: Callable[[int], int]) -> None:
        self._differences, self._counters = differences, counters
        self._tried = 0
        self._dead: set[object] = set()
        self._best: tuple[tuple[int, int], Unexplained] | None = None

    def explain(self, history: History, world: World) -> Explanation | Unexplained:
        """An order from `world` on, or why there is none. CheckFailed if the search takes too long."""
        self._tried, self._best, self._dead = 0, None, set()
        damage = [text for text in map(changed_otherwise, history) if text]
        if damage:
            return Unexplained((), tuple(damage))
        busy = list(lock_answers(history))
        dropped = {id(event) for event, holders in busy if holders}
        events = [event for event in history if id(event) not in dropped]
        cpus = sorted({event.step.cpu for event in events})
        left = tuple(tuple(event for event in events if event.step.cpu == cpu) for cpu in cpus)
        found = self._from(Node(left, (None,) * len(left), world, ()))
        if found is None:
            assert self._best is not None
            return self._best[1]
        return Explanation(found.order, found.world, len(dropped))

    def _from(self, node: Node) -> Node | None:
        waiting = [number for number, events in enumerate(node.left) if events]
        if not waiting:
            reasons = tuple(self._differences(node.world))
            if not reasons:
                return node
            self._note(node, reasons)
            return None
        place = self._place(node)
        if place is not None and place in self._dead:
            return None
        first_end = min(node.left[number][0].ended for number in waiting)
        for number in sorted(waiting, key=lambda number: node.left[number][0].began):
            if node.left[number][0].began < first_end:
                found = self._take(node, number)
                if found is not None:
                    return found
        if place is not None:
            self._dead.add(place)
        return None

    def _place(self, node: Node) -> object | None:
        """What decides the rest of a long search, where every CPU is between two events: other ways lead here, too."""
        if self._tried < EASY or any(node.open):
            return None
        return tuple(map(len, node.left)), _signature(node.world)

    def _take(self, node: Node, number: int) -> Node | None:
        """The next atomic step of a CPU, and all that may follow."""
        self._tried += 1
        if self._tried > STEPS_MAX:
            raise CheckFailed(
                f"no order found in {STEPS_MAX} steps", hint="the program has too many calls at once"
            )
        event, rest = node.left[number][0], node.open[number]
        step = rest or begin(event, self._counters(event.step.arguments.get("vm", 0)))
        try:
            taken = step(node.world)
        except Unlike as unlike:
            self._note(node, (str(unlike),))
            return None
        left = _with(node.left, number, node.left[number][1:]) if taken.rest is None else node.left
        order = node.order if rest else (*node.order, event)
        return self._from(Node(left, _with(node.open, number, taken.rest), taken.world, order))

    def _note(self, node: Node, reasons: tuple[str, ...]) -> None:
        """Keep the order that explains most events, then the one with the fewest differences."""
        rank = (sum(map(len, node.left)), len(reasons))
        if self._best is None or rank < self._best[0]:
            self._best = (rank, Unexplained(node.order, reasons))


def _signature(world: World) -> object:
    """Equal for two worlds of one search only if they are equal."""
    words: dict[tuple[str, object], object] = {}
    for state in world.path:
        for name in MAPS:
            layer = getattr(state, name)
            for keys, value, same in layer.spans():
                words = {
                    place: word for place, word in words.items() if place[0] != name or place[1] not in keys
                }
                words[name, keys] = value(keys.start) if same else object()
            words |= {(name, key): value for key, value in layer.changed().items()}
    return frozenset(words.items()), world.loaded, frozenset(world.guests.items())


def _with(items: tuple[Item, ...], number: int, item: Item) -> tuple[Item, ...]:
    return (*items[:number], item, *items[number + 1 :])
