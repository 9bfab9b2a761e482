//! The context of a vCPU: one donated frame that only the engine sees. Trust label: CHECKED, to be proved.
//!
//! Guest registers are saved here and nowhere else. The assembly of the world switch takes its offsets from this
//! structure (`core::mem::offset_of!`), so the declaration order is free but for `x` at offset 0 and `zero` right
//! behind x30, which makes "register 31" of a transfer read as zero.

use bulkhead_abi::FRAME_SIZE;

use crate::Hardware;
use crate::addr::Frame;
use crate::owner::Record;
use crate::vcpu::debug::DebugRegisters;
use crate::vcpu::registers::{ResidentSystem, SwitchedRegisters};

/// State that stays in the CPU until another vCPU loads there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ResidentRegisters {
    /// System registers.
    pub system: ResidentSystem,
    /// The list register that the engine keeps for the virtual timer.
    pub timer_lr: u64,
    /// Whether PPI 27 was active at the physical redistributor when the vCPU was unloaded (0 or 1).
    pub timer_active: u64,
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
    /// V0 to V31, low half first.
    pub v: [[u64; 2]; 32],
}

/// The context of a vCPU.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy)]
pub struct VcpuContext {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Always 0: what register 31 reads in a load or store.
    pub zero: u64,
    /// Program counter (`ELR_EL2`).
    pub pc: u64,
    /// Processor state (`SPSR_EL2`).
    pub pstate: u64,
    /// Switched registers.
    pub el1: SwitchedRegisters,
    /// VM slot.
    pub vm: u64,
    /// Index of the vCPU within its VM; Aff0 of its MPIDR.
    pub index: u64,
    /// Frame index of this context.
    pub frame: u64,
    /// `VTTBR_EL2`: root table and VMID.
    pub vttbr: u64,
    /// `VMPIDR_EL2`.
    pub vmpidr: u64,
    /// What the next `reply` is for: 0 nothing, else [`Pending`].
    pub pending: u64,
    /// Control word of the last `vcpu_run`.
    pub control: u64,
    /// 1 when PPI 27 was taken (active at the GIC) while the VM had it disabled: delivered when it is enabled.
    pub timer_pending: u64,
    /// Registers that stay resident.
    pub resident: ResidentRegisters,
    /// Breakpoints and watchpoints.
    pub debug: DebugRegisters,
}

const _: () = assert!(size_of::<VcpuContext>() <= FRAME_SIZE as usize);

/// Meaning of `VcpuContext::pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending(pub u64);

impl Pending {
    /// The reply is not used.
    pub const NOTHING: Self = Self(0);
    /// The reply becomes x1 of the VM.
    pub const HOST_CALL: Self = Self(1);

    /// The reply is the value of a load with this syndrome: bit 63 marks it.
    #[must_use]
    pub const fn load(syndrome: u64) -> Self {
        Self(1 << 63 | syndrome)
    }

    /// The syndrome of the load that waits for its value.
    #[must_use]
    pub const fn load_syndrome(self) -> Option<u64> {
        if self.0 >> 63 != 0 { Some(self.0 & !(1 << 63)) } else { None }
    }
}

/// EL1h, all of D, A, I, F masked.
pub const RESET_PSTATE: u64 = 0x3c5;
/// `SCTLR_EL1` at reset: RES1 bits of Armv8.0, MMU and caches off, little-endian.
pub const RESET_SCTLR: u64 = 0x30c5_0830;
/// `VMPIDR_EL2` bit 31, RES1.
const MPIDR_RES1: u64 = 1 << 31;

/// Word offset of a field in the context.
macro_rules! word {
    ($($field:tt)+) => { (core::mem::offset_of!(VcpuContext, $($field)+) / 8) as u64 };
}

/// Writes the reset state into a zeroed context frame, whose record is `record`.
#[inline(always)]
pub fn reset<H: Hardware>(hw: H, frame: Frame, record: Record, entry: u64, argument: u64) {
    let vm = record.vm();
    let root = Frame(hw.vm_word(vm, crate::vm::Field::ROOT));
    let set = |word, value| hw.set_context_word(frame, word, value);
    set(word!(x), argument);
    set(word!(pc), entry);
    set(word!(pstate), RESET_PSTATE);
    set(word!(el1.sctlr_el1), RESET_SCTLR);
    set(word!(vm), vm.0);
    set(word!(index), record.slot());
    set(word!(frame), frame.0);
    set(word!(vttbr), crate::stage2::address(hw, root) | (vm.0 + 1) << 48);
    set(word!(vmpidr), MPIDR_RES1 | record.slot());
}
