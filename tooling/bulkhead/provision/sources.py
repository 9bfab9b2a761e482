"""The machine's own apt sources, read so that the same mirror can serve another suite. Trust label: TOOL.

Both formats of sources.list(5) are understood: one-line (`deb [options] URI SUITE COMPONENT...`) and deb822
(`Types:`, `URIs:`, `Suites:`, ...). No mirror is named in this project: it is the machine's, or the user's choice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import ProvisionError

MIRROR_VARIABLE = "BULKHEAD_DEBIAN_MIRROR"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_RELEASES = "bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable"
_ARCHIVE_SUITE = re.compile(rf"({_RELEASES})(-updates|-backports)?$")
_SECURITY_SUITE = re.compile(rf"({_RELEASES})-security$")
_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)


@dataclass(frozen=True)
class Source:
    """One archive and suite. `signed_by` is a keyring path, or empty for apt's trusted keys."""

    uri: str
    suite: str
    signed_by: str = ""

    def line(self, suite: str, *, verified_by_hash: bool) -> str:
        """The sources.list line for another suite of the same archive.

        Where no Debian key exists (another distribution), apt may fetch only files that are verified by hash.
        """
        if self.signed_by:
            option = f"[signed-by={self.signed_by}] "
        elif not _has_debian_keys() and verified_by_hash:
            option = "[trusted=yes] "
        else:
            option = ""
        return f"deb {option}{self.uri} {suite} main\n"


def _has_debian_keys() -> bool:
    return any(Path("/etc/apt/trusted.gpg.d").glob("debian-archive-*"))


def machine_sources(apt: Path = Path("/etc/apt")) -> list[Source]:
    """Every binary source with component `main` that apt reads on this machine, in file order."""
    found: list[Source] = []
    parts = apt / "sources.list.d"
    for path in (apt / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))):
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        found.extend(_deb822(text) if path.suffix == ".sources" else _one_line(text))
    return found


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match and "main" in match["components"].split():
            options = dict(o.split("=", 1) for o in (match["options"] or "").split() if "=" in o)
            yield Source(match["uri"], match["suite"], options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[Source]:
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            k.strip().lower(): v.strip() for k, _, v in (li.partition(":") for li in unfolded.splitlines())
        }
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0")
        if not enabled or "deb" not in fields.get("types", "").split():
            continue
        signed_by = fields.get("signed-by", "")
        if not signed_by.startswith("/"):  # an inline key block; the packaged keyring says the same
            signed_by = ""
        if "main" in fields.get("components", "").split():
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    yield Source(uri, suite, signed_by)


def is_debian_release(name: str) -> bool:
    """Whether `name` is the code name of a Debian release."""
    return bool(re.fullmatch(_RELEASES, name))


def archive() -> Source:
    """The Debian archive to use: `$BULKHEAD_DEBIAN_MIRROR`, else the one in the machine's own sources.

    Raises ProvisionError on a machine that has neither (Ubuntu, Fedora).
    """
    chosen = os.environ.get(MIRROR_VARIABLE)
    if chosen:
        return Source(chosen.rstrip("/"), "", str(KEYRING) if KEYRING.is_file() else "")
    for source in machine_sources():
        if _ARCHIVE_SUITE.match(source.suite):
            return source
    raise ProvisionError(
        "this machine's apt sources name no Debian archive",
        where="/etc/apt/sources.list, /etc/apt/sources.list.d/",
        hint=f"set {MIRROR_VARIABLE} to the URI of a Debian mirror, in the form it has in a Debian sources.list "
        "(ends in /debian); packages are verified by the hashes recorded in pins.toml",
    )


def security_archive() -> Source | None:
    """The security archive, if the machine itself uses it; libraries installed from it need it again."""
    if os.environ.get(MIRROR_VARIABLE):
        return None
    return next((source for source in machine_sources() if _SECURITY_SUITE.match(source.suite)), None)
