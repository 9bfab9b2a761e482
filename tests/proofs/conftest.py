"""The image that the proofs are about, built once."""

from __future__ import annotations

import pytest

from bulkhead.image.build import Images, build
from bulkhead.prove.exec.image import Image


@pytest.fixture(scope="session")
def images() -> Images:
    """The shipped files."""
    return build()


@pytest.fixture(scope="session")
def image(images: Images) -> Image:
    """The engine's ELF file."""
    return Image(images.elf)
