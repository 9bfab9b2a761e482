"""A VM learns from the ID registers of features whose state the engine does not switch, and uses them."""

from attack.arena import Arena
from bulkhead.attack import Edit, Machine, attack


@attack(
    by="vm",
    against="P6",
    refused="ID registers trap and read from one sanitized table",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "    | 1 << 18 // TID3\n",
        "",
    ),
    machine=Machine(cpu_model="max"),
)
def carry_out(arena: Arena) -> None:
    names = ("id_aa64pfr0_el1", "id_aa64pfr1_el1", "id_aa64dfr0_el1", "id_aa64isar1_el1", "id_aa64mmfr0_el1")
    victim = arena.victim("\n".join(f"mrs x0, {name}\n report x0" for name in names))
    pfr0, pfr1, dfr0, isar1, mmfr0 = victim.reports(len(names))
    hidden = {
        "EL2, EL3": pfr0 >> 8 & 0xFF,
        "RAS, SVE": pfr0 >> 28 & 0xFF,
        "AMU, MPAM": pfr0 >> 40 & 0xFF,
        "RME": pfr0 >> 52 & 0xF,
        "MTE, SME": (pfr1 >> 8 & 0xF) | (pfr1 >> 24 & 0xF),
        "PMU, trace": dfr0 >> 4 & 0xFF,
        "SPE": dfr0 >> 32 & 0xF,
        "pointer authentication": isar1 >> 4 & 0xFF,
        "FGT, ECV": mmfr0 >> 56,
    }
    shown = {name: value for name, value in hidden.items() if value}
    assert not shown, f"a VM is told of {shown}"
