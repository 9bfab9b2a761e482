"""A place outside the checkout: an empty environment with the wheel in it, a home, and of all programs only QEMU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from bulkhead.image.wheel import build_wheel
from bulkhead.provision import qemu
from bulkhead.provision.paths import REPOSITORY

GUARD = """
import os, sys
CHECKOUT = {checkout!r}
def inside(value):
    return isinstance(value, (str, bytes, os.PathLike)) and CHECKOUT in os.fsdecode(value)
def guard(event, arguments):
    words = arguments[1] if event == "subprocess.Popen" else arguments[:1]
    if event in ("open", "os.listdir", "os.scandir", "subprocess.Popen") and any(map(inside, words)):
        raise PermissionError(f"a look at the checkout: {{event}} {{words}}")
sys.addaudithook(guard)
"""
"""What every process of the environment begins with (PEP 578): the checkout might as well not exist."""
ESSENTIAL = ("setpriv",)
"""Programs of packages that every Debian has."""
PASSED_ON = ("PIP_", "SSL_", "CURL_CA", "REQUESTS_CA", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Settings of this computer without which pip finds no package index."""


@dataclass(frozen=True)
class Scratch:
    """The place. `work` is the working directory of everything."""

    root: Path
    wheel: Path

    @property
    def work(self) -> Path:
        """Where a user would be."""
        return self.root / "work"

    @property
    def site(self) -> Path:
        """The packages of the environment."""
        return next((self.root / "venv" / "lib").glob("python3.*")) / "site-packages"

    def environment(self) -> dict[str, str]:
        """All the variables that there are."""
        return {
            "PATH": f"{self.root / 'venv' / 'bin'}:{self.root / 'programs'}",
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
        }

    def run(
        self, *command: str | Path, seconds: int = 60, stdin: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """A command there; the first word is a program of the environment, or a path. `more` are variables."""
        program = Path(command[0])
        if not program.is_absolute():
            program = self.root / "venv" / "bin" / program
        return subprocess.run(
            [program, *command[1:]], cwd=self.work, env={**self.environment(), **more}, input=stdin,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """A short program in the environment."""
        return self.run("python", "-c", program)


def prepare(root: Path) -> Scratch:
    """Build the wheel, and install it there with what it declares, at the versions of requirements.lock."""
    for name in ("home", "programs", "work"):
        (root / name).mkdir(parents=True)
    for name in (qemu.PROGRAM, *ESSENTIAL):
        (root / "programs" / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    venv.create(root / "venv", symlinks=True, with_pip=False)
    scratch = Scratch(root, build_wheel(root / "dist"))
    _install(scratch)
    (scratch.site / "guard.py").write_text(GUARD.format(checkout=str(REPOSITORY)))
    (scratch.site / "guard.pth").write_text("import guard\n")
    return scratch


def _install(scratch: Scratch) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    versions = scratch.root / "versions"
    versions.write_text("\n".join(re.findall(r"^[\w.-]+==\S+", lock, re.M)))
    passed = {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}
    command = [sys.executable, "-m", "pip", "--python", scratch.root / "venv", "install", "--quiet",
               "--only-binary", ":all:", "--constraint", versions, scratch.wheel]  # fmt: skip
    done = subprocess.run(
        command, env={**passed, "PATH": "/nowhere", "HOME": str(Path.home())}, cwd=scratch.work,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
