"""The ground that attacks are carried out on: a booted machine, the host's hands, victims with secrets, and what must
hold when an attack is over. Trust label: TOOL.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from attack import programs
from attack.programs import IDLE, RAM, RESULTS, STOP
from bulkhead import abi
from bulkhead.attack import Attack
from bulkhead.attack import Machine as Needs
from bulkhead.conformance import HostFault, Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.testing.builder import dismantle
from bulkhead.image.build import Images
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.records import Kind, VmState
from bulkhead.machine.boot_info import BOOT_INFO, BootInfo
from bulkhead.provision import qemu
from native.guest import Exit, Guest

SECRET = RAM + PAGE
"""Where a victim has its secret page."""
EXTERNAL_ABORT = 0x10
"""Fault status of a synchronous external abort (Arm ARM DDI 0487, `ESR_EL1` for a data abort)."""
UNDEFINED = 0x00
"""Exception class "unknown reason"."""
STATUS = {line.name: line.value & (1 << 64) - 1 for line in abi.load().statuses}


class Traces(AssertionError):
    """The attack noticed nothing itself, but the machine is not as it must be."""


@dataclass
class Victim:
    """An ACTIVE VM with a page of secrets at SECRET that no other domain has ever seen."""

    guest: Guest
    marker: bytes
    page: int

    @property
    def vm(self) -> Vm:
        """Its parts: `root`, `tables`, `pages`, `contexts`, all as physical addresses."""
        return self.guest.vm

    @property
    def slot(self) -> int:
        """VM slot."""
        return self.vm.slot

    @property
    def context(self) -> int:
        """Frame of vCPU 0."""
        return self.vm.contexts[0]

    @property
    def table(self) -> int:
        """Frame of the level 3 table."""
        return self.vm.tables[3, RAM]

    @property
    def content(self) -> bytes:
        """What the secret page holds."""
        return (self.marker * PAGE)[:PAGE]

    def run(self, reply: int = 0, **arguments: int) -> Exit:
        """Runs vCPU 0 until an exit other than IRQ."""
        return self.guest.run(reply, **arguments)

    def reports(self, count: int = 1) -> list[int]:
        """The next values that its program reports."""
        return self.guest.reports(count)


class Arena:
    """A machine with the payload as its host."""

    def __init__(self, backend: QemuBackend) -> None:
        self.backend = backend
        self.machine = Machine(backend)
        self._rebooted()

    def _rebooted(self) -> None:
        self.machine.needs_reset = False
        with stopped_view(self.backend.machine, self.backend.symbols) as view:
            start, end = (view.symbols.address(name) for name in ("__image_start", "__rodata_end"))
            self.image = range(view.physical(start), view.physical(start) + end - start)
        self._constant = self._engine_code()

    @classmethod
    @contextmanager
    def booted(cls, images: Images, needs: Needs) -> Iterator[Arena]:
        """A machine for some attacks."""
        program = str(qemu.ensure())
        backend = QemuBackend(images, program, needs.cpus, needs.cpu_model, needs.devices, needs.extra)
        try:
            yield cls(backend)
        finally:
            backend.close()

    # Before and after

    @contextmanager
    def under(self, attack: Attack) -> Iterator[None]:
        """One attack: what must hold afterwards is checked, and the machine is as before, or booted anew."""
        self._marker = hashlib.sha256(attack.name.encode()).digest()
        self._victims: list[Victim] = []
        self._programs: dict[int, tuple[int, int]] = {}
        self._busy: set[int] = set()
        self.machine.forget_taken()
        before = Snapshot.take(self.machine)
        try:
            yield
            self._check_panic()
            if attack.subject != "machine_end":
                self._afterwards(before)
        except AssertionError:
            self.machine.needs_reset = True
            self._check_panic()
            raise
        except BaseException:
            self.machine.needs_reset = True
            raise
        finally:
            if self.machine.needs_reset:
                self.backend.reset()
                self._rebooted()

    def _check_panic(self) -> None:
        """EnginePanic if the engine has panicked: that is no refusal, and no success of the attack either."""
        machine = self.backend.machine
        machine.loop.step(0)
        if machine.console.panic_started():
            machine.wait_until(lambda: False, 5, "the end of the engine's panic message")

    def _afterwards(self, before: Snapshot) -> None:
        try:
            self._aftermath()
            if not self.machine.needs_reset:
                dismantle(self.machine)
                self._check_left(before)
        except AssertionError as error:
            raise Traces(str(error)) from error

    def _aftermath(self) -> None:
        assert self._engine_code() == self._constant, "the engine's code or constants have changed"
        self.machine.ok("version")
        invariants.check(Snapshot.take(self.machine))
        for victim in self._victims:
            self.check(victim)

    def check(self, victim: Victim) -> None:
        """The victim's secret page is unchanged, and the host owns no copy of it."""
        if self.machine.vm_record(victim.slot).state == VmState.FREE:
            return
        if self.machine.frame_record(victim.page).kind == Kind.VM_PAGE:
            changed = self.machine.physical(victim.page) != victim.content
            assert not changed, f"the secret page of VM {victim.slot} has been changed"
        for address in self.backend.find(victim.marker):
            assert self.owner(address) != Kind.HOST, (
                f"the host owns a secret of VM {victim.slot}: {address:#x}"
            )

    def _check_left(self, before: Snapshot) -> None:
        changes = before.changes(Snapshot.take(self.machine))
        changed = changes.blocks or changes.frames or changes.vms or changes.host_level2 or changes.dma_level2
        assert not changed, f"records or the host's tables are not as before:\n{changes}"
        for victim in self._victims:
            assert not self.backend.find(victim.marker), "a secret is still in RAM when its VM is gone"

    def _engine_code(self) -> bytes:
        code = self.machine.physical(self.image.start, len(self.image))
        return hashlib.sha256(code).digest()

    def owner(self, address: int) -> Kind:
        """Who owns the frame at a physical address."""
        block = self.machine.block_record(address).kind
        return self.machine.frame_record(address).kind if block == Kind.SPLIT else block

    # Victims

    def victim(
        self,
        program: str = IDLE,
        *,
        slot: int = 0,
        vcpus: int = 1,
        context: int = 0,
        cpu: int = 0,
        handler: str = "",
    ) -> Victim:
        """An ACTIVE VM that runs `program`, with secrets."""
        vm = Vm(self.machine, slot, vcpus=vcpus)
        page = vm.page(SECRET)
        marker = hashlib.sha256(self._marker + bytes([slot])).digest()
        guest = Guest(self.machine, programs.guest(program, SECRET, handler), vm, cpu, context)
        victim = Victim(guest, marker, page)
        self.backend.poke(page, victim.content)
        self._victims.append(victim)
        return victim

    # The host's hands

    def take(self, content: bytes = b"") -> int:
        """A host frame with this content, zeros behind it."""
        frame = self.machine.take()
        self.backend.write(frame, content.ljust(PAGE, b"\0"))
        return frame

    def host(self, source: str) -> list[int]:
        """Executes a host program on the boot CPU: its results. Raises HostFault if a fault ends it."""
        code, results = self._place(source, 0)
        self.backend.execute(code)
        return self._results(results)

    def begin(self, source: str, cpu: int = 1) -> int:
        """Lets another CPU execute a host program meanwhile; the address of its results."""
        code, results = self._place(source, cpu)
        self._busy.add(cpu)
        self.backend.begin(cpu, code)
        return results

    def finish(self, cpu: int = 1) -> list[int]:
        """Tells that program to stop and waits for its end: its results. Raises HostFault if a fault ended it."""
        self.backend.write(self._programs[cpu][1] + 8 * STOP, b"\1")
        self._busy.discard(cpu)
        self.backend.finish(cpu)
        return self._results(self._programs[cpu][1])

    def started(self, source: str) -> tuple[int, int]:
        """A host program that a CPU can start with, in host memory: its address and that of its results."""
        code, results = self.take(), self.take()
        self.backend.write(code, programs.host(source, results, called=False))
        return code, results

    def words(self, address: int, count: int = RESULTS) -> list[int]:
        """Words of RAM, whoever owns it."""
        return list(struct.unpack(f"<{count}Q", self.machine.physical(address, 8 * count)))

    def ticks(self) -> int:
        """The physical counter."""
        return self.host("isb\n mrs x0, cntpct_el0\n result 0, x0")[0]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
        """Waits for what another CPU does. MachineTimeout."""
        self.backend.machine.wait_until(condition, seconds, what)

    def cpu_off(self, cpu: int) -> None:
        """Turns a CPU off by PSCI. The payload does not get it back: the machine is booted anew afterwards."""
        self.machine.needs_reset = True
        self.begin("ldr x0, =0x84000002\n hvc #0\n result 0, x0", cpu)
        ask = f"ldr x0, =0xc4000004\n mov x1, #{cpu}\n mov x2, #0\n hvc #0\n result 0, x0"
        self.wait(lambda: self.host(ask)[0] == 1, f"CPU {cpu} to go off")

    def measured(self, content: bytes | None = b"honest", ipa: int = RAM, **parameters: int) -> bytes:
        """The measurement of a VM with one page, which is then gone; parameters: size, vcpus, entry, context."""
        ram = ((RAM, parameters.get("size", BLOCK)),)
        vm = Vm(self.machine, ram=ram, vcpus=parameters.get("vcpus", 1))
        vm.page(ipa, content=content)
        vm.vcpu(0)
        vm.entry(parameters.get("entry", RAM), parameters.get("context", 0)).activate()
        found = self.machine.vm_record(vm.slot).measurement
        dismantle(self.machine)
        return found

    def _place(self, source: str, cpu: int) -> tuple[int, int]:
        if cpu not in self._programs:
            self._programs[cpu] = (self.machine.take(), self.machine.take())
        code, results = self._programs[cpu]
        self.backend.write(results, bytes(8 * RESULTS))
        self.backend.write(code, programs.host(source, results))
        return code, results

    def _results(self, address: int) -> list[int]:
        return list(struct.unpack(f"<{RESULTS}Q", self.backend.memory(address, 8 * RESULTS)))

    def aborts(self, source: str, what: str) -> None:
        """The host program ends in a synchronous external abort: nothing answers for `what`."""
        esr = self._syndrome(source, what)
        assert esr & 0x3F == EXTERNAL_ABORT and esr >> 26 != UNDEFINED, f"{what}: syndrome {esr:#x}"

    def undefined(self, source: str, what: str) -> None:
        """The host program ends in an UNDEFINED instruction: `what` does not exist for it."""
        esr = self._syndrome(source, what)
        assert esr >> 26 == UNDEFINED, f"{what}: unexpected syndrome {esr:#x}"

    def fault(self, source: str) -> int:
        """ESR_EL1 of the fault that ends a host program."""
        return self._syndrome(source, "a program that must fault")

    def _syndrome(self, source: str, what: str) -> int:
        try:
            self.host(source)
        except HostFault as fault:
            return fault.esr
        raise AssertionError(f"{what}: the host was not stopped")

    def unreachable(self, address: int, what: str) -> None:
        """No load, store or fetch by the host at `address` gets through."""
        for size in (1, 2, 4, 8):
            with suppress(HostFault):
                data = self.backend.memory(address, size)
                raise AssertionError(f"the host has read {data.hex()} from {what}")
            with suppress(HostFault):
                self.backend.write(address, bytes(size))
                raise AssertionError(f"the host has written to {what}")
        with suppress(HostFault):
            self.backend.execute(address)
            raise AssertionError(f"the host has executed {what}")

    def stopped(self, cpu: int, what: str) -> None:
        """The program on another CPU was stopped by a synchronous external abort."""
        try:
            self.finish(cpu)
        except HostFault as fault:
            assert fault.esr & 0x3F == EXTERNAL_ABORT, f"{what}: unexpected syndrome {fault.esr:#x}"
        else:
            raise AssertionError(f"{what}: the other CPU was not stopped")

    def map(self, vm: int, ipa: int, frame: int, mode: int = 0) -> str:
        """The status of `map`."""
        return self.status("map", vm=vm, ipa=ipa, frame=frame, mode=mode)

    def status(self, name: str, *, cpu: int = 0, **arguments: int) -> str:
        """The status by name of a call by the host. AssertionError if it is an error, and yet something has changed:
        a record, a table, the memory of a VM."""
        before = None if self._busy else Snapshot.take(self.machine)
        status = self.machine.call(name, cpu=cpu, **arguments).status
        if before and status != "SUCCESS":
            changes = before.changes(Snapshot.take(self.machine))
            assert not changes, f"{name} answers {status}, and yet:\n{changes}"
        return status

    # Devices: the modules of boot.devices take the arena itself as their bus

    def read(self, address: int, length: int) -> bytes:
        """A load by the host."""
        return self.backend.memory(address, length)

    def write(self, address: int, data: bytes) -> None:
        """A store by the host."""
        self.backend.write(address, data)

    def window(self, *, opened: bool = False) -> int:
        """A zeroed block of the host for queues and data, if asked for open to its devices."""
        block = self.machine.take_block()
        for page in range(block, block + 16 * PAGE, PAGE):
            self.write(page, bytes(PAGE))
        if opened:
            self.machine.ok("dma_allow", block=block)
        return block

    def withstands(self, victim: Victim, strike: Callable[[int], None], what: str) -> None:
        """`strike` at each page of a victim and of the engine changes nothing there, however it ends for the host."""
        targets = {"a VM's page": victim.page, "the table of a VM": victim.table, **self.engine_frames}
        for name, target in targets.items():
            before = self.machine.physical(target)
            with suppress(HostFault):
                strike(target)
            assert self.machine.physical(target) == before, f"{what} has written to {name}"

    def register(self, address: int) -> int:
        """A 32-bit device register that the host need not reach, read by QEMU's monitor."""
        return int(self.backend.machine.monitor(f"xp /1xw {address:#x}").split(":")[1], 16)

    @property
    def boot_info(self) -> BootInfo:
        """What the engine has told the host."""
        place = self.backend.link.call("ping")["boot_info"]
        return BootInfo.decode(self.read(place, BOOT_INFO.size))

    # What there is to reach for

    @property
    def engine_frames(self) -> dict[str, int]:
        """Frames of the engine, by what they hold."""
        layout = self.machine.layout
        return {
            "the engine's code": self.image.start,
            "the engine's constants": self.image.stop - PAGE,
            "block records": layout.block_records,
            "frame records": layout.frame_records,
            "VM records": layout.vm_records & -PAGE,
            "the host's level 0 table": layout.host_root,
            "the host's level 2 table": layout.host_level2,
            "the last frame of the reservation": layout.block_records | (BLOCK - PAGE),
        }
