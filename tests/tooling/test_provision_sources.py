"""The machine's apt sources in both of their formats, and the choice of the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.errors import ProvisionError
from bulkhead.provision import sources
from bulkhead.provision.sources import Source

DEB822 = """\
# a comment
Types: deb deb-src
URIs: https://one.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://one.invalid/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .

Enabled: no
Types: deb
URIs: https://off.invalid/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: https://source.invalid/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb https://off.invalid/debian bookworm main
deb [arch=amd64 signed-by=/keys/k.gpg] mirror+file:/etc/apt/mirrors/debian.list bookworm main non-free # why
deb-src https://source.invalid/debian bookworm main
deb https://two.invalid/tools stable tools
"""


def etc_apt(root: Path, **files: str) -> Path:
    (root / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = root / "sources.list" if name == "main" else root / "sources.list.d" / name.replace("__", ".")
        path.write_text(text)
    return root


def test_deb822_stanzas(tmp_path: Path) -> None:
    found = sources.machine_sources(etc_apt(tmp_path / "apt", debian__sources=DEB822))
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert found == [
        Source("https://one.invalid/debian", "bookworm", key),
        Source("https://one.invalid/debian", "bookworm-updates", key),
        Source("https://one.invalid/debian-security", "bookworm-security", ""),
    ]


def test_one_line_sources(tmp_path: Path) -> None:
    found = sources.machine_sources(etc_apt(tmp_path / "apt", main=ONE_LINE))
    assert found == [Source("mirror+file:/etc/apt/mirrors/debian.list", "bookworm", "/keys/k.gpg")]


def test_the_line_for_another_suite_keeps_archive_and_key() -> None:
    source = Source("https://one.invalid/debian", "bookworm", "/keys/k.gpg")
    line = source.line("bookworm-backports", verified_by_hash=True)
    assert line == "deb [signed-by=/keys/k.gpg] https://one.invalid/debian bookworm-backports main\n"


def test_unsigned_sources_serve_only_what_is_verified_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_has_debian_keys", lambda: False)
    source = Source("https://one.invalid/debian", "bookworm")
    assert "trusted=yes" in source.line("bookworm", verified_by_hash=True)
    assert "trusted" not in source.line("bookworm", verified_by_hash=False)


def test_a_machine_without_debian_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sources.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(sources, "machine_sources", lambda: [Source("https://one.invalid/ubuntu", "noble")])
    with pytest.raises(ProvisionError, match=sources.MIRROR_VARIABLE):
        sources.archive()


def test_the_variable_goes_before_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.MIRROR_VARIABLE, "https://three.invalid/debian/")
    assert sources.archive().uri == "https://three.invalid/debian"
