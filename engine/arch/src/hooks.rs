//! What the image provides: log, boot stages, the host's PSCI, the panic dump. Trust label: TRUSTED.
//!
//! The image crate depends on this one, so it is reached by symbol. It defines, with `#[unsafe(no_mangle)]`:
//! ```ignore
//! extern "Rust" fn bulkhead_log_read(offset: u64) -> [u64; 10];
//! extern "Rust" fn bulkhead_stage_ticks(index: u64) -> Option<u64>;
//! extern "Rust" fn bulkhead_host_psci(function: u64, arguments: [u64; 3]) -> Option<u64>;
//! extern "Rust" fn bulkhead_park_if_stopped();
//! extern "C" fn bulkhead_engine_exception(frame: &EngineFault, kind: u64) -> !;
//! ```

unsafe extern "Rust" {
    fn bulkhead_log_read(offset: u64) -> [u64; 10];
    fn bulkhead_stage_ticks(index: u64) -> Option<u64>;
    fn bulkhead_host_psci(function: u64, arguments: [u64; 3]) -> Option<u64>;
    fn bulkhead_park_if_stopped();
}

unsafe extern "C" {
    /// The panic dump; `kind` is the vector, 0 to 15.
    pub(crate) fn bulkhead_engine_exception(frame: &EngineFault, kind: u64) -> !;
}

/// The engine's registers at an exception of its own, on the emergency stack.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct EngineFault {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP when the exception was taken.
    pub sp: u64,
    /// `ESR_EL2`.
    pub esr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// `HPFAR_EL2`.
    pub hpfar: u64,
    /// `ELR_EL2`.
    pub elr: u64,
    /// `SPSR_EL2`.
    pub spsr: u64,
    /// 1: a dump is under way on this CPU.
    pub mark: u64,
}

/// A chunk of the log: next offset, count of valid bytes, eight words of text.
pub fn log_read(offset: u64) -> [u64; 10] {
    // SAFETY: the image defines the symbol with this signature.
    unsafe { bulkhead_log_read(offset) }
}

/// Counter ticks at the end of boot stage `index`.
pub fn stage_ticks(index: u64) -> Option<u64> {
    // SAFETY: the image defines the symbol with this signature.
    unsafe { bulkhead_stage_ticks(index) }
}

/// The host's PSCI.
pub fn host_psci(function: u64, arguments: [u64; 3]) -> Option<u64> {
    // SAFETY: the image defines the symbol with this signature.
    unsafe { bulkhead_host_psci(function, arguments) }
}

/// Does not come back if every CPU shall stop: an engine bug, or the machine's end.
pub fn park_if_stopped() {
    // SAFETY: the image defines the symbol with this signature.
    unsafe { bulkhead_park_if_stopped() }
}
