//! Which vCPU runs where and when (trust label: UNTRUSTED).
//!
//! vCPU i of VM j runs on CPU i + j modulo the number of CPUs, counted among those that are on, in turns of at most
//! [`SLICE`] while others wait. When a CPU goes or comes, vCPUs move: the CPU that has one loaded gives it up, the other
//! tries until it has. A CPU with nothing to run sleeps until an interrupt: a kick, its timer, or the UART.

use crate::exits::{self, Next};
use crate::vm::{Activity, SLOTS, SLOTS_MAX, State, Vm};
use bulkhead_abi::{BootInfo, CPUS_MAX, NO_DEADLINE, VCPUS_MAX};
use bulkhead_el1::{boot, cpu, gic, hvc, uart};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Longest turn while others wait, microseconds: short, because a waiting one may hold a lock that the running one spins on.
const SLICE: u64 = 2_000;
const PLACES: usize = SLOTS_MAX * VCPUS_MAX;
const NOTHING: usize = usize::MAX;

/// CPUs that run, a bit for each.
static ONLINE: AtomicUsize = AtomicUsize::new(1);
/// The place of the vCPU that is loaded on each CPU, or [`NOTHING`].
static LOADED: [AtomicUsize; CPUS_MAX] = [const { AtomicUsize::new(NOTHING) }; CPUS_MAX];
/// Something new to run, or to give up, on each CPU.
static ATTENTION: [AtomicBool; CPUS_MAX] = [const { AtomicBool::new(false) }; CPUS_MAX];
/// The UART has something for the boot CPU.
static RECEIVED: AtomicBool = AtomicBool::new(false);

/// Whether a CPU takes part.
pub fn is_online(cpu: usize) -> bool {
    ONLINE.load(Ordering::Acquire) >> cpu & 1 != 0
}

/// Starts a CPU, which takes its share of the vCPUs.
///
/// # Errors
/// The PSCI error code.
pub fn start_cpu(boot: &BootInfo, cpu: usize) -> Result<(), u64> {
    // First the share: a CPU that has none turns itself off.
    add_cpu(cpu);
    cpu::start(boot, cpu).inspect_err(|_| remove_cpu(cpu))
}

/// A CPU that is on takes its share of the vCPUs.
pub fn add_cpu(cpu: usize) {
    ONLINE.fetch_or(1 << cpu, Ordering::AcqRel);
    kick_all();
}

/// The other CPUs take over the vCPUs of `cpu`, which turns itself off.
pub fn remove_cpu(cpu: usize) {
    ONLINE.fetch_and(!(1 << cpu), Ordering::AcqRel);
    kick(cpu);
    kick_all();
}

/// The CPU that vCPU `vcpu` of the VM in slot `vm` runs on: neighbours in a VM apart, and small VMs apart.
fn place_of(vm: usize, vcpu: usize) -> usize {
    let mut online = ONLINE.load(Ordering::Acquire);
    for _ in 0..(vm + vcpu) % online.count_ones().max(1) as usize {
        online &= online - 1;
    }
    online.trailing_zeros() as usize % CPUS_MAX
}

/// Takes this CPU's pending interrupts. The UART stays masked until the boot CPU has emptied it.
pub fn take_interrupts() {
    gic::service(|intid| {
        if intid != gic::KICK {
            uart::listen(false);
            RECEIVED.store(true, Ordering::Relaxed);
        }
    });
}

/// Makes CPU `target` look for work.
fn kick(target: usize) {
    ATTENTION[target].store(true, Ordering::Release);
    match boot::info() {
        Some(boot) if target != cpu::index() => gic::kick(boot, target),
        _ => {}
    }
}

/// Makes the CPU of vCPU `vcpu` of the VM in slot `vm` look for work.
pub fn kick_vcpu(vm: usize, vcpu: usize) {
    kick(place_of(vm, vcpu));
}

/// Makes every CPU look for work.
pub fn kick_all() {
    (0..CPUS_MAX).filter(|cpu| is_online(*cpu)).for_each(kick);
}

/// Kicks the CPUs of those vCPUs of `vm`, in slot `index`, that its interrupt controller has something for.
pub fn notify(index: usize, vm: &mut Vm) {
    let mut vcpus = vm.gic.take_notifications();
    while vcpus != 0 {
        kick_vcpu(index, vcpus.trailing_zeros() as usize);
        vcpus &= vcpus - 1;
    }
}

/// Whether some CPU still has a vCPU of VM `vm` loaded.
pub fn is_loaded(vm: usize) -> bool {
    LOADED.iter().any(|loaded| loaded.load(Ordering::Acquire) / VCPUS_MAX == vm)
}

/// Unloads this CPU's vCPU if its VM is `vm`.
pub fn unload(vm: usize) {
    if LOADED[cpu::index()].load(Ordering::Relaxed) / VCPUS_MAX == vm {
        put();
    }
}

