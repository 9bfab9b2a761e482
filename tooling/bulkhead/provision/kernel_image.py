"""What kind of kernel a file is, and what to do if it cannot be booted. Trust label: TOOL.

Sources: Linux, Documentation/arch/arm64/booting.rst, section 4 (64-byte header, magic `ARM\\x64` at offset 56);
Documentation/arch/x86/boot.rst (`HdrS` at offset 0x202); drivers/firmware/efi/libstub/zboot-header.S (`MZ`, `zimg`).
"""

from __future__ import annotations

from pathlib import Path

from bulkhead.errors import InvalidInput

_HEADER_BYTES = 0x400
_MAGIC_OFFSET, _MAGIC = 56, b"ARM\x64"

_COMPRESSED = ((b"\x1f\x8b", "gzip", "gunzip -c"), (b"\xfd7zXZ\x00", "xz", "xz -dc"),
               (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"), (b"BZh", "bzip2", "bzip2 -dc"),
               (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"))  # fmt: skip
_ELF_MACHINES = {0x3E: "x86-64", 0x03: "x86", 0x28: "32-bit Arm", 0xF3: "RISC-V", 0xB7: "AArch64"}


def check_kernel(path: str | Path) -> Path:
    """Return the path if it is a bootable arm64 `Image`. Raises InvalidInput, saying what the file is instead."""
    file = Path(path).expanduser()
    head = _read_head(file)
    if head[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] == _MAGIC:
        return file
    what, hint = _diagnose(head, file)
    raise InvalidInput(f"this kernel cannot be booted: {what}", where=file, hint=hint)


def _read_head(file: Path) -> bytes:
    missing = "give --kernel an arm64 `Image`, or leave it away to boot the pinned Debian kernel"
    if file.is_dir():
        raise InvalidInput("the kernel is a directory", where=file, hint=f"name the file in it; {missing}")
    try:
        with file.open("rb") as stream:
            return stream.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        raise InvalidInput("there is no such kernel file", where=file, hint=missing) from error
    except OSError as error:
        raise InvalidInput(
            f"the kernel cannot be read: {error.strerror}", where=file,
            hint="change its permissions, or copy it to a place of your own",
        ) from error  # fmt: skip


def _diagnose(head: bytes, file: Path) -> tuple[str, str]:
    """What the file is, and the next step."""
    if len(head) < 64:
        return f"it has only {len(head)} bytes", "the file is empty or cut off; get it again"
    if head[:2] == b"MZ" and head[4:8] == b"zimg":
        kind = head[24:56].split(b"\0", 1)[0].decode("ascii", "replace")
        return (
            f"it is an EFI zboot image ({kind} compressed)",
            "unpack it first: the payload's offset and size are the 32-bit little-endian words at bytes 8 and 12; "
            "or use the `Image` of the kernel's build directory (arch/arm64/boot/Image)",
        )
    for magic, name, command in _COMPRESSED:
        if head.startswith(magic):
            return f"it is compressed with {name}", f"unpack it: {command} {file} > Image"
    if head[0x202:0x206] == b"HdrS":
        return "it is an x86 kernel (bzImage)", "use a kernel for arm64 (Debian: linux-image-cloud-arm64)"
    if head[:4] == b"\x7fELF":
        machine = _ELF_MACHINES.get(int.from_bytes(head[18:20], "little"), "another machine")
        if machine == "AArch64":
            return (
                "it is an ELF file (vmlinux)",
                f"convert it: llvm-objcopy -O binary {file} Image, or use arch/arm64/boot/Image",
            )
        return f"it is an ELF file for {machine}", "use a kernel for arm64"
    if head[:2] == b"MZ":
        return "it is an EFI program without the arm64 Image header", "use a Linux `Image` for arm64"
    return "bytes 56 to 59 are not the arm64 magic `ARM\\x64`", "use a Linux `Image` for arm64"
