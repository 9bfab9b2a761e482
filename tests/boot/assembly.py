"""Assembles A64 source to bytes with the Rust toolchain's own assembler. Trust label: TOOL.

The source must be position independent: one section, local labels, literals by `ldr xN, =value`.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bulkhead.errors import BuildError
from bulkhead.provision import pins, toolchain

SECONDS = 120
CRATE = (
    '#![no_std]\ncore::arch::global_asm!(r###"\n.arch armv8.2-a+fp+simd+ras\n{source}\n"###, options(raw));\n'
)

SKIPPING_VECTORS = """
    b       1f
    .balign 2048
2:  .rept   16
    .balign 128
    mrs     x10, esr_el1
    lsr     x10, x10, #26
    add     x10, x10, #1
    mrs     x12, elr_el1
    add     x12, x12, #4
    msr     elr_el1, x12
    eret
    .endr
    .balign 128
"""
"""Vectors at 2, jumped over to 1: an exception's class, plus 1, comes into x10, and the program goes on behind the
instruction; x12 is changed. Source: Arm ARM DDI 0487, D1.4 (exception entry and return)."""


@cache
def assemble(source: str) -> bytes:
    """The bytes of section `.program` of the source, which is put there. Raises BuildError with what is wrong."""
    tools = toolchain.ensure("pinned")
    text = CRATE.replace("{source}", '.section .program, "ax"\n' + source)
    name = hashlib.sha256(source.encode()).hexdigest()[:12]
    with tempfile.TemporaryDirectory() as directory:
        crate, result = Path(directory) / f"p{name}.rs", Path(directory) / "program.o"
        crate.write_text(text)
        command = [str(tools.rustc), "--edition=2021", "--crate-type=lib", "--emit=obj", "-Cpanic=abort"]
        command += ["-Ccodegen-units=1", f"--target={pins.flags()['target']}", *tools.cargo_target_flags()]
        command += ["-o", str(result), str(crate)]
        done = subprocess.run(
            command, env=tools.env(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"a test program does not assemble\n{done.stderr}", where=name)
        with result.open("rb") as stream:
            section = ELFFile(stream).get_section_by_name(".program")
            if section is None:
                raise BuildError("the assembler made no section .program", where=name)
            return bytes(section.data())
