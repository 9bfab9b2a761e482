//! Hosts and VMs on three CPUs that do everything at once with a few frames. Trust label: TOOL.

use std::cell::Cell;
use std::thread;

use bulkhead_abi::{FRAME_SIZE, id, standard, status};
use bulkhead_core::Hardware;
use bulkhead_core::addr::{Frame, VmId};
use bulkhead_core::call::dispatch::{Registers, host_call};
use bulkhead_core::owner::RunState;
use bulkhead_core::stage2;
use bulkhead_core::vcpu::VcpuContext;
use bulkhead_core::vcpu::exit::{Decision, complete, synchronous};
use bulkhead_core::vcpu::processor::Syndrome;
use bulkhead_core::vcpu::run::{Run, claim};
use bulkhead_core::vm::Field;

use super::machine::{Cpu, Shared};
use crate::layout::RamRange;

const CPUS: u64 = 3;
const STEPS: u64 = 6000;
const RAM: RamRange = RamRange { base: 0x4000_0000, size: 16 << 20 };
/// Where VMs have RAM, and the pages of it that are mapped.
const IPA: u64 = 0x4000_0000;
const PAGES: u64 = 3;
/// Frames that everybody wants; VMs, and vCPUs of each.
const FRAMES: u64 = 24;
const VMS: u64 = 2;
const VCPUS: u64 = 2;

const EC_HVC: u64 = 0x16 << 26;
/// Data abort, translation fault at level 3.
const FAULT: u64 = 0x24 << 26 | 7;

/// How often what went well.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    busy: u64,
    entries: u64,
    exits: u64,
    activations: u64,
    destructions: u64,
}

/// One CPU's thread: a source of choices (xorshift64*) and what it has seen.
struct Host<'m> {
    cpu: Cpu<'m>,
    seed: u64,
    tally: Tally,
}

