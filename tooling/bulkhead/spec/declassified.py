"""What leaves a VM by an exit, and what comes in: the declared exceptions to P6, all of them, in one place.

Trust label: STATEMENT. The specification computes the data of exits from `HOST_LEARNS` alone, so nothing else can leave
by them. Beside these the host learns what the calls answer, and which pages a VM touches first (MEM_FAULT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bulkhead import abi

from . import context
from .context import ContextWord
from .syndrome import EC_HVC, EC_WFX, Syndrome, low_bytes
from .words import Word, choose, field

Read = Callable[[Word], Word]
"""Word of the context → value."""
CPU_ON = next(line.id for line in abi.load().standards if line.name == "PSCI_CPU_ON")
SERROR = next(line.value for line in abi.load().deaths if line.name == "SERROR")


@dataclass(frozen=True)
class Source:
    """Where a word that leaves comes from: words of the context, and a function of those and of the syndrome."""

    text: str
    words: Callable[[Syndrome], tuple[Word, ...]]
    value: Callable[[Read, Syndrome], Word]


def general(number: int) -> Source:
    """A general register as it is."""
    return Source(f"x{number}", lambda _: (number,), lambda read, _: read(number))


def told(text: str, value: Callable[[Syndrome], Word]) -> Source:
    """Something that the syndrome says, of which no register is part."""
    return Source(text, lambda _: (), lambda _, syndrome: value(syndrome))


def of_transfer(read: Read, number: Word) -> Word:
    """A register that an instruction names: 31 reads zero."""
    return choose(number == ContextWord.ZERO, 0, read(number))


EVENT = told(
    "0 for WFI and CPU_SUSPEND, 1 for WFE",
    lambda syndrome: choose(syndrome.exception_class == EC_WFX, field(syndrome.esr, 0, 1), 0),
)
ADDRESS = told("the address of the access", lambda syndrome: syndrome.address)
SIZE = told("its bytes", lambda syndrome: syndrome.size)
STORED = Source(
    "the stored bytes of the register that the instruction names",
    lambda syndrome: (syndrome.register,),
    lambda read, syndrome: low_bytes(syndrome.esr, of_transfer(read, syndrome.register)),
)
PAGE = Source(
    "the page of the access, or x1 of a call",
    lambda _: (1,),
    lambda read, syndrome: choose(syndrome.exception_class == EC_HVC, read(1), syndrome.page),
)
WRITTEN = Source(
    "the register that MSR names",
    lambda syndrome: (syndrome.transfer,),
    lambda read, syndrome: of_transfer(read, syndrome.transfer),
)
TARGET = Source(
    "x1 of CPU_ON, otherwise which vCPU this is",
    lambda _: (0, 1, ContextWord.INDEX),
    lambda read, _: choose(read(0) == CPU_ON, read(1), read(ContextWord.INDEX)),
)

HOST_LEARNS: Mapping[str, tuple[Source, ...]] = {
    "IRQ": (),
    "WFI": (EVENT,),
    "MMIO_READ": (ADDRESS, SIZE),
    "MMIO_WRITE": (ADDRESS, SIZE, STORED),
    "MEM_FAULT": (PAGE,),
    "SGI": (WRITTEN,),
    "VGIC": (),
    "PSCI": (general(0), TARGET),
    "SHARE": (general(0), general(1)),
    "HOST_CALL": (general(1), general(2), general(3)),
    "DIED": (told("why", lambda _: SERROR),),
    "NEEDS_SPLIT": (general(1),),
}
"""Exit class → where x2, x3 and x4 come from."""
WITH_EVERY_EXIT = (context.register("CNTV_CTL_EL0"), context.register("CNTV_CVAL_EL0"))
"""Words behind x9, the deadline of the virtual timer. x5 to x8 are of the virtual CPU interface: the list registers
that the host handed in, with the states that the VM's acknowledgements have left, and why maintenance is due.
"""


def data(exit_class: str, read: Read, syndrome: Syndrome) -> tuple[Word, Word, Word]:
    """x2, x3 and x4 of an exit."""
    known = [source.value(read, syndrome) for source in HOST_LEARNS[exit_class]]
    padded = [*known, 0, 0, 0]
    return padded[0], padded[1], padded[2]


VM_LEARNS: Mapping[str, str] = {
    "reply": "what the host answers: to host_call in x1, to a load as many bytes as it has in its register",
    "interrupts": "which virtual interrupts the host lists, and when",
    "time": "the count since `activate`, when it runs, and how long an instruction that traps takes",
    "identification": "what the register table keeps of the ID registers",
    "random": "random numbers that nobody else gets",
    "measurements": "its own, at launch and at run time",
    "vcpus": "which of its own vCPUs are on",
    "memory": "a page that it touches for the first time is zero",
}
"""What a VM gets to know that is not its own doing."""
