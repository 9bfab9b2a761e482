//! A storm: every CPU makes random calls on the same few VMs, frames and blocks, none of them knowing what the others
//! do; CPUs go off and come back (trust label: UNTRUSTED).
//!
//! Whatever the engine answers is fine; what must hold is looked at from outside when the storm is over. A seed and a
//! CPU's number fix what that CPU tries, not how the CPUs interleave.

use bulkhead_abi::{BLOCK_SIZE, BootInfo, CPUS_MAX, FRAME_SIZE, NO_DEADLINE, exit, id, standard};
use bulkhead_el1::{cpu, gic, hvc, probe};
use bulkhead_link::message::{Refusal, Request};
use core::sync::atomic::{AtomicU64, Ordering};

/// First address of every VM's RAM, and its blocks.
const RAM: u64 = 0x4000_0000;
const VM_BLOCKS: u64 = 4;
/// VMs that the CPUs fight for.
const VMS: u64 = 5;
/// vCPU frames that are remembered, each with its VM in the bits below the frame's size.
const REMEMBERED: usize = 32;
/// Longest turn of a vCPU, microseconds, and most turns in a row.
const TURN: u64 = 500;
const TURNS: u64 = 12;

/// What all CPUs know: seed, steps, first frame, frames, first block, blocks, page with the guest's code.
const PLAN: [&str; 7] = ["seed", "steps", "frame", "frames", "block", "blocks", "code"];
static PLANNED: [AtomicU64; PLAN.len()] = [const { AtomicU64::new(0) }; PLAN.len()];
static VCPUS: [AtomicU64; REMEMBERED] = [const { AtomicU64::new(0) }; REMEMBERED];
static LEFT: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(0) }; CPUS_MAX];
static STATE: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(0) }; CPUS_MAX];
static ASLEEP: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(AWAKE) }; CPUS_MAX];
static CALLS: AtomicU64 = AtomicU64::new(0);
static SUCCESSES: AtomicU64 = AtomicU64::new(0);
static SWITCHED_OFF: AtomicU64 = AtomicU64::new(0);

const AWAKE: u64 = 0;
const OFF: u64 = 1;
const WAKING: u64 = 2;

/// Notes what the storm is to be, for `cpus` CPUs.
pub fn prepare(request: &Request, cpus: usize) -> Result<(), Refusal> {
    for (name, place) in PLAN.iter().zip(&PLANNED) {
        place.store(request.u64(name)?, Ordering::Relaxed);
    }
    for index in 0..cpus {
        let seed = planned(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64 + 1) << 32;
        STATE[index].store(seed | 1, Ordering::Relaxed);
        LEFT[index].store(planned(1), Ordering::Relaxed);
        ASLEEP[index].store(AWAKE, Ordering::Relaxed);
    }
    [&CALLS, &SUCCESSES, &SWITCHED_OFF].map(|counter| counter.store(0, Ordering::Relaxed));
    Ok(())
}

/// Calls made, those that succeeded, and how often a CPU went off.
pub fn counts() -> [u64; 3] {
    [&CALLS, &SUCCESSES, &SWITCHED_OFF].map(|counter| counter.load(Ordering::Relaxed))
}

/// Whether the CPU, which has just come on, was in a storm when it went off.
pub fn was_interrupted(index: usize) -> bool {
    ASLEEP[index].swap(AWAKE, Ordering::AcqRel) == WAKING
}

/// Whether every one of the first `cpus` CPUs is through.
pub fn is_over(cpus: usize) -> bool {
    (0..cpus).all(|index| LEFT[index].load(Ordering::Acquire) == 0)
}

/// This CPU's part of the storm, from where it is.
pub fn run(boot: &BootInfo, index: usize) {
    let mut storm = Storm { boot, index, state: STATE[index].load(Ordering::Relaxed) };
    while LEFT[index].load(Ordering::Relaxed) > 0 {
        storm.step();
        LEFT[index].fetch_sub(1, Ordering::Relaxed);
        STATE[index].store(storm.state, Ordering::Relaxed);
    }
    attempt(id::VCPU_PUT, &[]);
    LEFT[index].store(0, Ordering::Release);
}

