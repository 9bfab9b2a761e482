"""The specification's words of a context, against the layout that the compiler has chosen."""

from __future__ import annotations

from bulkhead.prove.exec.image import Image
from bulkhead.spec.context import RESIDENT, SWITCHED, ContextWord, register


def test_words_of_a_context_are_where_the_compiler_has_put_them(image: Image) -> None:
    def word(*members: str) -> int:
        return image.offset("VcpuContext", *members) // 8

    own = {"x": 0, "zero": ContextWord.ZERO, "pc": ContextWord.PC, "pstate": ContextWord.PSTATE}
    assert {name: word(name) for name in own} == own
    notes = ("vm", "index", "frame", "vttbr", "vmpidr", "pending", "control", "timer_pending")
    assert [word(name) for name in notes] == [getattr(ContextWord, name.upper()) for name in notes]
    for name in SWITCHED:
        assert word("el1", name.lower()) == register(name)
    for name in RESIDENT:
        assert word("resident", "system", name.lower()) == register(name)
    kept = {
        "timer_lr": "TIMER_LIST",
        "timer_active": "TIMER_ACTIVE",
        "fpcr": "FPCR",
        "fpsr": "FPSR",
        "v": "V",
    }
    for member, name in kept.items():
        assert word("resident", member) == getattr(ContextWord, name)
    assert word("debug") == ContextWord.DEBUG
