//! vCPUs: the context frame, entry checks, exit decisions. Trust label: CHECKED, to be proved.

pub mod context;
pub mod debug;
pub mod exit;
pub mod hypercall;
pub mod inject;
pub mod processor;
pub mod registers;
pub mod run;
pub mod sharing;
pub mod trap;

pub use context::VcpuContext;
pub use processor::Processor;
