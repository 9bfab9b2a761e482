"""Pinned packages against a real apt and a small archive on this disk: no network, no root."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bulkhead.errors import IntegrityError, NeedsRoot, NetworkError, PinUnavailable, ProvisionError
from bulkhead.provision import apt, sources
from bulkhead.provision.pins import Pin

NAME, VERSION = "bulkhead-sample", "1:2.0-1~deb12u3"


class LocalArchive(sources.Source):
    """An archive that apt may use without signatures."""

    def line(self, suite: str, *, verified_by_hash: bool) -> str:
        return f"deb [trusted=yes] {self.uri} {suite} main\n"


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pin:
    """A package in an archive of its own, and the pin that fits it."""
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: none\nDescription: sample\n"
    )
    (package / "DEBIAN" / "control").write_text(control)
    (package / "usr").mkdir()
    (package / "usr" / "content").write_text("content")
    archive = tmp_path / "archive"
    (archive / "pool").mkdir(parents=True)
    deb = archive / "pool" / "sample.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", package, deb], check=True, capture_output=True)
    data = deb.read_bytes()
    pin = Pin(NAME, VERSION, "amd64", "bookworm", len(data), hashlib.sha256(data).hexdigest())
    index = archive / "dists" / "bookworm" / "main" / "binary-amd64"
    index.mkdir(parents=True)
    fields = f"Filename: pool/sample.deb\nSize: {pin.size}\nSHA256: {pin.sha256}\n"
    (index / "Packages").write_text(control + fields)
    monkeypatch.setattr(sources, "archive", lambda: LocalArchive(f"file://{archive}", ""))
    return pin


def test_a_pinned_package_is_fetched_verified_and_unpacked(sample: Pin, tmp_path: Path) -> None:
    deb = apt.fetch([sample])[NAME]
    assert hashlib.sha256(deb.read_bytes()).hexdigest() == sample.sha256
    apt.unpack(deb, tmp_path / "out")
    assert (tmp_path / "out" / "usr" / "content").read_text() == "content"


def test_a_fetched_package_needs_no_archive_again(sample: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    first = apt.fetch([sample])
    monkeypatch.setattr(sources, "archive", lambda: LocalArchive("file:///nowhere", ""))
    assert apt.fetch([sample]) == first


def test_a_version_that_has_gone_is_named_with_what_is_there(sample: Pin) -> None:
    with pytest.raises(PinUnavailable) as caught:
        apt.fetch([replace(sample, version="1:1.0-1", sha256="0" * 64)])
    text = str(caught.value)
    assert NAME in text
    assert "1:1.0-1" in text
    assert VERSION in text
    assert sources.MIRROR_VARIABLE in text


def test_what_took_the_place_of_a_version_that_has_gone(
    sample: Pin, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(sample, version="1:1.0-1", sha256="0" * 64)
    assert hashlib.sha256(apt.fetch_or_successor(gone).read_bytes()).hexdigest() == sample.sha256
    said = capsys.readouterr().err
    assert "1:1.0-1" in said
    assert "2.0-1~deb12u3" in said
    assert apt.fetch_or_successor(sample) == apt.fetch([sample])[NAME]


def test_nothing_takes_its_place_unless_the_archive_is_signed(
    sample: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsigned(sources.Source):
        def line(self, suite: str, *, verified_by_hash: bool) -> str:
            trust = " [trusted=yes]" if verified_by_hash else ""
            return f"deb{trust} {self.uri} {suite} main\n"

    monkeypatch.setattr(sources, "archive", lambda: Unsigned(f"file://{tmp_path / 'archive'}", ""))
    with pytest.raises(PinUnavailable, match=r"1:1\.0-1"):
        apt.fetch_or_successor(replace(sample, version="1:1.0-1", sha256="0" * 64))


def test_another_content_than_recorded_is_refused(sample: Pin) -> None:
    with pytest.raises(IntegrityError, match=r"SHA-256"):
        apt.fetch([replace(sample, sha256="0" * 64)])


def test_an_archive_out_of_reach_is_a_network_error(sample: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "archive", lambda: LocalArchive("file:///nowhere", ""))
    with pytest.raises(NetworkError, match="package lists"):
        apt.fetch([sample])


def test_installing_without_rights_says_which_command_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "privilege", lambda: None)
    with pytest.raises(NeedsRoot) as caught:
        apt.install(["one", "two"], "because", "bookworm-backports")
    assert "apt-get install -t bookworm-backports --no-install-recommends one two" in str(caught.value)


def test_installing_where_there_is_no_apt_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionError, match="one is missing, and this is no Debian"):
        apt.install(["package-of-one"], "one is missing")


def test_without_a_checkout_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*words: object, **_: object) -> None:
        raise AssertionError(f"something was done: {words}")

    for name in ("privilege", "say", "PrivateApt", "_run"):
        monkeypatch.setattr(apt, name, never)
    monkeypatch.setattr(apt, "in_checkout", lambda: False)
    with pytest.raises(ProvisionError, match="QEMU is missing") as caught:
        apt.install(["qemu"], "QEMU is missing", "bookworm-backports")
    assert "as root: apt-get install -t bookworm-backports --no-install-recommends qemu" in str(caught.value)
