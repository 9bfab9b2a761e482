//! What the engine did to its machine, in order. Trust label: TOOL.

/// Number of operands that an event can carry.
pub const OPERANDS: usize = 6;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Kind of an event, named after the method of [`bulkhead_core::Hardware`] that caused it; the operands
        /// are the method's arguments in their order.
        #[repr(u64)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name),+ }

        /// Names of the kinds, in the order of their numbers.
        pub const NAMES: &[&core::ffi::CStr] = &[$(
            match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            }
        ),+];
    };
}

events! {
    /// `set_block_record`
    SetBlockRecord,
    /// `set_frame_record`
    SetFrameRecord,
    /// `exchange_frame_record`, when it succeeded
    ExchangeFrameRecord,
    /// `fill_frame_records`
    FillFrameRecords,
    /// `fill_vm_records`
    FillVmRecords,
    /// `set_host_entry`
    SetHostEntry,
    /// `fill_table`
    FillTable,
    /// `set_dma_entry`
    SetDmaEntry,
    /// `invalidate_dma`
    InvalidateDma,
    /// `set_table_entry`
    SetTableEntry,
    /// `zero_frame`
    ZeroFrame,
    /// `zero_block`
    ZeroBlock,
    /// `clean_frame`
    CleanFrame,
    /// `invalidate_instructions`
    InvalidateInstructions,
    /// `publish`
    Publish,
    /// `invalidate_vm_page`
    InvalidateVmPage,
    /// `invalidate_vm`
    InvalidateVm,
    /// `invalidate_host_page`
    InvalidateHostPage,
    /// `invalidate_host_page_from_vm`
    InvalidateHostPageFromVm,
    /// `set_vm_word`
    SetVmWord,
    /// `clear_vm`
    ClearVm,
    /// `exchange_vm_state`, when it succeeded
    ExchangeVmState,
    /// `set_context_word`
    SetContextWord,
    /// `set_exception`: `ELR_EL1`, `SPSR_EL1`, `ESR_EL1`, `FAR_EL1`
    SetException,
    /// `set_debug_register`
    SetDebugRegister,
    /// `acknowledge_interrupt`: the INTID
    AcknowledgeInterrupt,
    /// `set_timer_list_register`
    SetTimerListRegister,
    /// The virtual CPU interface is turned on: list registers, and for which maintenance
    EnableVirtual,
    /// `random`
    Random,
    /// `measure_frame`: vm, the four header words, frame
    MeasureFrame,
    /// `measure_words`: vm, field, the four data words
    MeasureWords,
    /// `try_lock`, when it succeeded
    Lock,
    /// `unlock`
    Unlock,
}

/// One effect: its [`Kind`] and operands; unused operands are 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Number of the [`Kind`].
    pub kind: u64,
    /// Arguments of the method.
    pub operands: [u64; OPERANDS],
}

impl Event {
    /// The event of this kind with the given operands.
    #[must_use]
    pub fn new<const N: usize>(kind: Kind, operands: [u64; N]) -> Self {
        let mut padded = [0; OPERANDS];
        padded[..N].copy_from_slice(&operands);
        Self { kind: kind as u64, operands: padded }
    }
}
