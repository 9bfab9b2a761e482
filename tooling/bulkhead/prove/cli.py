"""`python3 tasks.py prove`: build the image, prove every theorem about it, write the certificate."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bulkhead.errors import CheckFailed
from bulkhead.image.build import BUILD, build

from .certificate import Records, certificate, check_same_code
from .exec.errors import ProofFailed
from .exec.image import Image
from .theorems import Evidence, Theorem, theorems

PROOFS = BUILD / "proofs"
CERTIFICATE = PROOFS / "certificate.json"


def main() -> None:
    """Prove the shipped image. Raises CheckFailed if a theorem does not hold."""
    images = build()
    image = Image(images.elf)
    check_same_code(image, images.image)
    console = Console()
    console.print(f"image {images.sha256[:16]}…, {images.toolchain}")
    proved, failed, remembered = prove_all(image, console)
    console.print(table(proved, remembered))
    record = certificate(image, images.image, images.toolchain, proved, failed)
    CERTIFICATE.write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"certificate: {CERTIFICATE}")
    for theorem, why in failed.items():
        console.rule(f"[red]{theorem.name}")
        console.print(escape(why))
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {len(proved) + len(failed)} theorems do not hold",
            where=CERTIFICATE,
            hint="the counterexamples above name arguments, state and path",
        )


def prove_all(
    image: Image, console: Console, directory: Path = PROOFS
) -> tuple[dict[Theorem, Evidence], dict[Theorem, str], set[Theorem]]:
    """Every theorem: proved with evidence, or failed with its counterexample; and which were known from before."""
    records = Records(directory, image)
    proved: dict[Theorem, Evidence] = {}
    failed: dict[Theorem, str] = {}
    remembered: set[Theorem] = set()
    everything = list(theorems())
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    # No refreshing thread: the garbage that it would collect holds z3 terms, and z3 may be at work meanwhile.
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, auto_refresh=False
    ) as progress:
        bar = progress.add_task("", total=len(everything))
        for theorem in everything:
            progress.update(bar, description=theorem.name, refresh=True)
            evidence = records.find(theorem)
            if evidence is not None:
                remembered.add(theorem)
                proved[theorem] = evidence
            else:
                try:
                    proved[theorem] = theorem.prove(image)
                    records.keep(theorem, proved[theorem])
                except ProofFailed as failure:
                    failed[theorem] = failure.explanation or str(failure)
            progress.advance(bar)
    return proved, failed, remembered


def table(proved: dict[Theorem, Evidence], remembered: set[Theorem]) -> Table:
    """One line for each theorem."""
    result = Table("subject", "claim", "result", "paths", "longest", "refusals", "seconds")
    for theorem in theorems():
        evidence = proved.get(theorem)
        if evidence is None:
            result.add_row(theorem.subject, theorem.claim, "[red]FAILED")
            continue
        details = evidence.details
        result.add_row(
            theorem.subject,
            theorem.claim,
            "[green]on record" if theorem in remembered else "[green]proved",
            str(details.get("paths", "")),
            str(details.get("longest_path", "")),
            str(len(details["refusals"])) if "refusals" in details else "",
            f"{evidence.seconds:.1f}",
        )
    return result
