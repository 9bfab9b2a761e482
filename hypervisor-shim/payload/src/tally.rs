//! What a storm has done: how often each call was made, what became of it, and how vCPUs left (trust label: UNTRUSTED).

use bulkhead_abi::{CALLS, exit, id, standard, status};
use bulkhead_link::message::Answer;
use core::sync::atomic::{AtomicU64, Ordering};

/// Host calls are told apart by the low bits of their id.
const IDS: usize = 64;

/// Of each host call: how often it was made, succeeded, and was BUSY.
static MADE: [[AtomicU64; 3]; IDS] = [const { [const { AtomicU64::new(0) }; 3] }; IDS];
/// Of each exit class: how often a vCPU left by it.
static LEFT: [AtomicU64; exit::COUNT] = [const { AtomicU64::new(0) }; exit::COUNT];
static EVENTS: [AtomicU64; EVENT_NAMES.len()] = [const { AtomicU64::new(0) }; EVENT_NAMES.len()];

const EVENT_NAMES: [&str; 6] = ["cpu_off", "cpu_off_refused", "cpu_on", "looked_at", "dirty", "faulted"];

/// Calls of VMs that the host is told of.
const VM_CALLS: [(&str, u64); 7] = [
    ("share", id::SHARE),
    ("unshare", id::UNSHARE),
    ("relinquish", id::RELINQUISH),
    ("vcpu_on", standard::PSCI_CPU_ON),
    ("vcpu_off", standard::PSCI_CPU_OFF),
    ("vm_off", standard::PSCI_SYSTEM_OFF),
    ("vm_reset", standard::PSCI_SYSTEM_RESET),
];
static CALLED: [AtomicU64; VM_CALLS.len()] = [const { AtomicU64::new(0) }; VM_CALLS.len()];

/// What else happens.
#[derive(Clone, Copy)]
pub enum Event {
    /// A CPU asks to go off,
    CpuOff,
    /// and is still here.
    CpuOffRefused,
    /// A CPU that was off is started.
    CpuOn,
    /// A frame that has just come back was looked at, all of it,
    LookedAt,
    /// and was not zero.
    Dirty,
    /// An access to memory at random faulted.
    Faulted,
}

/// Forgets everything.
pub fn clear() {
    let all = MADE.iter().flatten().chain(&LEFT).chain(&CALLED).chain(&EVENTS);
    all.for_each(|counter| counter.store(0, Ordering::Relaxed));
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The host call `function` has answered `answer` in x0.
pub fn call(function: u64, answer: u64) {
    let [made, succeeded, busy] = &MADE[(function - id::VERSION) as usize % IDS];
    add(made);
    match answer {
        status::SUCCESS => add(succeeded),
        status::BUSY => add(busy),
        _ => {}
    }
}

/// A vCPU has left by `class`.
pub fn exit(class: u64) {
    LEFT.get(class as usize).map(add);
}

/// A VM's call `function` has succeeded, the exit says.
pub fn vm_call(function: u64) {
    let counters = VM_CALLS.iter().zip(&CALLED);
    counters.filter(|((_, id), _)| *id == function).for_each(|(_, counter)| add(counter));
}

/// Something else has happened.
pub fn event(event: Event) {
    add(&EVENTS[event as usize]);
}

/// `calls`: made, succeeded and BUSY by name; `exits`: in the order of their classes; `events`: by name, VMs' calls too.
pub fn report(reply: &mut Answer) {
    reply.map("calls", |reply| {
        for line in CALLS.iter().filter(|line| line.by_host && !line.reserved) {
            let counters = &MADE[(line.id - id::VERSION) as usize % IDS];
            reply.integers(line.name, &counters.each_ref().map(|counter| counter.load(Ordering::Relaxed)));
        }
    });
    reply.integers("exits", &LEFT.each_ref().map(|counter| counter.load(Ordering::Relaxed)));
    reply.map("events", |reply| {
        let called = VM_CALLS.iter().map(|(name, _)| name).zip(&CALLED);
        for (name, counter) in EVENT_NAMES.iter().zip(&EVENTS).chain(called) {
            reply.u64(name, counter.load(Ordering::Relaxed));
        }
    });
}
