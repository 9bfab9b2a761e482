"""Debian packages through a private apt configuration: own lists, own sources, nothing of the system changed.

Trust label: TOOL. Pinned packages are fetched without root, verified by SHA-256 and unpacked with `dpkg -x`; only
`install` changes the system, needs root and says so.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from bulkhead.errors import IntegrityError, NeedsRoot, NetworkError, PinUnavailable, ProvisionError
from bulkhead.provision import sources
from bulkhead.provision.paths import cache_dir, in_checkout, locked, say, sha256_of
from bulkhead.provision.pins import Pin

UPDATE_SECONDS = 300
DOWNLOAD_SECONDS = 1200
INSTALL_SECONDS = 1200
SUDO_SECONDS = 60

_CONFIGURATION = """\
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{root}/lists";
Dir::Cache "{root}/cache";
#clear APT::Architectures;
APT::Architectures {{ {architectures} }};
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


class PrivateApt:
    """An apt configuration of its own below the cache, with the given suites and architectures."""

    def __init__(self, name: str, lines: Iterable[str], architectures: Sequence[str]) -> None:
        self.root = cache_dir() / "apt" / name
        for part in ("lists/partial", "cache/archives/partial"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        (self.root / "sources.list").write_text("".join(lines))
        self._config = self.root / "apt.conf"
        quoted = " ".join(f'"{architecture}";' for architecture in architectures)
        self._config.write_text(_CONFIGURATION.format(root=self.root, architectures=quoted))

    def run(self, *command: str, seconds: int, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run an apt program with this configuration; the result is returned whatever its exit status."""
        return _run([command[0], "-c", str(self._config), *command[1:]], seconds, cwd)

    def update(self) -> None:
        """Fetch the package lists. Raises NetworkError if any of them cannot be fetched."""
        result = self.run("apt-get", "update", "-q", seconds=UPDATE_SECONDS)
        if result.returncode != 0:
            raise NetworkError(
                f"the Debian package lists could not be fetched:\n{_tail(result.stderr)}",
                where=shlex.join(["apt-get", "-c", str(self._config), "update"]),
                hint="check the network, /etc/apt/sources.list and proxy settings, or set "
                f"{sources.MIRROR_VARIABLE} to a Debian mirror that can be reached",
            )


def _run(command: list[str], seconds: int, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
    try:
        return subprocess.run(
            command, cwd=cwd, env=environment, text=True, capture_output=True, timeout=seconds,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ProvisionError(
            f"`{command[0]}` is not on this machine",
            hint="provisioning works on Debian and its relatives, which have apt and dpkg",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(
            f"no end after {seconds} s", where=shlex.join(command), hint="check the network and run it again"
        ) from error


def _tail(text: str, lines: int = 6) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


def fetch(pins: Iterable[Pin]) -> dict[str, Path]:
    """Download pinned packages into the cache and verify them; returns the .deb of each package by name.

    Raises NetworkError, PinUnavailable (version gone from the mirror) or IntegrityError (wrong hash).
    """
    store = cache_dir() / "debs"
    store.mkdir(exist_ok=True)
    wanted = {pin.name: pin for pin in pins}
    paths = {name: store / f"{pin.sha256}.deb" for name, pin in wanted.items()}
    with locked("debs"):
        missing = [pin for name, pin in wanted.items() if not paths[name].is_file()]
        for suite, arch in sorted({(pin.suite, _list_arch(pin)) for pin in missing}):
            _fetch_from(suite, arch, [p for p in missing if (p.suite, _list_arch(p)) == (suite, arch)], store)
    return paths


def fetch_or_successor(pin: Pin) -> Path:
    """The .deb of a pinned package or, where the mirror has dropped that version, of the one that Debian has put in its
    place: known by the archive's signature instead of the recorded hash, and named. For what is not trusted anyway.

    Raises NetworkError, IntegrityError; PinUnavailable where the archive's signature cannot be verified.
    """
    try:
        return fetch([pin])[pin.name]
    except PinUnavailable as gone:
        try:
            return _successor(pin)
        except NetworkError as error:
            raise gone from error


def _successor(pin: Pin) -> Path:
    arch = _list_arch(pin)
    with locked("debs"):
        apt = PrivateApt(
            f"{pin.suite}-{arch}-signed", [sources.archive().line(pin.suite, verified_by_hash=False)], [arch]
        )
        apt.update()
        inbox = apt.root / "inbox"
        shutil.rmtree(inbox, ignore_errors=True)
        inbox.mkdir()
        result = apt.run(
            "apt-get", "download", "-q", pin.spec.partition("=")[0], seconds=DOWNLOAD_SECONDS, cwd=inbox
        )
        arrived = list(inbox.glob("*.deb"))
        if result.returncode != 0 or len(arrived) != 1:
            raise NetworkError(
                f"download failed:\n{_tail(result.stderr)}", where=pin.name,
                hint="check the network and run it again",
            )  # fmt: skip
        say(f"{pin.spec} is no longer in Debian {pin.suite}: {arrived[0].name} takes its place")
        return arrived[0].rename(cache_dir() / "debs" / f"{sha256_of(arrived[0])}.deb")


def _list_arch(pin: Pin) -> str:
    return "amd64" if pin.arch == "all" else pin.arch


def _fetch_from(suite: str, arch: str, pins: list[Pin], store: Path) -> None:
    archive = sources.archive()
    apt = PrivateApt(f"{suite}-{arch}", [archive.line(suite, verified_by_hash=True)], [arch])
    say(f"downloading {len(pins)} packages from Debian {suite} ({sum(p.size for p in pins) / 1e6:.0f} MB)")
    apt.update()
    inbox = apt.root / "inbox"
    shutil.rmtree(inbox, ignore_errors=True)
    inbox.mkdir()
    specs = [pin.spec for pin in pins]
    result = apt.run("apt-get", "download", "-q", *specs, seconds=DOWNLOAD_SECONDS, cwd=inbox)
    if result.returncode != 0:
        _explain_download(apt, suite, pins, result.stderr)
    arrived = {sha256_of(path): path for path in inbox.glob("*.deb")}
    for pin in pins:
        if pin.sha256 not in arrived:
            raise IntegrityError(
                f"{pin.spec} arrived with another SHA-256 than the recorded {pin.sha256}",
                where=inbox,
                hint="do not use it: the mirror, or something on the way, serves another file",
            )
        arrived[pin.sha256].rename(store / f"{pin.sha256}.deb")


def _explain_download(apt: PrivateApt, suite: str, pins: list[Pin], stderr: str) -> None:
    for pin in pins:
        listed = apt.run("apt-cache", "madison", pin.name, seconds=60).stdout
        versions = sorted(
            {line.split("|")[1].strip() for line in listed.splitlines() if line.count("|") >= 2}
        )
        if pin.version not in versions:
            raise PinUnavailable(
                f"the mirror has no {pin.name} {pin.version} in {suite}; there is: {', '.join(versions) or 'none'}",
                where="tooling/bulkhead/provision/pins.toml",
                hint=f"set {sources.MIRROR_VARIABLE} to a mirror that keeps old versions (a snapshot of the archive), "
                "or move the pin: version, size and sha256 together, and then the recorded image hash",
            )
    raise NetworkError(
        f"download failed:\n{_tail(stderr)}", where=shlex.join(p.spec for p in pins),
        hint="check the network and run it again; what has arrived is kept",
    )  # fmt: skip


def unpack(deb: Path, into: Path) -> None:
    """Unpack the files of a package below `into`, without installing it."""
    result = _run(["dpkg", "-x", str(deb), str(into)], 300)
    if result.returncode != 0:
        raise ProvisionError(
            f"the package cannot be unpacked:\n{_tail(result.stderr)}", where=deb,
            hint="check the free space in the cache; remove the file and run it again",
        )  # fmt: skip


def release() -> str:
    """The code name of this machine's release (`bookworm`), empty where os-release has none."""
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    return ""


def privilege() -> list[str] | None:
    """The prefix that runs a command as root: nothing for root, `sudo -n` where that works, else None."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _run(["sudo", "-n", "true"], SUDO_SECONDS).returncode == 0:
        return ["sudo", "-n"]
    return None


def install(packages: Sequence[str], why: str, target: str | None = None) -> None:
    """Install system packages with root's rights; `target` is a further suite (backports) to prefer for them.

    Raises NeedsRoot, NetworkError or ProvisionError. A package that is installed without a checkout, and may be a part
    of somebody's tests, changes nothing of their system: there, ProvisionError says what to do.
    """
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        raise ProvisionError(
            f"{why}, and this is no Debian, where it could be installed", where=f"Debian's {' '.join(packages)}",
            hint="install it as this system does it, and put it on PATH",
        )  # fmt: skip
    command_line = by_hand(packages, target)
    if not in_checkout():
        raise ProvisionError(why, where=f"Debian's {' '.join(packages)}", hint=f"as root: {command_line}")
    prefix = privilege()
    if prefix is None:
        raise NeedsRoot(
            f"{' '.join(packages)} must be installed ({why}), and that needs root", hint=f"as root: {command_line}"
        )
    say(f"installing {' '.join(packages)} with root's rights ({why})")
    with locked("install"):
        apt = PrivateApt(f"install-{target or 'release'}", _install_lines(target), [_dpkg_architecture()])
        apt.update()
        options = ["-y", "-q", "--no-install-recommends", *(["-t", target] if target else [])]
        command = [*prefix, "apt-get", "-c", str(apt.root / "apt.conf"), "install", *options, *packages]
        result = _run(command, INSTALL_SECONDS)
    if result.returncode != 0:
        raise ProvisionError(
            f"apt-get could not install {' '.join(packages)}:\n{_tail(result.stderr)}",
            where=shlex.join(command), hint=f"try it by hand, as root: {command_line}",
        )  # fmt: skip


def by_hand(packages: Sequence[str], target: str | None = None) -> str:
    """What root types to install packages, `target` as for `install`."""
    suite = f"-t {target} " if target else ""
    further = f" (with suite {target} in apt's sources)" if target else ""
    return f"apt-get install {suite}--no-install-recommends {' '.join(packages)}{further}"


def _install_lines(target: str | None) -> list[str]:
    """The sources for installing: Debian's own suites of this release; another distribution's sources as they are."""
    name = release()
    if not sources.is_debian_release(name):
        return [source.line(source.suite, verified_by_hash=False) for source in sources.machine_sources()]
    archive, security = sources.archive(), sources.security_archive()
    suites = [name, f"{name}-updates", *([target] if target else [])]
    lines = [archive.line(suite, verified_by_hash=False) for suite in suites]
    return lines + ([security.line(f"{name}-security", verified_by_hash=False)] if security else [])


def _dpkg_architecture() -> str:
    return _run(["dpkg", "--print-architecture"], 30).stdout.strip()
