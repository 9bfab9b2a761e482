"""What building for this machine needs from the system: a C compiler, C headers, certificates. Trust label: TOOL."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bulkhead.provision import apt

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PROBE = b"#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n"


@cache
def ensure_host_compiler() -> None:
    """Have `cc`, C headers and TLS certificates; install what is missing. Raises ProvisionError.

    Rust links host programs (procedural macros, the cffi library) through `cc`; cargo needs the certificates.
    """
    missing = missing_packages()
    if missing:
        apt.install(missing, "to build for this machine and to reach the crate registry")


def missing_packages() -> list[str]:
    """The Debian packages that would have to be installed."""
    missing = [] if _compiles() else ["gcc", "libc6-dev"]
    explicit = os.environ.get("CARGO_HTTP_CAINFO") or os.environ.get("SSL_CERT_FILE")
    if not _CERTIFICATES.is_file() and not explicit and Path("/etc/debian_version").is_file():
        missing.append("ca-certificates")
    return missing


def _compiles() -> bool:
    if shutil.which("cc") is None:
        return False
    probe = ["cc", "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(probe, input=_PROBE, capture_output=True, timeout=60, check=False).returncode == 0
