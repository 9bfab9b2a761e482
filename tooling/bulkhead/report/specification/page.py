"""The page: calls, steps, exits, state machines, invariants and promises, each from the specification's own text.

Trust label: TOOL.
"""

from __future__ import annotations

import inspect
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from bulkhead import abi
from bulkhead.prove import transitions
from bulkhead.prove.certificate import specification_digest
from bulkhead.provision.paths import REPOSITORY
from bulkhead.report import results
from bulkhead.report.certificate import CERTIFICATE
from bulkhead.report.page import environment
from bulkhead.report.specification import diagram
from bulkhead.report.specification.watch import Condition, Effect, watch
from bulkhead.spec import declassified, events, invariants, pairs, promises
from bulkhead.spec.calls import DEFINITIONS, STEP_DEFINITIONS, tested

PAGE = REPOSITORY / "build" / "spec.html"
ABI = abi.load()
CLASS = "code"
"""Of highlighted source, in the style sheet."""


@dataclass(frozen=True)
class Text:
    """A definition to be read: name, what its docstring says, where it is, and its source as HTML."""

    name: str
    doc: str
    where: str
    source: str


@dataclass(frozen=True)
class Entry:
    """A call or step. `arguments`: register and name; `proved`: the claims of the certificate."""

    text: Text
    about: str
    id: str
    arguments: tuple[tuple[str, str], ...]
    results: tuple[str, ...]
    conditions: tuple[Condition, ...]
    effects: tuple[Effect, ...]
    shapes: tuple[tuple[str, str], ...]
    proved: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """In addresses."""
        return self.text.name.replace(": ", "-").replace(" ", "-")


def main() -> Path:
    """Write the page; its file."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
    print(PAGE)
    return PAGE


def render() -> str:
    """The page."""
    certificate, claims = proofs()
    changes = transitions.changes()
    drawings = [
        (one, Markup(diagram.draw(name, changes[name])), diagram.untouched(name, changes[name]))
        for name, one in diagram.DRAWINGS.items()
    ]
    return environment().get_template("spec.html.j2").render(
        version=abi.release(), engine=results.known_hash() or "not built", now=time.time(),
        groups=groups(claims), drawings=drawings, exits=exits(), statuses=ABI.statuses, event_docs=event_docs(),
        invariants=[text(name, one) for name, one in invariant_functions().items()],
        promises=[text(name, one) for name, one in promise_functions().items()],
        certificate=certificate, claims=claims, is_current=is_current(certificate), code_style=code_style(),
        vm_learns=declassified.VM_LEARNS,
    )  # fmt: skip


def groups(claims: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str, list[Entry]]]:
    """Headline, what it is about, entries."""
    return [
        ("Calls that change ownership", "Made by the host, under the ownership lock: without it the answer is BUSY.",
         [entry(name, one, claims) for name, one in DEFINITIONS.items()]),
        ("Steps that change ownership without a call of the host", "A VM's own calls, and the first touch of a block.",
         [entry(name, one, claims) for name, one in STEP_DEFINITIONS.items()]),
        ("Other calls of the host", "They change no ownership; specified and tested, not proved.",
         [entry(name, one, claims) for name, one in {**tested.HOST_CALLS, **tested.POWER}.items()]),
        ("Calls of a VM", "Answered by the engine; specified and tested.",
         [entry(name, one, claims) for name, one in tested.VM_CALLS.items()]),
        ("Exceptions and interrupts of a VM", "Specified and tested.",
         [entry(name, one, claims) for name, one in {**tested.EXCEPTIONS, **tested.INTERRUPTS}.items()]),
    ]  # fmt: skip


def entry(name: str, definition: Callable[..., None], claims: Mapping[str, tuple[str, ...]]) -> Entry:
    """All about a call or step."""
    seen = watch(definition)
    names = tested.parameters(definition)
    caller = "vm" if name.startswith(tested.OF_VM) else "host"
    bare = name.removeprefix(tested.OF_VM)
    call = next((one for one in ABI.calls if (one.name, one.caller) == (bare, caller) and not one.reserved), None)
    standard = next((one for one in ABI.standards if one.name == bare), None)
    number = call.id if call else standard.id if standard else None
    table = pairs.table().get(name)
    shapes = tuple((one.label, pairs.UNREACHABLE.get(one, "")) for one in table.successes.values()) if table else ()
    return Entry(
        text(name, definition),
        call.doc if call else "",
        "" if number is None else f"{number:#010x}",
        registers(name, names),
        call.results if call else (),
        tuple(seen.conditions),
        tuple(seen.effects),
        shapes,
        claims.get(name, ()),
    )


def registers(name: str, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Where each argument comes from: a register, or who acts."""
    if name == "first_touch":
        return (("touched", names[0]),)
    given = [("acts", one) for one in names if one == "cpu" or (name in STEP_DEFINITIONS and one == "vm")]
    rest = [one for one in names if one not in {known for _, known in given}]
    return (*given, *((f"x{number}", one) for number, one in enumerate(rest, 1)))


