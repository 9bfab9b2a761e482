//! A storm: every CPU makes random calls on the same few VMs, frames and blocks, none of them knowing what the others
//! do; CPUs go off and come back (trust label: UNTRUSTED).
//!
//! Whatever the engine answers is fine, but a frame that comes back is zero ([`gifts`]); what else must hold is looked at
//! from outside when the storm is over. A seed and a CPU's number fix what that CPU tries, not how the CPUs interleave.

use crate::calls::{attempt, call, insist};
use crate::gifts::{self, Ground, HOST_TABLE, NOBODY, Piece};
use crate::tally::{self, Event};
use bulkhead_abi::{BLOCK_SIZE, BootInfo, CPUS_MAX, FRAME_SIZE, NO_DEADLINE, exit, id, standard, status};
use bulkhead_el1::{cpu, gic, hvc, probe};
use bulkhead_link::message::{Refusal, Request};
use core::sync::atomic::{AtomicU64, Ordering};

/// First address of every VM's RAM, and its blocks.
const RAM: u64 = 0x4000_0000;
const VM_BLOCKS: u64 = 4;
/// VMs that the CPUs fight for.
const VMS: u64 = 5;
/// Most vCPUs of each.
const VCPUS_EACH: u64 = 2;
/// Longest turn of a vCPU, microseconds, and most turns in a row.
const TURN: u64 = 500;
const TURNS: u64 = 24;
/// What all CPUs know: seed, steps, then as [`Ground`].
const PLAN: [&str; 7] = ["seed", "steps", "frame", "frames", "block", "blocks", "code"];
static PLANNED: [AtomicU64; PLAN.len()] = [const { AtomicU64::new(0) }; PLAN.len()];
/// The frame of each VM's newest vCPUs, or 0.
static VCPUS: [AtomicU64; (VMS * VCPUS_EACH) as usize] = [const { AtomicU64::new(0) }; (VMS * VCPUS_EACH) as usize];
static LEFT: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(0) }; CPUS_MAX];
static STATE: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(0) }; CPUS_MAX];
static ASLEEP: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(AWAKE) }; CPUS_MAX];

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
    VCPUS.iter().for_each(|vcpu| vcpu.store(0, Ordering::Relaxed));
    gifts::clear();
    tally::clear();
    Ok(())
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
    let [_, _, frame, frames, block, blocks, code] = core::array::from_fn(planned);
    let ground = Ground { frame, frames, block, blocks, code };
    let mut storm = Storm { boot, index, ground, state: STATE[index].load(Ordering::Relaxed) };
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
    if ASLEEP[target].compare_exchange(OFF, WAKING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        match cpu::start(boot, target) {
            Ok(()) => tally::event(Event::CpuOn),
            // It is still on its way down.
            Err(_) => ASLEEP[target].store(OFF, Ordering::Release),
        }
    }
}

fn planned(index: usize) -> u64 {
    PLANNED[index].load(Ordering::Relaxed)
}

/// How a VM is noted as an owner.
const fn owner(vm: u64) -> u8 {
    vm as u8 + 1
}

