"""All attacks of tests/attack. Trust label: TOOL."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from bulkhead.attack.declaration import Attack
from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.provision.paths import REPOSITORY

TESTS = REPOSITORY / "tests"


def load() -> list[Attack]:
    """Every attack, by subject and name. CheckFailed for a file that declares none, or two of one name."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    found: dict[str, Attack] = {}
    for path in sorted((TESTS / "attack").glob("*/*.py")):
        module = importlib.import_module(f"attack.{path.parent.name}.{path.stem}")
        one = _of(module)
        if one.name in found:
            raise CheckFailed(f"two attacks are called {one.name}", where=path, hint="rename one")
        found[one.name] = one
    return list(found.values())


def select(names: list[str]) -> list[Attack]:
    """The attacks of these names or subjects; all of them for none. InvalidInput for an unknown one."""
    every = load()
    for name in names:
        if not any(name in (one.name, one.subject) for one in every):
            raise InvalidInput(f"there is no attack {name!r}", hint="`inv attack --list` names all")
    return [one for one in every if not names or {one.name, one.subject} & set(names)]


def _of(module: ModuleType) -> Attack:
    declared = [value for value in vars(module).values() if isinstance(value, Attack)]
    if len(declared) != 1 or not declared[0].title:
        raise CheckFailed(
            f"{module.__name__} declares {len(declared)} attacks, or has no docstring",
            where=module.__file__,
            hint="one file, one attack, whose title is the first sentence of the docstring",
        )
    return declared[0]
