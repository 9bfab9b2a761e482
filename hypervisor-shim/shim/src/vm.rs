//! VMs as the hypervisor knows them (trust label: UNTRUSTED).
//!
//! A slot's number is the engine's VM slot. `state` can be read without the lock; it leaves RUNNING under the
//! lock, and only the boot CPU moves it between the other states.

use crate::console::Console;
use crate::devices::disk::Disk;
use crate::devices::firmware::Firmware;
use crate::shared::Shared;
use bulkhead_abi::{NO_DEADLINE, RAM_RANGES, VCPUS_MAX};
use bulkhead_el1::lock::Mutex;
use bulkhead_el1::{channel, hvc};
use bulkhead_link::message::Refusal;
use bulkhead_logic::frames::List;
use bulkhead_logic::pl011::Pl011;
use bulkhead_logic::vgic::Vgic;
use core::sync::atomic::{AtomicU8, Ordering};

/// VMs at once.
pub const SLOTS_MAX: usize = 16;

/// Life of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No VM.
    Free,
    /// Being built or taken apart by the boot CPU.
    Changing,
    /// Its vCPUs are scheduled.
    Running,
    /// Over; to be destroyed.
    Stopped,
}

/// What a vCPU does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Off; may have been told to start while its CPU_OFF was on the way (`true`).
    Off,
    /// Wants to run.
    Ready,
    /// Runs, or its last exit is being handled. `restart`: another vCPU has turned it on since.
    Running {
        /// CPU_ON came before this vCPU's own CPU_OFF was handled.
        restart: bool,
    },
    /// Waits for an interrupt until the deadline.
    Waiting {
        /// Counter value of its timer.
        deadline: u64,
    },
}

/// One vCPU.
#[derive(Clone, Copy)]
pub struct Vcpu {
    /// Physical address of its context, the engine's handle.
    pub frame: u64,
    /// What it does.
    pub activity: Activity,
    /// Answer to its last exit.
    pub reply: u64,
}

/// One VM.
pub struct Vm {
    /// Number of vCPUs.
    pub vcpu_count: usize,
    /// Its vCPUs.
    pub vcpus: [Vcpu; VCPUS_MAX],
    /// Its interrupt controller.
    pub gic: Vgic,
    /// Its UART.
    pub uart: Pl011,
    /// What its firmware needs.
    pub firmware: Firmware,
    /// What it prints.
    pub console: Console,
    /// Its disk, if it has one.
    pub disk: Option<Disk>,
    /// The pages of it that the host has accepted.
    pub shared: Shared,
    /// Base and size of its RAM.
    pub ranges: [(u64, u64); RAM_RANGES],
    /// Root table; 0: none.
    pub root: u64,
    /// Pages it got; some of them may be among those that it relinquished.
    pub pages: List,
    /// Whole blocks it got.
    pub blocks: List,
    /// Pages that it relinquished and that are still in `pages`.
    pub relinquished: u64,
    /// Level 2 tables it got.
    pub tables_2: List,
    /// Level 3 tables it got.
    pub tables_3: List,
    /// Accesses to nowhere that may still be logged.
    pub log_budget: u32,
}

impl Vm {
    /// A VM that has nothing.
    pub const fn new(vcpu_count: usize) -> Self {
        Self {
            vcpu_count,
            vcpus: [Vcpu { frame: 0, activity: Activity::Off, reply: 0 }; VCPUS_MAX],
            gic: Vgic::new(vcpu_count),
            uart: Pl011::new(),
            firmware: Firmware::new(),
            console: Console::new(),
            disk: None,
            shared: Shared::NONE,
            ranges: [(0, 0); RAM_RANGES],
            root: 0,
            pages: List::EMPTY,
            blocks: List::EMPTY,
            relinquished: 0,
            tables_2: List::EMPTY,
            tables_3: List::EMPTY,
            log_budget: 16,
        }
    }

    /// The vCPUs that exist.
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus[..self.vcpu_count]
    }

    /// Whether vCPU `index` can run at counter value `now`; if not, when it could.
    pub fn readiness(&self, index: usize, now: u64) -> Result<(), u64> {
        match self.vcpus[index].activity {
            Activity::Ready => Ok(()),
            Activity::Waiting { deadline } if deadline <= now || self.gic.has_deliverable(index) => Ok(()),
            Activity::Waiting { deadline } => Err(deadline),
            Activity::Off | Activity::Running { .. } => Err(NO_DEADLINE),
        }
    }
}

/// A place for a VM.
pub struct Slot {
    state: AtomicU8,
    /// The VM.
    pub vm: Mutex<Vm>,
}

/// All places.
pub static SLOTS: [Slot; SLOTS_MAX] =
    [const { Slot { state: AtomicU8::new(State::Free as u8), vm: Mutex::new(Vm::new(0)) } }; SLOTS_MAX];

impl Slot {
    /// State at this moment.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Free,
            1 => State::Changing,
            2 => State::Running,
            _ => State::Stopped,
        }
    }

    /// Sets the state.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Ends a running VM by itself: says so on the channel. `kill` tells the engine, too.
    pub fn end(&self, index: usize, vm: &mut Vm, reason: &str, detail: u64, kill: bool) {
        if self.state() != State::Running {
            return;
        }
        self.set_state(State::Stopped);
        vm.console.flush(index);
        if kill {
            let _ = hvc::patiently(|| hvc::vm_kill(index as u64));
        }
        channel::event("vm_exit", |event| {
            event.u64("vm", index as u64);
            event.text("reason", reason);
            event.u64("detail", detail);
        });
    }
}

/// The slot `index` of a VM that exists.
pub fn existing(index: usize) -> Result<&'static Slot, Refusal> {
    let slot = &SLOTS[index];
    match slot.state() {
        State::Running | State::Stopped => Ok(slot),
        State::Free | State::Changing => Err(Refusal::state("there is no such VM")),
    }
}
