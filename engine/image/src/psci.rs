//! PSCI for the host's own CPUs. Trust label: TRUSTED. Source: PSCI 1.1, Arm DEN 0022, chapter 5.
//!
//! CPUs start through the engine: firmware enters [`secondary_start`], which turns the engine's translation on before
//! the host runs. Before the machine is turned off or reset every VM's memory is zeroed; while another call changes
//! ownership the answer is DENIED, and the host tries again.

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_abi::{CPUS_MAX, standard};
use bulkhead_arch::statics::CONFIG;
use bulkhead_arch::{Machine, cpu};
use bulkhead_core::call::dispatch::low;
use bulkhead_core::hardware::{Hardware, Platform};

use crate::log::log;
use crate::start::secondary_start;
use crate::{scrub, stop};

const VERSION_1_1: u64 = 0x1_0001;
const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = -1i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const DENIED: u64 = -3i64 as u64;
const ALREADY_ON: u64 = -4i64 as u64;
const INVALID_ADDRESS: u64 = -9i64 as u64;
/// No trusted OS that would have to migrate (DEN 0022, 5.1.9).
const MIGRATION_NOT_NEEDED: u64 = 2;

/// Where a CPU enters the host, and whether it is taken.
struct Cpu {
    affinity: AtomicU64,
    /// 0: off; 1: on, or on its way.
    on: AtomicU64,
    entry: AtomicU64,
    context: AtomicU64,
}

static CPUS: [Cpu; CPUS_MAX] = [const {
    Cpu { affinity: AtomicU64::new(0), on: AtomicU64::new(0), entry: AtomicU64::new(0), context: AtomicU64::new(0) }
}; CPUS_MAX];
static LOAD_ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Notes the CPUs' affinities and the physical address of the image; boot only.
pub fn describe(affinities: &[u64], load: u64) {
    for (cpu, affinity) in CPUS.iter().zip(affinities) {
        cpu.affinity.store(*affinity, Ordering::Relaxed);
    }
    LOAD_ADDRESS.store(load, Ordering::Relaxed);
}

/// Index of the executing CPU by its `MPIDR_EL1`; for use before it has a context.
pub fn this_cpu() -> Option<u64> {
    index_of(cpu::affinity())
}

fn index_of(affinity: u64) -> Option<u64> {
    let cpus = &CPUS[..CONFIG.cpus() as usize];
    cpus.iter().position(|cpu| cpu.affinity.load(Ordering::Relaxed) == affinity).map(|index| index as u64)
}

/// Claims a CPU that is off and says where it will enter the host; false if it is on.
pub fn claim(cpu: u64, entry: u64, context: u64) -> bool {
    let cpu = &CPUS[cpu as usize];
    let claimed = cpu.on.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if claimed {
        cpu.entry.store(entry, Ordering::Relaxed);
        cpu.context.store(context, Ordering::Release);
    }
    claimed
}

/// Whether a CPU is on, or on its way.
pub fn is_on(cpu: u64) -> bool {
    CPUS[cpu as usize].on.load(Ordering::Acquire) != 0
}

/// Entry point and x0 of a claimed CPU.
pub fn destination(cpu: u64) -> (u64, u64) {
    let cpu = &CPUS[cpu as usize];
    (cpu.entry.load(Ordering::Acquire), cpu.context.load(Ordering::Acquire))
}

/// A PSCI call of the host: x0 of the answer; None for a function that is not PSCI's or not implemented.
pub fn host_call(function: u64, arguments: [u64; 3]) -> Option<u64> {
    let [first, second, third] = arguments;
    match function {
        standard::PSCI_VERSION => Some(VERSION_1_1),
        standard::PSCI_FEATURES => Some(features(low(first))),
        standard::PSCI_MIGRATE_INFO_TYPE => Some(MIGRATION_NOT_NEEDED),
        standard::PSCI_AFFINITY_INFO => Some(firmware(function, first, second, 0)),
        standard::PSCI_CPU_ON => Some(cpu_on(first, second, third)),
        standard::PSCI_CPU_OFF => Some(cpu_off()),
        standard::PSCI_SYSTEM_OFF | standard::PSCI_SYSTEM_RESET => Some(system_end(function)),
        _ => None,
    }
}

fn features(function: u64) -> u64 {
    match function {
        standard::SMCCC_VERSION
        | standard::PSCI_VERSION
        | standard::PSCI_FEATURES
        | standard::PSCI_MIGRATE_INFO_TYPE
        | standard::PSCI_AFFINITY_INFO
        | standard::PSCI_CPU_ON
        | standard::PSCI_CPU_OFF
        | standard::PSCI_SYSTEM_OFF
        | standard::PSCI_SYSTEM_RESET => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

fn cpu_on(affinity: u64, entry: u64, context: u64) -> u64 {
    let Some(cpu) = index_of(affinity) else {
        return INVALID_PARAMETERS;
    };
    if entry % 4 != 0 {
        return INVALID_ADDRESS;
    }
    if !claim(cpu, entry, context) {
        return ALREADY_ON;
    }
    let start = secondary_start as *const () as u64 - bulkhead_arch::layout::IMAGE;
    let answer = firmware(standard::PSCI_CPU_ON, affinity, LOAD_ADDRESS.load(Ordering::Relaxed) + start, cpu);
    log!("cpu {cpu}: firmware answers {} to CPU_ON", answer as i64);
    if answer != SUCCESS {
        CPUS[cpu as usize].on.store(0, Ordering::Release);
    }
    answer
}

fn cpu_off() -> u64 {
    Machine.put_vcpu();
    let cpu = &CPUS[Machine.cpu() as usize];
    // From here a CPU_ON may claim this CPU; until it is really off firmware answers that one ALREADY_ON.
    cpu.on.store(0, Ordering::Release);
    let answer = firmware(standard::PSCI_CPU_OFF, 0, 0, 0);
    cpu.on.store(1, Ordering::Release);
    answer
}

/// The machine ends with nothing of any VM left in RAM. The lock stays taken: no frame changes hands any more.
fn system_end(function: u64) -> u64 {
    if !Machine.try_lock() {
        return DENIED;
    }
    scrub::all_vms();
    firmware(function, 0, 0, 0);
    log!("firmware does not end the machine");
    stop::park()
}

/// Calls firmware (SMCCC 1.2: x4 to x17 may change where firmware is older).
fn firmware(function: u64, first: u64, second: u64, third: u64) -> u64 {
    let mut answer = function;
    // SAFETY: the functions called here change no memory of this CPU's; CPU_OFF, SYSTEM_OFF and SYSTEM_RESET do not
    // return, and nothing is held that another CPU needs.
    unsafe {
        core::arch::asm!(
            "smc #0",
            inlateout("x0") answer,
            inlateout("x1") first => _,
            inlateout("x2") second => _,
            inlateout("x3") third => _,
            clobber_abi("C"),
        );
    }
    answer
}
