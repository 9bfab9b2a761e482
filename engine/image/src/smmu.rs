//! Closes the SMMU: no bus master behind it reaches any memory. Trust label: TRUSTED.
//!
//! A reset SMMU lets everything pass; this is the engine's first access to any device. Source: Arm SMMUv3,
//! IHI 0070, 6.3.9 (CR0), 6.3.14 (GBPA).

use bulkhead_arch::layout;

use crate::mmio::Registers;
use crate::time;

const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const GBPA: u64 = 0x44;
const ENABLE: u32 = 1;
const ABORT: u32 = 1 << 20;
const UPDATE: u32 = 1 << 31;

/// Makes the SMMU abort all traffic; says what did not answer.
pub fn close() -> Result<(), &'static str> {
    // SAFETY: boot maps the page before it calls this.
    let smmu = unsafe { Registers::new(layout::SMMU) };
    let settled = || time::wait_for(|| smmu.read(GBPA) & UPDATE == 0);
    if !settled() {
        return Err("SMMU: GBPA.UPDATE stays set");
    }
    smmu.write(GBPA, smmu.read(GBPA) | ABORT | UPDATE);
    if !settled() || smmu.read(GBPA) & ABORT == 0 {
        return Err("SMMU: GBPA.ABORT cannot be set");
    }
    // GBPA governs while translation is off.
    smmu.write(CR0, smmu.read(CR0) & !ENABLE);
    if !time::wait_for(|| smmu.read(CR0ACK) & ENABLE == 0) {
        return Err("SMMU: translation cannot be turned off");
    }
    Ok(())
}