struct Storm<'b> {
    boot: &'b BootInfo,
    index: usize,
    ground: Ground,
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

    /// A frame, whoever has it.
    fn frame(&mut self) -> u64 {
        if self.below(8) == 0 {
            return self.block() + self.below(BLOCK_SIZE / FRAME_SIZE) * FRAME_SIZE;
        }
        self.ground.frame + self.below(self.ground.frames) * FRAME_SIZE
    }

    fn block(&mut self) -> u64 {
        self.ground.block + self.below(self.ground.blocks) * BLOCK_SIZE
    }

    /// Mostly a frame that nobody seems to have.
    fn free_frame(&mut self) -> u64 {
        let ground = self.ground;
        self.draw(Self::frame, |frame| ground.owner(Piece::Frame(frame)) == NOBODY)
    }

    /// Mostly a block that `owner` seems to have.
    fn block_of(&mut self, owner: u8) -> u64 {
        let ground = self.ground;
        self.draw(Self::block, |block| ground.owner(Piece::Block(block)) == owner)
    }

    /// Draws until `wanted`, but not for ever.
    fn draw(&mut self, one: fn(&mut Self) -> u64, wanted: impl Fn(u64) -> bool) -> u64 {
        const DRAWS: u32 = 8;
        let mut drawn = one(self);
        for _ in 0..DRAWS {
            if wanted(drawn) {
                break;
            }
            drawn = one(self);
        }
        drawn
    }

    fn ipa_block(&mut self) -> u64 {
        RAM + self.below(VM_BLOCKS) * BLOCK_SIZE
    }

    fn ipa(&mut self) -> u64 {
        self.ipa_block() + self.below(8) * FRAME_SIZE
    }

    fn step(&mut self) {
        match self.below(64) {
            0..=5 => self.build(),
            6..=29 => self.run_vcpu(),
            30 | 31 => {
                let vm = self.vm();
                self.take_apart(vm);
            }
            32 => _ = attempt(id::VM_KILL, &[self.vm()]),
            33 | 34 => _ = attempt(id::VCPU_PUT, &[]),
            35 => self.host_split(),
            36 | 37 => {
                let block = self.block();
                self.vm_split(block);
            }
            38..=43 => {
                let (vm, ipa) = (self.vm(), self.ipa_block());
                self.map_block(vm, ipa);
            }
            44 | 45 => self.reclaim_block(),
            46 | 47 => self.take_frame(id::RECLAIM),
            48 | 49 => self.take_frame(id::TABLE_RECLAIM),
            50 | 51 => _ = attempt(id::SHARE_ACCEPT, &[self.vm(), self.ipa()]),
            52 | 53 => _ = attempt(id::SHARE_RELEASE, &[self.vm(), self.ipa()]),
            54 | 55 => self.touch(),
            56 | 57 => _ = attempt(id::DMA_ALLOW, &[self.block()]),
            58..=60 => _ = attempt(id::DMA_REVOKE, &[self.block()]),
            61 if self.index != 0 => self.go_off(),
            _ => wake(self.boot, self.below(self.boot.cpus) as usize),
        }
    }

    /// Builds a VM out of whatever frames come up, as far as the engine goes along.
    fn build(&mut self) {
        let (vm, vcpus) = (self.vm(), 1 + self.below(VCPUS_EACH));
        let root = self.free_frame();
        let created = [vm, root, vcpus, 0, RAM, VM_BLOCKS * BLOCK_SIZE, 0, 0, 0, 0, 0, 0];
        if !self.give(vm, root, id::VM_CREATE, &created) && self.below(4) != 0 {
            return;
        }
        for level in [2, 3] {
            let table = self.free_frame();
            self.give(vm, table, id::TABLE_DONATE, &[vm, RAM, level, table]);
        }
        let code = self.free_frame();
        self.write_code(code);
        self.give(vm, code, id::MAP, &[vm, RAM, code, 1]);
        for index in 0..vcpus {
            let frame = self.free_frame();
            if self.give(vm, frame, id::VCPU_CREATE, &[vm, index, frame]) {
                VCPUS[(vm * VCPUS_EACH + index) as usize].store(frame, Ordering::Relaxed);
                if index == 0 {
                    insist(id::VCPU_SET_ENTRY, &[frame, RAM, self.below(1 << 31)]);
                }
            }
        }
        insist(id::ACTIVATE, &[vm]);
    }

    /// A call that gives `frame` to a VM.
    fn give(&self, vm: u64, frame: u64, function: u64, arguments: &[u64]) -> bool {
        self.ground.give(Piece::Frame(frame), owner(vm), || insist(function, arguments))
    }

    fn map_block(&mut self, vm: u64, ipa: u64) {
        let block = self.block_of(NOBODY);
        self.ground.give(Piece::Block(block), owner(vm), || attempt(id::MAP_BLOCK, &[vm, ipa, block]));
    }

    fn host_split(&mut self) {
        let (block, table) = (self.block(), self.free_frame());
        self.ground.give(Piece::Frame(table), HOST_TABLE, || attempt(id::HOST_SPLIT, &[block, table]));
    }

    fn vm_split(&mut self, block: u64) {
        let (table, host_table) = (self.free_frame(), self.free_frame());
        let vm = self.ground.owner(Piece::Block(block));
        let split = self.ground.give(Piece::Frame(host_table), HOST_TABLE, || {
            let split = || attempt(id::VM_SPLIT, &[block, table, host_table]);
            self.ground.give(Piece::Frame(table), vm, split)
        });
        if split {
            self.ground.note(Piece::Block(block), NOBODY);
            gifts::frames_of(block).for_each(|frame| self.ground.note(Piece::Frame(frame), vm));
        }
    }

    fn reclaim_block(&mut self) {
        let block = self.block();
        self.ground.take_back(Piece::Block(block), || attempt(id::RECLAIM_BLOCK, &[block]));
    }

    fn take_frame(&mut self, function: u64) {
        let frame = self.frame();
        self.ground.take_back(Piece::Frame(frame), || attempt(function, &[frame]));
    }

    /// The guest's code, unless the frame has just become somebody else's.
    fn write_code(&self, frame: u64) {
        for offset in (0..FRAME_SIZE / 2).step_by(8) {
            // SAFETY: the tester names the pages that a storm may use; nothing of this program is in them.
            unsafe {
                let Ok(word) = probe::read(self.ground.code + offset, 8) else { return };
                if probe::write(frame + offset, word, 8).is_err() {
                    return;
                }
            }
        }
    }

    fn touch(&mut self) {
        let address = self.frame();
        // SAFETY: as in `write_code`.
        if unsafe { probe::read(address, 8) }.is_err() {
            tally::event(Event::Faulted);
        }
    }

    fn run_vcpu(&mut self) {
        let place = self.below(VMS * VCPUS_EACH);
        let (vm, vcpu) = (place / VCPUS_EACH, VCPUS[place as usize].load(Ordering::Relaxed));
        for _ in 0..self.below(TURNS) {
            cpu::set_timer(cpu::now().saturating_add(cpu::ticks(TURN)));
            let [answer, class, data0, data1, ..] = call(id::VCPU_RUN, &[vcpu, 0, 0, 0, 0, 0]);
            cpu::set_timer(NO_DEADLINE);
            if answer != status::SUCCESS {
                return;
            }
            tally::exit(class);
            match class {
                exit::IRQ => gic::service(|_| {}),
                exit::MEM_FAULT => self.serve_fault(vm, data0),
                exit::SHARE => self.serve_share(vm, data0, data1),
                exit::PSCI => tally::vm_call(data0),
                exit::NEEDS_SPLIT => {
                    let block = self.block_of(owner(vm));
                    self.vm_split(block);
                }
                exit::DIED => return,
                _ => (),
            }
        }
    }

    /// Memory for a VM that has faulted.
    fn serve_fault(&mut self, vm: u64, ipa: u64) {
        if self.below(3) == 0 {
            self.map_block(vm, ipa & !(BLOCK_SIZE - 1));
            return;
        }
        let (table, frame) = (self.free_frame(), self.free_frame());
        self.ground.give(Piece::Frame(table), owner(vm), || attempt(id::TABLE_DONATE, &[vm, ipa, 3, table]));
        self.ground.give(Piece::Frame(frame), owner(vm), || attempt(id::MAP, &[vm, ipa, frame, 0]));
    }

    fn serve_share(&mut self, vm: u64, function: u64, ipa: u64) {
        tally::vm_call(function);
        let [answer, frame, ..] = call(id::SHARE_ACCEPT, &[vm, ipa]);
        if answer == status::SUCCESS {
            // SAFETY: as in `write_code`.
            if unsafe { probe::read(frame, 8) }.is_err() {
                tally::event(Event::Faulted);
            }
            if self.below(2) == 0 {
                attempt(id::SHARE_RELEASE, &[vm, ipa]);
            }
        }
    }

    /// What a VM seems to have, and now and then everything that there is.
    fn take_apart(&mut self, vm: u64) {
        let (ground, blindly) = (self.ground, self.below(256) == 0);
        let tried = move |piece: &Piece| blindly || ground.owner(*piece) == owner(vm);
        let frames = || ground.all_frames().map(Piece::Frame).filter(tried);
        let take = |piece: Piece, function: u64| {
            let (Piece::Frame(address) | Piece::Block(address)) = piece;
            ground.take_back(piece, || insist(function, &[address]))
        };
        insist(id::VM_KILL, &[vm]);
        for block in ground.all_blocks().map(Piece::Block).filter(tried) {
            take(block, id::RECLAIM_BLOCK);
        }
        frames().for_each(|frame| _ = take(frame, id::RECLAIM));
        // Level 3 tables before those of level 2, wherever they are.
        for _ in 0..2 {
            frames().for_each(|frame| _ = take(frame, id::TABLE_RECLAIM));
        }
        if insist(id::VM_DESTROY, &[vm]) {
            // Its root table, and what it gave back by itself.
            ground.all_frames().map(Piece::Frame).for_each(|frame| ground.forget(frame, owner(vm)));
        }
    }

    /// CPU_OFF; another CPU brings this one back, which goes on where it was.
    fn go_off(&mut self) {
        STATE[self.index].store(self.state, Ordering::Relaxed);
        tally::event(Event::CpuOff);
        ASLEEP[self.index].store(OFF, Ordering::Release);
        let mut registers = [0; 18];
        registers[0] = standard::PSCI_CPU_OFF;
        hvc::raw(&mut registers);
        // Refused: awake all the time.
        tally::event(Event::CpuOffRefused);
        ASLEEP[self.index].store(AWAKE, Ordering::Release);
    }
}
