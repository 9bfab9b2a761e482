//! The CPU as exit decisions see it while a VM's EL1 registers are still loaded. Trust label: CHECKED, to be proved.

use crate::hardware::Hardware;

/// What the engine reads and writes in the CPU to decide an exit.
pub trait Processor: Hardware {
    /// `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2` of the exception.
    fn syndrome(self) -> Syndrome;
    /// `VBAR_EL1` of the domain that is loaded.
    fn vector_base(self) -> u64;
    /// `SCTLR_EL1` of the domain that is loaded.
    fn system_control(self) -> u64;
    /// Writes `ELR_EL1`, `SPSR_EL1`, `ESR_EL1`, `FAR_EL1`.
    fn set_exception(self, exception: El1Exception);
    /// The hardware's value of the ID register op0=3, op1=0, CRn=0, CRm=`crm`, op2=`op2`; 0 where none exists.
    fn id_register(self, crm: u64, op2: u64) -> u64;
    /// Writes the debug register op0=2, op1=0, CRn=0, CRm=`crm`, op2=`op2` of the VM; it matches at EL0 and EL1 only.
    fn set_debug_register(self, crm: u64, op2: u64, value: u64);
    /// `CNTV_CTL_EL0` and `CNTV_CVAL_EL0` of the VM.
    fn virtual_timer(self) -> (u64, u64);

    /// INTID of the highest-priority pending physical interrupt (`ICC_HPPIR1_EL1`), 1020 and up: none.
    fn pending_interrupt(self) -> u64;
    /// Acknowledges it (`ICC_IAR1_EL1`) and drops the running priority (`ICC_EOIR1_EL1`, EOImode 1); it stays active.
    fn acknowledge_interrupt(self);
    /// Writes the list register that is kept for the virtual timer.
    fn set_timer_list_register(self, value: u64);
    /// Reads the list register that is kept for the virtual timer.
    fn timer_list_register(self) -> u64;
}

/// Syndrome registers of an exception to EL2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syndrome {
    /// `ESR_EL2`.
    pub esr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// `HPFAR_EL2`.
    pub hpfar: u64,
}

/// What an exception to EL1 leaves in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct El1Exception {
    /// `ELR_EL1`.
    pub elr: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
    /// `ESR_EL1`.
    pub esr: u64,
    /// `FAR_EL1`.
    pub far: u64,
}
