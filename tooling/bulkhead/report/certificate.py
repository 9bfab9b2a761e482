"""The certificate of the proofs as a result. Trust label: TOOL.

`inv prove` writes it, and so do the tests once they have seen all theorems proved.
"""

from __future__ import annotations

import json
from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.image.build import BUILD
from bulkhead.report.results import Result

CERTIFICATE = BUILD / "proofs" / "certificate.json"


def read(path: Path = CERTIFICATE) -> list[Result]:
    """One result of the kind `proofs`, or none if there is no certificate. InvalidInput if it cannot be read."""
    try:
        document = json.loads(path.read_text())
        when = path.stat().st_mtime
        data = {name: document[name] for name in ("proved", "failed")}
        seconds = sum(one["seconds"] for one in data["proved"])
        return [Result("proofs", "all", False, document["elf_sha256"], False, when, seconds, "inv prove", data)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"the certificate cannot be read: {error!r}", where=path, hint="inv prove makes it anew"
        ) from error