def text(name: str, function: Callable[..., Any]) -> Text:
    """A function with its docstring and its source."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    path = Path(inspect.getsourcefile(function) or "")
    where = f"{path.relative_to(REPOSITORY)}:{first}" if path.is_relative_to(REPOSITORY) else path.name
    html = str(highlight("".join(lines), PythonLexer(), HtmlFormatter(cssclass=CLASS)))
    return Text(name, inspect.getdoc(function) or "", where, Markup(html))


def code_style() -> str:
    """Colours of highlighted source, for light and dark screens."""
    light = HtmlFormatter(style="default").get_style_defs(f".{CLASS}")
    dark = HtmlFormatter(style="github-dark").get_style_defs(f".{CLASS}")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def invariant_functions() -> dict[str, Callable[..., Any]]:
    """By name, each once, the one about the configuration first."""
    listed = {name: getattr(invariants, name) for entries in invariants.BY_MAP.values() for name, _ in entries}
    return {"config": invariants.config, **listed}


def promise_functions() -> dict[str, Callable[..., Any]]:
    """The functions that state P5, P6 and P7."""
    members = inspect.getmembers(promises, inspect.isfunction)
    stated = {name: one for name, one in members if re.match(r"P\d:", one.__doc__ or "")}
    return dict(sorted(stated.items(), key=lambda item: (item[1].__doc__ or "", item[0])))


def exits() -> list[tuple[abi.ExitClass, tuple[str, ...]]]:
    """Exit classes, and what the host learns by each."""
    return [
        (one, tuple(source.text for source in declassified.HOST_LEARNS.get(one.name, ())))
        for one in ABI.exits if not one.reserved
    ]  # fmt: skip


def event_docs() -> dict[str, str]:
    """Event → what it is in the machine."""
    return {
        name: " ".join((inspect.getdoc(one) or "").split())
        for name, one in inspect.getmembers(events, inspect.isclass) if one.__module__ == events.__name__
    }  # fmt: skip


def is_current(certificate: Mapping[str, Any] | None) -> bool:
    """Whether what was proved is today's engine and today's specification."""
    return certificate is not None and (certificate["elf_sha256"], certificate["specification_sha256"]) == (
        results.known_hash(),
        specification_digest(),
    )


def proofs() -> tuple[dict[str, Any] | None, dict[str, tuple[str, ...]]]:
    """The certificate of the last `inv prove`, None if there is none, and its claims by subject."""
    try:
        document: dict[str, Any] = json.loads(CERTIFICATE.read_text())
    except (OSError, ValueError):
        return None, {}
    claims: dict[str, tuple[str, ...]] = {}
    for one in document["proved"]:
        claims[one["subject"]] = (*claims.get(one["subject"], ()), one["claim"])
    return document, claims