impl Host<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    /// Address of one of the frames.
    fn frame(&mut self) -> u64 {
        self.cpu.machine.layout.split_block + (1 + self.below(FRAMES)) * FRAME_SIZE
    }

    fn page(&mut self) -> u64 {
        IPA + self.below(PAGES) * FRAME_SIZE
    }

    fn call(&mut self, function: u64, arguments: &[u64]) -> bool {
        let mut registers: Registers = [0; 18];
        registers[0] = function;
        registers[1..=arguments.len()].copy_from_slice(arguments);
        host_call(&self.cpu, &mut registers);
        self.tally.calls += 1;
        if registers[0] == status::BUSY {
            self.tally.busy += 1;
            thread::yield_now();
        }
        registers[0] == status::SUCCESS
    }

    /// Makes a VM, as far as others let it.
    fn build(&mut self, vm: u64) {
        let (root, level2, level3) = (self.frame(), self.frame(), self.frame());
        self.call(id::VM_CREATE, &[vm, root, VCPUS, 0, IPA, 8 * FRAME_SIZE]);
        self.call(id::TABLE_DONATE, &[vm, IPA, 2, level2]);
        self.call(id::TABLE_DONATE, &[vm, IPA, 3, level3]);
        for index in 0..VCPUS {
            let vcpu = self.frame();
            self.call(id::VCPU_CREATE, &[vm, index, vcpu]);
            self.call(id::VCPU_SET_ENTRY, &[vcpu, IPA, 0]);
        }
        let (page, frame) = (self.page(), self.frame());
        self.call(id::MAP, &[vm, page, frame, 1]);
        self.tally.activations += u64::from(self.call(id::ACTIVATE, &[vm]));
    }

    /// Ends a VM and takes back what it had, as far as others let it.
    fn end(&mut self, vm: u64) {
        self.call(id::VM_KILL, &[vm]);
        for number in 1..=FRAMES {
            let address = self.cpu.machine.layout.split_block + number * FRAME_SIZE;
            self.call(id::RECLAIM, &[address]);
        }
        for number in 1..=2 * FRAMES {
            let address = self.cpu.machine.layout.split_block + (1 + number % FRAMES) * FRAME_SIZE;
            self.call(id::TABLE_RECLAIM, &[address]);
        }
        self.tally.destructions += u64::from(self.call(id::VM_DESTROY, &[vm]));
    }

    /// A vCPU of a VM, mostly; or any frame.
    fn vcpu(&mut self) -> u64 {
        let (vm, index) = (VmId(self.below(VMS)), self.below(VCPUS));
        match (&self.cpu).vm_word(vm, Field::vcpu(index)).checked_sub(1) {
            Some(frame) if self.below(8) != 0 => stage2::address(&self.cpu, Frame(frame)),
            _ => self.frame(),
        }
    }

    /// `vcpu_run`: what a vCPU does first when it is entered happens at once.
    fn run(&mut self) {
        let vcpu = self.vcpu();
        let run = Run { vcpu, reply: 0, lists: [0; 3], control: 0 };
        let Ok(claimed) = claim(&self.cpu, &run, self.cpu.loaded.get()) else { return };
        if claimed.is_new {
            self.cpu.unload(RunState::RUNNABLE);
            self.cpu.loaded.set(Some(claimed.frame));
        }
        self.tally.entries += 1;
        self.exit(claimed.frame);
    }

    fn exit(&mut self, frame: Frame) {
        let (page, other, choice) = (self.page(), self.below(VCPUS), self.below(8));
        let [function, first, second] = match choice {
            0 => [id::SHARE, page, 0],
            1 => [id::UNSHARE, page, 0],
            2 => [id::RELINQUISH, page, 0],
            3 => [standard::PSCI_CPU_ON, other, IPA],
            4 => [standard::PSCI_AFFINITY_INFO, other, 0],
            5 if self.below(4) == 0 => [standard::PSCI_CPU_OFF, 0, 0],
            6 if self.below(40) == 0 => [standard::PSCI_SYSTEM_OFF, 0, 0],
            _ => [0, 0, 0],
        };
        let esr = if function == 0 { FAULT } else { EC_HVC };
        self.cpu.syndrome.set(Syndrome { esr, far: page, hpfar: page >> 8 });
        let words = self.cpu.context(frame).cast::<VcpuContext>();
        // SAFETY: the frame is aligned, all of its words are initialised, and this CPU has claimed it.
        let vcpu = unsafe { &mut *words };
        complete(vcpu, 0);
        vcpu.x[..4].copy_from_slice(&[function, first, second, 0]);
        let decision = synchronous(&self.cpu, vcpu);
        self.tally.exits += 1;
        if matches!(decision, Decision::Off(_)) {
            self.cpu.unload(RunState::OFF);
        }
    }

    fn step(&mut self) {
        let vm = self.below(VMS);
        let (page, frame) = (self.page(), self.frame());
        match self.below(32) {
            0..=15 => self.run(),
            16 => drop(self.call(id::VCPU_PUT, &[])),
            17..=20 => drop(self.call(id::MAP, &[vm, page, frame, 0])),
            21 | 22 => drop(self.call(id::SHARE_ACCEPT, &[vm, page])),
            23 | 24 => drop(self.call(id::SHARE_RELEASE, &[vm, page])),
            25 => drop(self.call(id::RECLAIM, &[frame])),
            26 if self.below(8) == 0 => self.end(vm),
            _ => self.build(vm),
        }
    }
}

/// All the work of one CPU.
fn work(machine: &Shared, index: u64) -> Tally {
    let syndrome = Syndrome { esr: 0, far: 0, hpfar: 0 };
    let cpu = Cpu { machine, index, loaded: Cell::new(None), syndrome: Cell::new(syndrome) };
    let mut host = Host { cpu, seed: 0x9e37_79b9_7f4a_7c15 ^ index, tally: Tally::default() };
    (0..STEPS).for_each(|_| host.step());
    host.cpu.unload(RunState::RUNNABLE);
    host.tally
}

#[test]
fn cpus_at_the_same_time() {
    let machine = Shared::new(&[RAM], CPUS);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let machine = &machine;
        let threads: Vec<_> = (0..CPUS).map(|index| scope.spawn(move || work(machine, index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no CPU panics")).collect()
    });
    let cpu = Cpu {
        machine: &machine,
        index: 0,
        loaded: Cell::new(None),
        syndrome: Cell::new(Syndrome { esr: 0, far: 0, hpfar: 0 }),
    };
    assert!((&cpu).try_lock(), "nobody has given the lock back");
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (calls, busy) = (sum(|tally| tally.calls), sum(|tally| tally.busy));
    let (entries, exits) = (sum(|tally| tally.entries), sum(|tally| tally.exits));
    let (activations, destructions) = (sum(|tally| tally.activations), sum(|tally| tally.destructions));
    println!(
        "\ntogether: {calls} calls, {busy} busy, {entries} entries of vCPUs, {exits} exits, {activations} VMs activated, \
         {destructions} destroyed"
    );
    assert!(calls > STEPS && entries > 100 && exits > 100, "hosts and VMs do something");
    assert!(activations > 3 && destructions > 3, "VMs come and go");
}
