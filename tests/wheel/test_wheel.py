"""The wheel where there is nothing but QEMU: no checkout, no compiler, no variable of this session."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from bulkhead import abi
from bulkhead.conformance.sequences import conform
from bulkhead.image.wheel import build_wheel
from bulkhead.provision import guests
from bulkhead.provision.paths import REPOSITORY, sha256_of
from wheel.scratch import Scratch, prepare

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.xdist_group("wheel")]

OUTSIDER = Path(__file__).with_name("outsider.py")
SHELLS = ("bash", "zsh", "fish")
COMPLETE = """
eval "$(bulkhead --print-completion-script bash)"
COMP_WORDS=(bulkhead run --ker) COMP_CWORD=2
_complete_bulkhead bulkhead --ker run
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """One environment for all tests of this file."""
    return prepare(tmp_path_factory.mktemp("outside"))


def test_the_package_is_the_installed_one(scratch: Scratch) -> None:
    done = scratch.python("import bulkhead, sys; print(bulkhead.__file__); print(sys.path)")
    assert done.stdout.startswith(str(scratch.site / "bulkhead")), done.stderr
    assert str(REPOSITORY) not in done.stdout


@pytest.mark.parametrize(
    "look",
    ["open({!r})", "__import__('os').listdir({!r})", "__import__('subprocess').run(['/bin/cat', {!r}])"],
    ids=["open", "listdir", "another program"],
)
def test_a_look_at_the_checkout_would_be_noticed(scratch: Scratch, look: str) -> None:
    done = scratch.python(look.format(str(REPOSITORY / "README.md")))
    assert (done.returncode, "a look at the checkout" in done.stderr) == (1, True)


def test_the_outsiders_tests_on_every_backend(scratch: Scratch) -> None:
    shutil.copy(OUTSIDER, scratch.work / "test_outside.py")
    assert len(OUTSIDER.read_text().splitlines()) <= 40
    options = ("--bulkhead-backend", "all", "--bulkhead-serial", "qemu", "--rootdir", str(scratch.work))
    done = scratch.run("pytest", "-v", "test_outside.py", *options, seconds=150)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"^test_outside.py::(\w+)\[(\w+)\] PASSED", done.stdout, re.M)
    counts = {name: sum(backend == name for _, backend in passed) for name in ("host", "qemu", "metal")}
    assert counts == {"host": 4, "qemu": 4, "metal": 3}


def test_what_an_outsider_is_told_of_a_failure(scratch: Scratch) -> None:
    (scratch.work / "test_wrong.py").write_text(
        'def test_wrong(bulkhead_machine):\n    bulkhead_machine.refuses("map", "TABLE_MISSING", 2, vm=64, ipa=4096)\n'
    )
    done = scratch.run("pytest", "test_wrong.py")
    assert done.returncode == 1
    wanted = ("map(vm=0x40, ipa=0x1000, frame=0x0, mode=0x0)", "expected TABLE_MISSING",
              "got INVALID_ARGUMENT (x1 = 1)", "changed: nothing")  # fmt: skip
    assert [words for words in wanted if words not in done.stdout] == [], done.stdout


def test_the_command_says_what_it_is(scratch: Scratch) -> None:
    assert scratch.run("bulkhead", "--version").stdout == f"bulkhead {abi.release()}\n"
    listed = scratch.run("bulkhead", "--list").stdout
    assert {"run", "conform", "doctor", "flash", "measure", "report"} <= set(re.findall(r"^  (\w+)", listed, re.M))


def test_the_doctor_finds_everything_in_its_place(scratch: Scratch) -> None:
    done = scratch.run("bulkhead", "doctor")
    told = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines() if re.match(r" \w", line)}
    present = {"bulkhead", "python", "cache", "QEMU", "images", "engine", "host"}
    assert {name: told[name] for name in present} == dict.fromkeys(present, "ok"), done.stdout + done.stderr


def test_without_qemu_nothing_is_installed_but_it_is_said_how(scratch: Scratch) -> None:
    debian, called = scratch.root / "debian", scratch.root / "called"
    debian.mkdir()
    for name in ("apt-get", "dpkg", "sudo"):
        (debian / name).write_text(f"#!/bin/sh\n/bin/touch {called}\n")
        (debian / name).chmod(0o755)
    words = {"PATH": f"{scratch.root / 'venv' / 'bin'}:{debian}", "COLUMNS": "300"}
    run = scratch.run("bulkhead", "run", **words)
    assert run.returncode == 1
    assert "qemu-system-aarch64 is missing" in run.stderr and "as root: apt-get install" in run.stderr, run.stderr
    (scratch.work / "test_boot.py").write_text("def test_boot(bulkhead_machine):\n    pass\n")
    tests = scratch.run("pytest", "test_boot.py", "--bulkhead-backend", "qemu", **words)
    assert tests.returncode == 1
    told = tests.stdout
    assert "qemu-system-aarch64 is missing" in told and "as root: apt-get install" in told, told
    assert not called.exists()
    doctor = scratch.run("bulkhead", "doctor", **words)
    assert (doctor.returncode, "no qemu-system-aarch64" in doctor.stdout) == (1, True), doctor.stdout


def test_only_the_pinned_toolchains_image_is_there(scratch: Scratch) -> None:
    done = scratch.python("from bulkhead.image.build import build; build('system', 'payload')")
    assert "InvalidInput: an installed package carries the shipped image only" in done.stderr


