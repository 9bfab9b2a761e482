//! Calls to the engine: HVC #0 by the SMC Calling Convention 1.2 (Arm DEN 0028) (trust label: UNTRUSTED).
//!
//! The wrappers are checked against the call table at compile time.

use bulkhead_abi::{CALLS, id, status};
use core::arch::asm;

/// How the engine refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallError {
    /// Name of the call.
    pub call: &'static str,
    /// x0, one of [`bulkhead_abi::status`].
    pub status: u64,
    /// x1.
    pub detail: u64,
}

/// Executes HVC #0 with `registers` in x0..x17 and leaves there what comes back.
#[inline(never)]
pub fn raw(registers: &mut [u64; 18]) {
    let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15, x16, x17] = registers;
    // SAFETY: the engine preserves every register that is not declared here; a call can take memory away only
    // where its arguments, chosen by safe code that owns that memory, say so.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") * x0,
            inout("x1") * x1,
            inout("x2") * x2,
            inout("x3") * x3,
            inout("x4") * x4,
            inout("x5") * x5,
            inout("x6") * x6,
            inout("x7") * x7,
            inout("x8") * x8,
            inout("x9") * x9,
            inout("x10") * x10,
            inout("x11") * x11,
            inout("x12") * x12,
            inout("x13") * x13,
            inout("x14") * x14,
            inout("x15") * x15,
            inout("x16") * x16,
            inout("x17") * x17
        );
    }
}

fn invoke<const N: usize>(call: &'static str, id: u64, arguments: &[u64]) -> Result<[u64; N], CallError> {
    let mut registers = [0; 18];
    registers[0] = id;
    registers[1..=arguments.len()].copy_from_slice(arguments);
    raw(&mut registers);
    if registers[0] == status::SUCCESS {
        let mut results = [0; N];
        results.copy_from_slice(&registers[1..=N]);
        Ok(results)
    } else {
        Err(CallError { call, status: registers[0], detail: registers[1] })
    }
}

/// Compile-time check that the table has a call `id` with so many arguments and results.
const fn matches_table(id: u64, arguments: usize, results: usize) -> bool {
    let mut index = 0;
    while index < CALLS.len() {
        let call = &CALLS[index];
        if call.id == id && call.by_host {
            return call.args == arguments && call.results == results;
        }
        index += 1;
    }
    false
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $id:ident($($argument:ident),*) -> $results:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// What the engine answered.
        #[allow(clippy::too_many_arguments, reason = "the call has that many registers")]
        pub fn $name($($argument: u64),*) -> Result<[u64; $results], CallError> {
            const { assert!(matches_table(id::$id, <[&str]>::len(&[$(stringify!($argument)),*]), $results)) };
            invoke(stringify!($name), id::$id, &[$($argument),*])
        }
    )*};
}

calls! {
    /// ABI version, number of VM slots, number of CPUs.
    version = VERSION() -> 3;
    /// Bit mask of the optional calls that are implemented.
    features = FEATURES() -> 1;
    /// Gives a block a level 3 host table.
    host_split = HOST_SPLIT(block, table) -> 0;
    /// Makes a VM with a donated root table.
    vm_create = VM_CREATE(vm, root, vcpus, flags, ram0_base, ram0_size, ram1_base, ram1_size,
        ram2_base, ram2_size, ram3_base, ram3_size) -> 0;
    /// Marks a VM DYING.
    vm_kill = VM_KILL(vm) -> 0;
    /// Frees a DYING VM's slot; its root table comes back.
    vm_destroy = VM_DESTROY(vm) -> 0;
    /// Donates a translation table.
    table_donate = TABLE_DONATE(vm, ipa, level, table) -> 0;
    /// Takes an empty table back.
    table_reclaim = TABLE_RECLAIM(table) -> 0;
    /// Moves a frame into a VM.
    map = MAP(vm, ipa, frame, mode) -> 0;
    /// Moves a whole block, zeroed, into a VM.
    map_block = MAP_BLOCK(vm, ipa, block) -> 0;
    /// Cuts a block of a VM into pages.
    vm_split = VM_SPLIT(block, table, host_table) -> 0;
    /// Takes a whole block of a DYING VM back.
    reclaim_block = RECLAIM_BLOCK(block) -> 0;
    /// Takes a frame of a DYING VM back.
    reclaim = RECLAIM(frame) -> 0;
    /// Makes a frame a vCPU.
    vcpu_create = VCPU_CREATE(vm, index, frame) -> 0;
    /// Says where vCPU 0 starts.
    vcpu_set_entry = VCPU_SET_ENTRY(vcpu, entry, context) -> 0;
    /// Seals the measurement and lets the VM run.
    activate = ACTIVATE(vm) -> 4;
    /// Runs a vCPU until an exit.
    vcpu_run = VCPU_RUN(vcpu, reply, lr0, lr1, lr2, control) -> 9;
    /// Unloads the vCPU loaded on this CPU.
    vcpu_put = VCPU_PUT() -> 0;
    /// Opens a block to the host's devices.
    dma_allow = DMA_ALLOW(block) -> 0;
    /// Closes a block to the host's devices.
    dma_revoke = DMA_REVOKE(block) -> 0;
    /// Maps a page that a VM shares; its frame.
    share_accept = SHARE_ACCEPT(vm, ipa) -> 1;
    /// Unmaps such a page.
    share_release = SHARE_RELEASE(vm, ipa) -> 0;
    /// Up to 64 bytes of the engine's log.
    log_read = LOG_READ(offset) -> 10;
    /// A counter.
    stats = STATS(kind, index) -> 1;
}

/// Most tries of [`patiently`].
const TRIES: u32 = 10_000_000;

/// Repeats `call` while the engine answers BUSY, within a bound.
///
/// # Errors
/// What the engine answered last.
pub fn patiently<T>(mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    let mut answer = call();
    for _ in 0..TRIES {
        match answer {
            Err(error) if error.status == status::BUSY => crate::cpu::relax(),
            _ => break,
        }
        answer = call();
    }
    answer
}
