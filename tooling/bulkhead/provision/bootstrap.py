"""The Python environment `.venv`, from nothing but Python's standard library. Trust label: TOOL.

The packages are those of requirements.lock, pinned by hash. They are installed again only when that file, the Python
version or the place of the repository has changed; a stamp in the environment remembers them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from bulkhead.errors import BulkheadError, NetworkError, ProvisionError
from bulkhead.provision.paths import REPOSITORY, say

VENV = REPOSITORY / ".venv"
LOCK = REPOSITORY / "requirements.lock"
_STAMP = VENV / "bulkhead-stamp"
_PIP_SECONDS = 1800


def main(arguments: Sequence[str]) -> NoReturn:
    """Provide the environment, then become `invoke ARGUMENTS` in it; errors end the process with their message."""
    try:
        ensure()
    except BulkheadError as error:
        sys.exit(f"bulkhead: {error}")
    except KeyboardInterrupt:
        sys.exit("bulkhead: interrupted")
    program = VENV / "bin" / "invoke"
    environment = dict(
        os.environ, VIRTUAL_ENV=str(VENV), PATH=f"{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    )
    environment.pop("PYTHONHOME", None)
    command = [str(program), "--search-root", str(REPOSITORY), *(arguments or ["--list"])]
    sys.stdout.flush()
    os.execve(program, command, environment)


def ensure() -> None:
    """Create or refresh `.venv` if it does not fit. Raises ProvisionError."""
    stamp = _wanted_stamp()
    if _is_fresh(stamp):
        return
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_fresh(stamp):
            return
        _create()
        _install()
        _STAMP.write_text(stamp)


def _wanted_stamp() -> str:
    packages = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return f"{packages} {sys.version_info.major}.{sys.version_info.minor} {VENV}\n"


def _is_fresh(stamp: str) -> bool:
    return _STAMP.is_file() and _STAMP.read_text() == stamp and (VENV / "bin" / "python").exists()


def _create() -> None:
    _ensure_venv_module()
    say(f"creating the Python environment {VENV}")
    shutil.rmtree(VENV, ignore_errors=True)
    result = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, timeout=300, check=False
    )
    if result.returncode != 0:
        raise ProvisionError(
            f"python3 -m venv failed: {(result.stderr or result.stdout).strip()}", where=VENV,
            hint="check that the repository can be written to and has free space",
        )  # fmt: skip


def _ensure_venv_module() -> None:
    probe = subprocess.run(
        [sys.executable, "-c", "import ensurepip, venv"], capture_output=True, timeout=60, check=False
    )
    if probe.returncode != 0:
        from bulkhead.provision import apt  # only here: a ready environment must not pay for it

        apt.install(["python3-venv"], "this Python cannot create environments")


def _install() -> None:
    say(f"installing the Python packages of {LOCK.name}")
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--require-hashes", "--requirement", str(LOCK)]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines()
        retries = [line for line in lines if "Retrying" in line][-1:]  # the last one tells the cause of all
        detail = "\n".join(
            f"    {line}" for line in retries + [line for line in lines if "Retrying" not in line][-4:]
        )
        raise NetworkError(
            f"pip could not install the pinned packages:\n{detail}", where=LOCK,
            hint="check the network, proxy and certificate settings of pip (PIP_INDEX_URL, PIP_CERT), and run it again",
        )  # fmt: skip
    site = next((VENV / "lib").glob("python3.*")) / "site-packages"
    (site / "bulkhead-tooling.pth").write_text(f"{REPOSITORY / 'tooling'}\n")