@pytest.fixture
def damaged(scratch: Scratch) -> Iterator[Path]:
    """An installation of which one byte has changed."""
    image = scratch.site / "bulkhead" / "_shipped" / "payload" / "bulkhead.img"
    whole = image.read_bytes()
    image.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    yield image
    image.write_bytes(whole)


def test_a_damaged_image_is_not_booted(scratch: Scratch, damaged: Path) -> None:
    doctor = scratch.run("bulkhead", "doctor")
    assert (doctor.returncode, "damaged: bulkhead.img" in doctor.stdout) == (1, True)
    target = scratch.work / "board.img"
    flashed = scratch.run("bulkhead", "flash", "--to", str(target), "--payload")
    assert (flashed.returncode, target.exists()) == (1, False)
    assert f"where: {damaged}" in flashed.stderr
    assert "install the wheel again" in flashed.stderr


def test_the_image_for_a_board(scratch: Scratch) -> None:
    done = scratch.run("bulkhead", "flash", "--to", "board.img", "--payload")
    assert done.returncode == 0, done.stderr
    assert sha256_of(scratch.work / "board.img") in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("moon",), "No idea what 'moon' is!"),
        (("run", "--moon"), "No idea what '--moon' is!"),
        (("run", "--memory", "much"), "'much' is no amount of memory"),
        (("run", "--kernel", "/no/such/kernel"), "/no/such/kernel"),
        (("conform", "--backend", "moon"), "there is no backend 'moon'"),
        (("conform", "--calls", "many"), "'many' is no whole number"),
        (("conform", "--calls=-1"), "-1 is too small"),
        (("conform", "--jobs", "0"), "0 is too small"),
        (("conform", "--serial", "/dev/ttyUSB0"), "--serial and --power are for --backend metal or all"),
        (("flash", "--to", "/no/such/place/image"), "there is no such directory"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_bad_input(scratch: Scratch, words: tuple[str, ...], said: str) -> None:
    done = scratch.run("bulkhead", *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "what to do:" in done.stderr


def test_the_report_says_that_nothing_has_been_tested(scratch: Scratch) -> None:
    done = scratch.run("bulkhead", "report", BULKHEAD_RESULTS=str(scratch.root / "empty" / "results"))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^conform \w+ +missing +no result", done.stdout, re.M)) == len(conform.BACKENDS)
    assert "No result" in (scratch.root / "empty" / "report.html").read_text()


def test_conformance(scratch: Scratch) -> None:
    words = ("conform", "--backend", "host", "--calls", "2000", "--seed", "7")
    done = scratch.run("bulkhead", *words, seconds=100, COLUMNS="200")
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.search(r"host: ([\d,]+) calls in .*again: bulkhead conform --backend host", done.stdout)
    assert match
    assert int(match[1].replace(",", "")) >= 2000
    table = scratch.run("bulkhead", "report").stdout
    assert re.search(r"^conform host +reduced +reduced: \d+ of \d+ pairs", table, re.M), table


def test_completion(scratch: Scratch) -> None:
    scripts = {shell: scratch.run("bulkhead", "--print-completion-script", shell).stdout for shell in SHELLS}
    assert [shell for shell, script in scripts.items() if "bulkhead" not in script or "--complete" not in script] == []
    done = scratch.run("/bin/bash", "-c", COMPLETE)
    assert done.stdout.split() == ["--kernel"], done.stderr


def test_a_guest_to_its_prompt_and_its_end(scratch: Scratch) -> None:
    guest = guests.ensure()
    shutil.copy(guest.kernel, scratch.work / "kernel")
    shutil.copy(guest.initrd, scratch.work / "initrd")
    words = ("run", "--kernel", "kernel", "--initrd", "initrd", "--memory", "192M", "--timeout", "90")
    done = scratch.run("bulkhead", *words, stdin="echo $((6 * 7))\nexit\n", seconds=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^guest# .*echo \$\(\(6 \* 7\)\)\r?\n42\r?$", done.stdout, re.M)
    assert re.search(r"left of the VM in RAM.*[\d,]+ frames, all zero", done.stderr)


def test_the_tag_names_a_c_library_that_suffices(scratch: Scratch) -> None:
    match = re.search(r"-py3-none-manylinux_2_(\d+)_x86_64\.whl$", scratch.wheel.name)
    assert match
    with (scratch.site / "bulkhead" / "_engine" / "lib_engine.so").open("rb") as stream:
        sections = [s for s in ELFFile(stream).iter_sections() if isinstance(s, GNUVerNeedSection)]
        names = [one.name for section in sections for _, ones in section.iter_versions() for one in ones]
    needed = max(int(name.split(".")[1]) for name in names if name.startswith("GLIBC_2."))
    assert 0 < needed <= int(match[1])


def test_the_same_sources_make_the_same_wheel(scratch: Scratch, tmp_path: Path) -> None:
    assert sha256_of(build_wheel(tmp_path)) == sha256_of(scratch.wheel)


def test_nothing_in_it_tells_where_it_was_made(scratch: Scratch) -> None:
    with zipfile.ZipFile(scratch.wheel) as wheel:
        content = {name: wheel.read(name) for name in wheel.namelist()}
    assert len(content) > 100
    places = [str(path).encode() for path in (REPOSITORY, Path.home() / ".cache")]
    assert [name for name, data in content.items() if any(place in data for place in places)] == []
