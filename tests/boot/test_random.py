"""Random numbers: the boot seed is the engine's alone, and the TRNG calls (Arm DEN 0098) answer."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator

import fdt
import pytest

from boot import machines
from boot.assembly import assemble
from boot.machines import Booted, Spoil
from boot.rig import EXITS, PAGE, VM_RAM, start_vm
from boot.test_psci import program_cpu_off, split_frame
from boot.trees import rebooting, rewrite
from bulkhead import abi
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

SEED_BYTES, KASLR_BYTES = 32, 8
IDS = {line.name: line.id for line in abi.load().standards}
NOT_SUPPORTED = (1 << 64) - 1
SOURCES = {"neoverse-n1": "boot seed", "neoverse-v1": "RNDR", "neoverse-n2": "RNDR", "max": "RNDR"}
# A VM that asks for 192 bits and leaves them, with the status, at the start of its second page.
ASK = f"""
    ldr x0, ={IDS["TRNG_RND64"]:#x}
    mov x1, #192
    hvc #0
    ldr x9, ={VM_RAM + PAGE:#x}
    stp x0, x1, [x9]
    stp x2, x3, [x9, #16]
1:  wfi
    b 1b
"""


DRAWS, DRAWN_PAGES = 2048, 12  # of 24 bytes
# A VM that fills its second page and those behind it with the words of so many answers.
FILL = f"""
    ldr x9, ={VM_RAM + PAGE:#x}
    mov x10, #{DRAWS}
1:  ldr x0, ={IDS["TRNG_RND64"]:#x}
    mov x1, #192
    hvc #0
    cbnz x0, 1b
    stp x1, x2, [x9], #16
    str x3, [x9], #8
    subs x10, x10, #1
    b.ne 1b
2:  wfi
    b 2b
"""


class Seeds:
    """The random bytes that QEMU has put into a device tree."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def take(self, tree: bytearray) -> None:
        """Finds the properties by their lengths and names (Devicetree Specification 0.4, 5.4)."""
        strings = int.from_bytes(tree[12:16], "big")
        for name, length in ((b"rng-seed", SEED_BYTES), (b"kaslr-seed", KASLR_BYTES)):
            offset = bytes(tree).index(b"\0" + name + b"\0", strings) + 1 - strings
            head = (3).to_bytes(4, "big") + length.to_bytes(4, "big") + offset.to_bytes(4, "big")
            start = bytes(tree).index(head) + len(head)
            self.found.append(bytes(tree[start : start + length]))


def forms(seed: bytes) -> Iterator[bytes]:
    """Each 8 bytes of `seed` as they are, and as words of 64 and 32 bits of the other byte order."""
    for part in (seed[start : start + 8] for start in range(0, len(seed) - 7, 8)):
        yield part
        yield part[::-1]
        yield part[3::-1] + part[:3:-1]
        yield part[4:] + part[:4]


def assert_gone(machine: QemuMachine, *seeds: bytes) -> None:
    """Nowhere in RAM, the engine's stack included, are 8 bytes of a seed, in whatever order a hash had them."""
    ram = RamSnapshot(machine.ram, RAM_BASE, machine.config.memory)
    places = {form.hex(): hex(found) for seed in seeds for form in forms(seed) for found in ram.find(form)}
    assert not places, f"parts of the seed are in RAM: {places}"


def test_the_seed_is_gone_before_the_host_runs() -> None:
    seeds = Seeds()
    with machines.boot(QemuConfig(kernel=machines.image()), change=seeds.take) as booted:
        rng, kaslr = seeds.found
        assert len(set(rng)) > 8, "QEMU made a seed"
        with booted.machine.paused():
            assert_gone(booted.machine, rng, kaslr)
        base, size = booted.boot_info.device_tree
        tree = booted.read(base, 4096) + os.pread(booted.machine.ram, size - 4096, base + 4096 - RAM_BASE)
        assert b"rng-seed" in tree, "the property is there, its value is not"
        assert "random numbers: boot seed" in booted.log()
        text = booted.log().encode()
        assert rng.hex().encode() not in text


def test_the_seed_is_gone_wherever_the_tree_lies() -> None:
    """A tree across two blocks of 2 MiB, and its seed across their border."""
    seed = secrets.token_bytes(32)

    def move(machine: QemuMachine) -> None:
        old, size = 128 * MIB, MIB
        tree = bytearray(os.pread(machine.ram, size, old))
        seeds_of(rng_seed=seed)(tree)
        os.pwrite(machine.ram, bytes(size), old)
        border = old + 16 * MIB
        new = border - (tree.index(seed) + 16 & -8)
        os.pwrite(machine.ram, tree, new)
        start = os.pread(machine.ram, 64, 0)  # QEMU's first instructions load x0 from here (hw/arm/boot.c)
        literal = (RAM_BASE + old).to_bytes(8, "little")
        assert start.count(literal) == 1
        os.pwrite(machine.ram, start.replace(literal, (RAM_BASE + new).to_bytes(8, "little")), 0)

    config = QemuConfig(kernel=machines.image(), memory=256 * MIB)
    with machines.boot(config, before=move) as booted:
        base, _ = booted.boot_info.device_tree
        assert base % (2 * MIB) > MIB, "the engine has found the tree where it was put"
        assert "random numbers: boot seed" in booted.log()
        with booted.machine.paused():
            assert_gone(booted.machine, seed)


def seeds_of(**values: bytes) -> Spoil:
    """A tree with these seeds and no others."""

    def edit(tree: fdt.FDT) -> None:
        for name in ("rng-seed", "kaslr-seed"):
            tree.get_node("/chosen").remove_property(name)
            value = values.get(name.replace("-", "_"))
            if value is not None:
                tree.get_node("/chosen").append(fdt.PropBytes(name, data=value))

    return rewrite(edit)


def test_what_is_no_seed_makes_no_numbers() -> None:
    """32 bytes or more that are not all zero (as the engine leaves them) are a seed; all are taken, however many."""
    enough, more, kaslr = secrets.token_bytes(32), secrets.token_bytes(200), secrets.token_bytes(8)
    cases = [
        ("none", {"rng_seed": bytes(32), "kaslr_seed": kaslr}),
        ("none", {"rng_seed": bytes(4096)}),
        ("none", {"rng_seed": enough[:31], "kaslr_seed": kaslr}),
        ("none", {"rng_seed": b""}),
        ("none", {"kaslr_seed": enough}),
        ("none", {}),
        ("boot seed", {"rng_seed": bytes(31) + b"\1"}),
        ("boot seed", {"rng_seed": enough}),
        ("boot seed", {"rng_seed": more, "kaslr_seed": more[::-1]}),
    ]
    config = QemuConfig(kernel=machines.image(), memory=256 * MIB, halted=True)
    with rebooting(config) as machine:
        for source, seeds in cases:
            assert machine.boot(seeds_of(**seeds)) == ""
            assert f"random numbers: {source}\r" in machine.machine.console.text, seeds
            machine.machine.qmp.execute("stop")
            assert_gone(machine.machine, *(seed for seed in seeds.values() if len(set(seed)) > 2))


def ask(booted: Booted, name: str, *arguments: int, cpu: int = 0) -> list[int]:
    """x0 to x3 of a TRNG call of the host."""
    registers = [IDS[name], *arguments]
    answer = booted.link.call("call", {"cpu": cpu, "regs": registers + [0] * (18 - len(registers))})["regs"]
    return [int(value) for value in answer[:4]]


def asked_by_a_vm(booted: Booted, slot: int) -> list[int]:
    """What a VM in `slot` gets: the status and three words."""
    vm = start_vm(booted, slot, {VM_RAM: assemble(ASK), VM_RAM + PAGE: b""})
    vm.run()
    return memoryview(vm.memory(VM_RAM + PAGE, 32)).cast("Q").tolist()


def of_a_vm(booted: Booted, slot: int) -> tuple[int, ...]:
    """The three words."""
    status, *words = asked_by_a_vm(booted, slot)
    assert status == 0
    return tuple(words)


def switch_off_and_on(booted: Booted, cpu: int) -> None:
    """PSCI CPU_OFF of another CPU, which has its generator's key when it is back, not its first one."""
    booted.write(split_frame(booted), program_cpu_off())
    booted.link.call("begin", {"cpu": cpu, "address": split_frame(booted)})
    off = "PSCI_AFFINITY_INFO"
    booted.machine.wait_until(lambda: ask(booted, off, cpu, 0)[0] == 1, 10, "the CPU to go off")
    booted.link.call("cpu_on", {"cpu": cpu})


def test_a_key_is_gone_when_it_has_answered() -> None:
    """Who gets hold of all RAM after an answer cannot compute it: no key that was used is left, nor a copy of one."""
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1)) as booted:
        with stopped_view(booted.machine, booted.symbols) as view:
            place = view.physical(booted.symbols.address("KEYS"))
        keys = [booted.raw(place, 32)]
        for _ in range(3):
            assert ask(booted, "TRNG_RND64", 192)[0] == 0
            with booted.machine.paused():
                assert_gone(booted.machine, *keys)
            keys.append(booted.raw(place, 32))
            with booted.machine.paused():
                ram = RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)
                assert ram.find(keys[-1]) == [place], "the next key is in its one place"
    assert len(set(keys)) == 4
    assert all(len(set(key)) > 8 for key in keys)


@pytest.mark.parametrize(("model", "source"), SOURCES.items(), ids=SOURCES)
def test_numbers_differ_between_calls_cpus_vms_and_boots(model: str, source: str) -> None:
    seen: list[tuple[int, ...]] = []
    for _ in range(2):
        with machines.boot(QemuConfig(kernel=machines.image(), cpu_model=model, cpus=2)) as booted:
            booted.next_frame = booted.boot_info.split_block[0] + PAGE
            assert f"random numbers: {source}" in booted.log()
            assert ask(booted, "TRNG_VERSION")[0] == 0x1_0000
            booted.link.call("cpu_on", {"cpu": 1})
            for cpu in (0, 0, 1, 1):
                status, *words = ask(booted, "TRNG_RND64", 192, cpu=cpu)
                assert status == 0
                seen.append(tuple(words))
            seen += [of_a_vm(booted, slot) for slot in (0, 1)]
            switch_off_and_on(booted, 1)
            seen += [tuple(ask(booted, "TRNG_RND64", 192, cpu=cpu)[1:]) for cpu in (0, 1)]
    words = [word for answer in seen for word in answer]
    assert len(words) == 48
    assert not (twice := {f"{word:#x}" for word in words if words.count(word) > 1}), (
        f"numbers come again: {twice}"
    )
    # 3072 bits, each 0 or 1 with the same chance: ten standard deviations around the mean.
    assert abs(sum(word.bit_count() for word in words) - 1536) < 277


@pytest.mark.parametrize("model", ["neoverse-n1", "max"])
def test_many_numbers_look_random(model: str) -> None:
    """Frequency, runs and bytes (NIST SP 800-22, 2.1 and 2.3; Pearson's chi-squared), each as rare as one in 10^9."""
    with machines.boot(QemuConfig(kernel=machines.image(), cpu_model=model, cpus=1)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        places = [VM_RAM + PAGE * (1 + number) for number in range(DRAWN_PAGES)]
        vm = start_vm(booted, 0, {VM_RAM: assemble(FILL)} | dict.fromkeys(places, b""))
        assert vm.run_on()[0] == EXITS["WFI"]
        data = b"".join(vm.memory(place, PAGE) for place in places)
    assert len(data) == DRAWS * 24
    words = [data[start : start + 8] for start in range(0, len(data), 8)]
    assert len(set(words)) == len(words)
    bits, size = int.from_bytes(data, "little"), 8 * len(data)
    deviation = math.sqrt(size) / 2
    assert abs(bits.bit_count() - size / 2) < 6.1 * deviation, "ones and zeros"
    assert abs((bits ^ bits >> 1).bit_count() - size / 2) < 6.1 * deviation, "changes between neighbours"
    expected = len(data) / 256
    chi_squared = sum((data.count(value) - expected) ** 2 / expected for value in range(256))
    assert 140 < chi_squared < 410, "bytes, 255 degrees of freedom"


def test_without_a_source_there_are_no_calls() -> None:
    config = QemuConfig(kernel=machines.image(), extra=("-machine", "dtb-randomness=off"))
    with machines.boot(config) as booted:
        assert "random numbers: none" in booted.log()
        for name in ("TRNG_VERSION", "TRNG_FEATURES", "TRNG_GET_UUID", "TRNG_RND32", "TRNG_RND64"):
            assert ask(booted, name, 64)[0] == NOT_SUPPORTED
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        assert asked_by_a_vm(booted, 0)[:2] == [NOT_SUPPORTED, 192], "a VM gets no numbers either"
