"""All defects of tests/defects. Trust label: TOOL."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from bulkhead.defects.declaration import Declaration, Defect
from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.provision.paths import REPOSITORY

TESTS = REPOSITORY / "tests"


def load() -> list[Defect]:
    """Every defect, by family and name. CheckFailed for a file that declares none, or two of one name."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    found: dict[str, Defect] = {}
    for path in sorted((TESTS / "defects").glob("*/*.py")):
        one = _of(path)
        if one.name in found:
            raise CheckFailed(f"two defects are called {one.name}", where=path, hint="rename one")
        found[one.name] = one
    return list(found.values())


def select(names: list[str]) -> list[Defect]:
    """The defects of these names or families; all of them for none. InvalidInput for an unknown one."""
    every = load()
    for name in names:
        if not any(name in (one.name, one.family) for one in every):
            raise InvalidInput(f"there is no defect {name!r}", hint="`inv defects --list` names all")
    return [one for one in every if not names or {one.name, one.family} & set(names)]


def _of(path: Path) -> Defect:
    family, name = path.parent.name, path.stem
    module = importlib.import_module(f"defects.{family}.{name}")
    declared = getattr(module, "DEFECT", None)
    title = " ".join((module.__doc__ or "").split("\n\n")[0].split()).removesuffix(".")
    if not isinstance(declared, Declaration) or not title:
        raise CheckFailed(
            "this file declares no DEFECT, or has no docstring",
            where=path,
            hint="one file, one defect, whose title is the first sentence of the docstring",
        )
    return Defect(family, name, title, declared.breaks, declared.edits, declared.found_by)