/// Turns on a CPU that a storm has left off.
pub fn wake(boot: &BootInfo, target: usize) {
    if ASLEEP[target].compare_exchange(OFF, WAKING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        && cpu::start(boot, target).is_err()
    {
        // It is still on its way down.
        ASLEEP[target].store(OFF, Ordering::Release);
    }
}

fn planned(index: usize) -> u64 {
    PLANNED[index].load(Ordering::Relaxed)
}

/// x0 to x17 of a call.
fn call(function: u64, arguments: &[u64]) -> [u64; 18] {
    let mut registers = [0; 18];
    registers[0] = function;
    registers[1..=arguments.len()].copy_from_slice(arguments);
    hvc::raw(&mut registers);
    CALLS.fetch_add(1, Ordering::Relaxed);
    if registers[0] == 0 {
        SUCCESSES.fetch_add(1, Ordering::Relaxed);
    }
    registers
}

/// A call whose answer does not matter.
fn attempt(function: u64, arguments: &[u64]) {
    let _ = call(function, arguments);
}

struct Storm<'b> {
    boot: &'b BootInfo,
    index: usize,
    state: u64,
}

impl Storm<'_> {
    /// The next number below `limit` (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }

    fn vm(&mut self) -> u64 {
        self.below(VMS)
    }

    fn frame(&mut self) -> u64 {
        if self.below(8) == 0 {
            return self.block() + self.below(BLOCK_SIZE / FRAME_SIZE) * FRAME_SIZE;
        }
        planned(2) + self.below(planned(3)) * FRAME_SIZE
    }

    fn block(&mut self) -> u64 {
        planned(4) + self.below(planned(5)) * BLOCK_SIZE
    }

    fn ipa_block(&mut self) -> u64 {
        RAM + self.below(VM_BLOCKS) * BLOCK_SIZE
    }

    fn ipa(&mut self) -> u64 {
        self.ipa_block() + self.below(8) * FRAME_SIZE
    }

    fn vcpu(&mut self) -> u64 {
        VCPUS[self.below(REMEMBERED as u64) as usize].load(Ordering::Relaxed)
    }

    fn step(&mut self) {
        match self.below(32) {
            0..=3 => self.build(),
            4..=12 => self.run_vcpu(),
            13 | 14 => self.take_apart(),
            15 => attempt(id::VM_KILL, &[self.vm()]),
            16 => attempt(id::VCPU_PUT, &[]),
            17 => attempt(id::HOST_SPLIT, &[self.block(), self.frame()]),
            18 | 19 => attempt(id::VM_SPLIT, &[self.block(), self.frame(), self.frame()]),
            20 | 21 => attempt(id::MAP_BLOCK, &[self.vm(), self.ipa_block(), self.block()]),
            22 => attempt(id::RECLAIM_BLOCK, &[self.block()]),
            23 => attempt(id::RECLAIM, &[self.frame()]),
            24 => attempt(id::TABLE_RECLAIM, &[self.frame()]),
            25 => attempt(id::SHARE_ACCEPT, &[self.vm(), self.ipa()]),
            26 => attempt(id::SHARE_RELEASE, &[self.vm(), self.ipa()]),
            27 => self.touch(),
            28 => attempt(id::DMA_ALLOW, &[self.block()]),
            29 => attempt(id::DMA_REVOKE, &[self.block()]),
            30 if self.index != 0 => self.go_off(),
            _ => wake(self.boot, self.below(self.boot.cpus) as usize),
        }
    }

    /// Builds a VM out of whatever frames come up, as far as the engine goes along.
    fn build(&mut self) {
        let (vm, vcpus) = (self.vm(), 1 + self.below(2));
        attempt(id::VM_CREATE, &[vm, self.frame(), vcpus, 0, RAM, VM_BLOCKS * BLOCK_SIZE, 0, 0, 0, 0, 0, 0]);
        attempt(id::TABLE_DONATE, &[vm, RAM, 2, self.frame()]);
        attempt(id::TABLE_DONATE, &[vm, RAM, 3, self.frame()]);
        let code = self.frame();
        self.write_code(code);
        attempt(id::MAP, &[vm, RAM, code, 1]);
        for index in 0..vcpus {
            let frame = self.frame();
            if call(id::VCPU_CREATE, &[vm, index, frame])[0] == 0 {
                VCPUS[self.below(REMEMBERED as u64) as usize].store(frame | vm, Ordering::Relaxed);
                attempt(id::VCPU_SET_ENTRY, &[frame, RAM, self.below(1 << 31)]);
            }
        }
        attempt(id::ACTIVATE, &[vm]);
    }

    /// The guest's code, unless the frame has just become somebody else's.
    fn write_code(&self, frame: u64) {
        for offset in (0..FRAME_SIZE / 2).step_by(8) {
            // SAFETY: the tester names the pages that a storm may use; nothing of this program is in them.
            unsafe {
                let Ok(word) = probe::read(planned(6) + offset, 8) else { return };
                if probe::write(frame + offset, word, 8).is_err() {
                    return;
                }
            }
        }
    }

    fn touch(&mut self) {
        let address = self.frame();
        // SAFETY: as in `write_code`.
        let _ = unsafe { probe::read(address, 8) };
    }

    fn run_vcpu(&mut self) {
        let remembered = self.vcpu();
        let (vcpu, vm) = (remembered & !(FRAME_SIZE - 1), remembered & (FRAME_SIZE - 1));
        for _ in 0..self.below(TURNS) {
            cpu::set_timer(cpu::now().saturating_add(cpu::ticks(TURN)));
            let [status, class, data0, data1, ..] = call(id::VCPU_RUN, &[vcpu, 0, 0, 0, 0, 0]);
            cpu::set_timer(NO_DEADLINE);
            match (status, class) {
                (0, exit::IRQ) => gic::service(|_| {}),
                (0, exit::MEM_FAULT) => self.serve_fault(vm, data0),
                (0, exit::SHARE) => self.serve_share(vm, data1),
                (0, exit::NEEDS_SPLIT) => attempt(id::VM_SPLIT, &[self.block(), self.frame(), self.frame()]),
                (0, exit::DIED) => return,
                (0, _) => (),
                _ => return,
            }
        }
    }

    /// Memory for a VM that has faulted.
    fn serve_fault(&mut self, vm: u64, ipa: u64) {
        if self.below(3) == 0 {
            attempt(id::MAP_BLOCK, &[vm, ipa & !(BLOCK_SIZE - 1), self.block()]);
            return;
        }
        attempt(id::TABLE_DONATE, &[vm, ipa, 3, self.frame()]);
        attempt(id::MAP, &[vm, ipa, self.frame(), 0]);
    }

    fn serve_share(&mut self, vm: u64, ipa: u64) {
        let [status, frame, ..] = call(id::SHARE_ACCEPT, &[vm, ipa]);
        if status == 0 {
            // SAFETY: as in `write_code`.
            let _ = unsafe { probe::read(frame, 8) };
            if self.below(2) == 0 {
                attempt(id::SHARE_RELEASE, &[vm, ipa]);
            }
        }
    }

    /// Everything that a VM could have, by trying all there is.
    fn take_apart(&mut self) {
        let vm = self.vm();
        attempt(id::VM_KILL, &[vm]);
        let blocks = (0..planned(5)).map(|number| planned(4) + number * BLOCK_SIZE);
        let inside = |base: u64, count: u64| (0..count).map(move |number| base + number * FRAME_SIZE);
        let in_blocks = planned(5) * (BLOCK_SIZE / FRAME_SIZE);
        let frames = || inside(planned(2), planned(3)).chain(inside(planned(4), in_blocks));
        blocks.for_each(|block| attempt(id::RECLAIM_BLOCK, &[block]));
        frames().for_each(|frame| attempt(id::RECLAIM, &[frame]));
        // Level 3 tables before those of level 2, wherever they are.
        for _ in 0..2 {
            frames().for_each(|frame| attempt(id::TABLE_RECLAIM, &[frame]));
        }
        attempt(id::VM_DESTROY, &[vm]);
    }

    /// CPU_OFF; another CPU brings this one back, which goes on where it was.
    fn go_off(&mut self) {
        STATE[self.index].store(self.state, Ordering::Relaxed);
        SWITCHED_OFF.fetch_add(1, Ordering::Relaxed);
        ASLEEP[self.index].store(OFF, Ordering::Release);
        attempt(standard::PSCI_CPU_OFF, &[]);
        // Refused: awake all the time.
        ASLEEP[self.index].store(AWAKE, Ordering::Release);
    }
}