fn put() {
    if hvc::patiently(hvc::vcpu_put).is_ok() {
        LOADED[cpu::index()].store(NOTHING, Ordering::Release);
    }
}

/// One CPU's turn-taking.
pub struct Scheduler {
    cpu: usize,
    last: usize,
}

impl Scheduler {
    /// For this CPU.
    pub fn new() -> Self {
        Self { cpu: cpu::index(), last: 0 }
    }

    /// Unloads a vCPU whose VM runs no more, so that its frame can be reclaimed, or that belongs to another CPU by now.
    pub fn give_up(&self) {
        let place = LOADED[self.cpu].load(Ordering::Relaxed);
        if place == NOTHING {
            return;
        }
        let (index, vcpu) = (place / VCPUS_MAX, place % VCPUS_MAX);
        if SLOTS[index].state() != State::Running {
            put();
        } else if place_of(index, vcpu) != self.cpu {
            put();
            kick_vcpu(index, vcpu);
        }
    }

    /// Gives the next ready vCPU its turn. If there is none: when to look again.
    pub fn run_next(&mut self) -> Option<u64> {
        ATTENTION[self.cpu].store(false, Ordering::Relaxed);
        match self.pick(None) {
            Ok(place) => {
                self.last = place;
                self.turn(place / VCPUS_MAX, place % VCPUS_MAX);
                None
            }
            Err(deadline) => Some(deadline),
        }
    }

    /// The next place after the last whose vCPU is ready, but for `except`, or when one could be.
    fn pick(&self, except: Option<usize>) -> Result<usize, u64> {
        let now = cpu::now();
        let mut earliest = NO_DEADLINE;
        for step in 1..=PLACES {
            let place = (self.last + step) % PLACES;
            let (index, vcpu) = (place / VCPUS_MAX, place % VCPUS_MAX);
            if place_of(index, vcpu) != self.cpu || except == Some(place) || SLOTS[index].state() != State::Running {
                continue;
            }
            let mut vm = SLOTS[index].vm.lock();
            vm.console.flush_due(index, now);
            earliest = earliest.min(vm.console.deadline());
            if vcpu < vm.vcpu_count {
                match vm.readiness(vcpu, now) {
                    Ok(()) => return Ok(place),
                    Err(deadline) => earliest = earliest.min(deadline),
                }
            }
        }
        Err(earliest)
    }

    /// Runs one vCPU until it sleeps, its VM ends, or its turn is over.
    fn turn(&self, index: usize, vcpu: usize) {
        // Until the slice ends if another vCPU is ready, else until one could be.
        let mut end = self.pick(Some(self.last)).map_or_else(|deadline| deadline, |_| self.slice_end());
        LOADED[self.cpu].store(self.last, Ordering::Release);
        loop {
            match self.enter(index, vcpu, end) {
                Next::Again => {}
                Next::Interrupt => take_interrupts(),
                Next::Yield => end = end.min(self.turn_of_others()),
                Next::Leave => return,
            }
            let wanted = self.cpu == 0 && RECEIVED.swap(false, Ordering::Relaxed);
            if ATTENTION[self.cpu].swap(false, Ordering::Acquire) {
                end = end.min(self.slice_end());
            }
            if wanted || cpu::now() >= end {
                let mut vm = SLOTS[index].vm.lock();
                vm.vcpus[vcpu].activity = Activity::Ready;
                return;
            }
        }
    }

    /// Now if another vCPU is ready, else never.
    fn turn_of_others(&self) -> u64 {
        if self.pick(Some(self.last)).is_ok() { cpu::now() } else { NO_DEADLINE }
    }

    fn slice_end(&self) -> u64 {
        cpu::now().saturating_add(cpu::ticks(SLICE))
    }

    /// One entry into the vCPU, and the handling of its exit.
    fn enter(&self, index: usize, vcpu: usize, end: u64) -> Next {
        let slot = &SLOTS[index];
        let (frame, reply, entry, flush) = {
            let mut vm = slot.vm.lock();
            if slot.state() != State::Running {
                return Next::Leave;
            }
            vm.vcpus[vcpu].activity = Activity::Running { restart: false };
            vm.console.flush_due(index, cpu::now());
            (vm.vcpus[vcpu].frame, vm.vcpus[vcpu].reply, vm.gic.fill(vcpu), vm.console.deadline())
        };
        cpu::set_timer(end.min(flush));
        let [lr0, lr1, lr2] = entry.lists;
        let result = hvc::vcpu_run(frame, reply, lr0, lr1, lr2, entry.control);
        let mut vm = slot.vm.lock();
        let lists = result.map_or(entry.lists, |exit| [exit[4], exit[5], exit[6]]);
        vm.gic.fold(vcpu, lists);
        let next = match result {
            Ok(exit) => exits::handle(index, &mut vm, vcpu, &exit),
            Err(error) => exits::refused(index, &mut vm, vcpu, error),
        };
        notify(index, &mut vm);
        next
    }
}
