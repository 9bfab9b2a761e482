"""The host claims one vCPU on two CPUs at the same time, again and again."""

from attack.arena import STATUS, Arena
from attack.programs import STOP
from bulkhead.attack import Edit, attack

ROUNDS = 20
BUSY = STATUS["BUSY"]
RUN = "vcpu_run {vcpu:#x}\n result 0, x0\n result 1, x1"
WFI = 1


@attack(
    by="host",
    against="P5",
    refused="the claim is one compare-and-swap of the ownership record",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "!hw.exchange_frame_record(frame, record, claimed)",
        "{\n        (0..2_000_000).for_each(|n| _ = core::hint::black_box(n));  // the two meet for certain\n"
        "        hw.set_frame_record(frame, claimed);\n        false\n    }",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("mov x1, xzr\n 1: add x1, x1, #1\n wfi\n b 1b")
    run, runs = RUN.format(vcpu=victim.context), 0
    for _ in range(ROUNDS):
        place = arena.begin(f"1: again 1b\n {run}")
        mine = arena.host(f"ldr x0, ={place:#x}\n mov x1, #1\n str x1, [x0, #{8 * STOP}]\n {run}")
        theirs = arena.finish()
        answers = [mine[0], theirs[0]]
        assert answers != [0, 0], "one vCPU is loaded on two CPUs"
        assert sorted(answers) == [0, BUSY], f"two claims of one vCPU: {list(map(hex, answers))}"
        runs += [0, WFI] in (mine[:2], theirs[:2])
        for cpu in (0, 1):
            arena.machine.ok("vcpu_put", cpu=cpu)
    counted = arena.words(victim.context, 2)[1]
    assert runs == counted, f"a vCPU has run {counted} times in {runs} runs"
