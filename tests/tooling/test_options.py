"""Options of the main job: what is understood, and that everything else is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.errors import InvalidInput
from bulkhead.machine.options import APPEND_MAX, MIB, RunOptions, parse_memory, parse_options


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * MIB), ("1G", 1 << 30), ("64", 64 * MIB), ("65536k", 64 * MIB), ("1GiB", 1 << 30)],
)
def test_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


def test_defaults_are_the_stock_guest() -> None:
    options = parse_options()
    assert (options.memory, options.cpus, options.cpu_model) == (512 * MIB, 2, "neoverse-n1")
    assert options.kernel is None
    assert options.script is None


def test_everything_given_arrives() -> None:
    options = parse_options(
        kernel="k", append="x", memory="256M", cpus="4", load_address="0x40080000", host_cpus="1", timeout="9.5",
        json=True, script="true", toolchain="system",
    )  # fmt: skip
    assert options.load_address == 0x4008_0000
    assert (options.memory, options.cpus, options.host_cpus, options.timeout) == (256 * MIB, 4, 1, 9.5)
    assert options.toolchain == "system"


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"memory": "lots"}, "--memory"),
        ({"memory": "-1M"}, "--memory"),
        ({"memory": "8M"}, "--memory"),
        ({"memory": "400G"}, "--memory"),
        ({"cpus": "0"}, "--cpus"),
        ({"cpus": "9"}, "--cpus"),
        ({"cpus": "two"}, "--cpus"),
        ({"host_cpus": "0"}, "--host-cpus"),
        ({"host_cpus": "99"}, "--host-cpus"),
        ({"cpu_model": "cortex-a8"}, "--cpu-model"),
        ({"timeout": "soon"}, "--timeout"),
        ({"timeout": "0"}, "--timeout"),
        ({"timeout": "nan"}, "--timeout"),
        ({"load_address": "0x40080000"}, "--load-address"),
        ({"kernel": "k", "load_address": "here"}, "--load-address"),
        ({"append": "x" * (APPEND_MAX + 1)}, "--append"),
        ({"append": "löschen"}, "--append"),
        ({"script": "  "}, "--script"),
        ({"toolchain": "nightly"}, "--toolchain"),
        ({"firmware": "uefi", "pkvm": True}, "--pkvm"),
    ],
)
def test_what_is_refused_names_its_option_and_the_remedy(given: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_options(**given)
    assert caught.value.where == where
    assert caught.value.hint


def test_a_script_has_a_time_limit_and_a_session_lasts() -> None:
    assert RunOptions(script="true").time_limit < 1000
    assert RunOptions().time_limit > 10_000
    assert RunOptions(timeout=7).time_limit == 7
