//! Log, counters and host PSCI of the fake machine. Trust label: TOOL.

use bulkhead_abi::{exit, standard};
use bulkhead_core::call::dispatch::low;
use bulkhead_core::hardware::Platform;
use bulkhead_core::owner::RunState;

use crate::hardware::Cpu;
use crate::machine::COUNTED_CALLS;

/// The log that every fake machine has.
pub const LOG: &str = "[4096] bulkhead on a fake machine\n";
/// Kinds of `stats`: host calls by their id from that of `version`, exits by class, boot stages.
const COUNTERS: [u64; 3] = [COUNTED_CALLS as u64, exit::COUNT as u64, 8];

/// What the image answers; those that firmware carries out do not exist here.
const FUNCTIONS: [u64; 9] = [
    standard::SMCCC_VERSION,
    standard::PSCI_VERSION,
    standard::PSCI_FEATURES,
    standard::PSCI_MIGRATE_INFO_TYPE,
    standard::PSCI_AFFINITY_INFO,
    standard::PSCI_CPU_ON,
    standard::PSCI_CPU_OFF,
    standard::PSCI_SYSTEM_OFF,
    standard::PSCI_SYSTEM_RESET,
];
const NOT_SUPPORTED: u64 = -1_i64 as u64;

impl Platform for Cpu<'_> {
    fn log_read(self, offset: u64) -> [u64; 10] {
        let log = LOG.as_bytes();
        let start = log.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let part = &log[start..log.len().min(start + 64)];
        let mut answer = [0; 10];
        answer[0] = (start + part.len()) as u64;
        answer[1] = part.len() as u64;
        for (word, bytes) in answer[2..].iter_mut().zip(part.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        answer
    }

    fn statistic(self, kind: u64, index: u64) -> Option<u64> {
        let count = *COUNTERS.get(usize::try_from(kind).ok()?)?;
        if index >= count {
            return None;
        }
        Some(if kind == 0 { self.machine.calls.borrow()[index as usize] } else { 0 })
    }

    fn host_psci(self, function: u64, arguments: [u64; 3]) -> Option<u64> {
        match function {
            standard::PSCI_VERSION => Some(0x1_0001),
            standard::PSCI_MIGRATE_INFO_TYPE => Some(2),
            standard::PSCI_FEATURES if FUNCTIONS.contains(&low(arguments[0])) => Some(0),
            standard::PSCI_FEATURES => Some(NOT_SUPPORTED),
            _ => None,
        }
    }

    fn put_vcpu(self) {
        self.unload(RunState::RUNNABLE);
    }
}
