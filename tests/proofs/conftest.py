"""The image that the proofs are about: one for the whole session, whatever is built meanwhile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bulkhead.image.build import Images, build
from bulkhead.prove.exec.image import Image


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Copies of the shipped files."""
    built = build()
    directory = tmp_path_factory.mktemp("image")
    elf, image = (Path(shutil.copy(path, directory)) for path in (built.elf, built.image))
    return replace(built, elf=elf, image=image)


@pytest.fixture(scope="session")
def image(images: Images) -> Image:
    """The engine's ELF file."""
    return Image(images.elf)
