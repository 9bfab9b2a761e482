//! The SMMU: first nothing passes, then listed functions reach the windows that the host declares. Trust label: TRUSTED.
//!
//! A reset SMMU lets everything pass; [`close`] is the engine's first access to any device. [`open`] gives each listed
//! PCIe function of bus 0 a stream table entry with stage 2 only, whose tables map nothing until `dma_allow`. All other
//! streams abort: those of bus 0 by an invalid entry, further ones because the table ends. No event queue, no interrupts,
//! no ATS, no PRI; faults end the transaction (S2S = 0, never a stall). With `CR2.PTM` the SMMU takes no part in the
//! CPUs' broadcast TLB maintenance, so its VMIDs are its own.
//!
//! Source: Arm SMMUv3, IHI 0070, 5.2 (STE), 6.3 (registers), 3.11 (reset and enable).

use bulkhead_arch::{layout, smmu};

use crate::mmio::Registers;
use crate::pcie::{FUNCTIONS_PER_BUS, Listed};
use crate::tables::PAGE;
use crate::time;

const IDR0: u64 = 0x00;
const IDR1: u64 = 0x04;
const IDR5: u64 = 0x14;
const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const CR1: u64 = 0x28;
const CR2: u64 = 0x2c;
const GBPA: u64 = 0x44;
const IRQ_CTRL: u64 = 0x50;
const IRQ_CTRLACK: u64 = 0x54;
const GERROR: u64 = 0x60;
const GERRORN: u64 = 0x64;
const STRTAB_BASE: u64 = 0x80;
const STRTAB_BASE_CFG: u64 = 0x88;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
const EVENTQ_BASE: u64 = 0xa0;
const PRIQ_BASE: u64 = 0xc0;

const ABORT: u32 = 1 << 20;
const UPDATE: u32 = 1 << 31;
const ENABLE: u32 = 1;
const COMMANDS: u32 = 1 << 3;
/// Translated transactions of endpoints with ATS are checked like all others.
const ATS_CHECK: u32 = 1 << 4;
/// Tables and queues: inner shareable, Write-Back.
const CACHED: u32 = 0xd75;
const PRIVATE_TLB: u32 = 1 << 2;

/// log2 of the entries of the stream table: bus 0.
const STREAMS_SHIFT: u32 = FUNCTIONS_PER_BUS.ilog2();
/// Bytes of a stream table entry.
const ENTRY: u64 = 64;
/// Pages of the stream table, which must be aligned to its size.
pub const STREAM_PAGES: u64 = (ENTRY << STREAMS_SHIFT) / PAGE;
/// Fewest output address bits: those at which a 4 KiB walk may start at level 0 (`STE.S2SL0` = 2).
const ADDRESS_BITS: u32 = 44;

// SAFETY: boot maps the page first of all.
const SMMU: Registers = unsafe { Registers::new(layout::SMMU) };

/// Writes a 64-bit register as two halves (6.2.1).
fn write_long(offset: u64, value: u64) {
    SMMU.write(offset, value as u32);
    SMMU.write(offset + 4, (value >> 32) as u32);
}

/// Turns on exactly the functions in `wanted`, waits for the SMMU to say so.
fn switch(wanted: u32) -> bool {
    SMMU.write(CR0, wanted);
    time::wait_for(|| SMMU.read(CR0ACK) == wanted)
}

/// Makes the SMMU abort all traffic; says what did not answer.
pub fn close() -> Result<(), &'static str> {
    let settled = || time::wait_for(|| SMMU.read(GBPA) & UPDATE == 0);
    if !settled() {
        return Err("SMMU: GBPA.UPDATE stays set");
    }
    SMMU.write(GBPA, SMMU.read(GBPA) | ABORT | UPDATE);
    if !settled() || SMMU.read(GBPA) & ABORT == 0 {
        return Err("SMMU: GBPA.ABORT cannot be set");
    }
    // GBPA governs while translation is off.
    if !switch(0) {
        return Err("SMMU: it cannot be turned off");
    }
    SMMU.write(IRQ_CTRL, 0);
    if !time::wait_for(|| SMMU.read(IRQ_CTRLACK) == 0) {
        return Err("SMMU: its interrupts cannot be turned off");
    }
    Ok(())
}

/// What keeps this SMMU from translating for the host's devices, if anything does. `top` is the end of RAM.
pub fn shortcoming(top: u64) -> Option<&'static str> {
    let (idr0, idr1) = (SMMU.read(IDR0), SMMU.read(IDR1));
    let field = |register: u32, shift: u32, bits: u32| register >> shift & ((1 << bits) - 1);
    let needs = [
        (field(idr0, 0, 1) == 1, "no stage 2 (IDR0.S2P)"),
        (field(idr0, 2, 2) >= 2, "no AArch64 tables (IDR0.TTF)"),
        (field(idr0, 4, 1) == 1, "table walks are not coherent (IDR0.COHACC)"),
        (field(idr0, 21, 2) != 3, "big-endian tables only (IDR0.TTENDIAN)"),
        (field(idr0, 24, 2) != 2, "faults always stall (IDR0.STALL_MODEL)"),
        (field(idr1, 29, 2) == 0, "preset tables or queues (IDR1)"),
        (field(idr1, 21, 5) >= smmu::QUEUE_SHIFT, "the command queue is too short (IDR1.CMDQS)"),
        (field(idr1, 0, 6) >= STREAMS_SHIFT, "too few streams (IDR1.SIDSIZE)"),
        (field(SMMU.read(IDR5), 4, 1) == 1, "no 4 KiB granule (IDR5.GRAN4K)"),
        (address_bits() >= ADDRESS_BITS && top >> address_bits() == 0, "too few address bits (IDR5.OAS)"),
    ];
    needs.iter().find(|(met, _)| !met).map(|(_, missing)| *missing)
}

/// Address bits that are translated: at most 48, the reach of four levels.
fn address_bits() -> u32 {
    const BITS: [u32; 8] = [32, 36, 40, 42, 44, 48, 48, 48];
    BITS[(SMMU.read(IDR5) & 7) as usize]
}

/// The stream table entry that translates with the stage 2 tables below `root`, eight words (5.2).
fn entry(root: u64) -> [u64; 8] {
    const VALID: u64 = 1;
    const STAGE_2_ONLY: u64 = 0b110 << 1;
    const INCOMING_SHAREABILITY: u64 = 1 << 44;
    // S2SL0: level 0; S2IR0, S2OR0, S2SH0: walks Write-Back, inner shareable; S2AA64, S2AFFD, S2R.
    const WALK: u64 = 2 << 38 | 1 << 40 | 1 << 42 | 3 << 44 | 1 << 51 | 1 << 53 | 1 << 58;
    let size = u64::from(SMMU.read(IDR5) & 7).min(5);
    let input = u64::from(64 - address_bits());
    [VALID | STAGE_2_ONLY, INCOMING_SHAREABILITY, WALK | smmu::DMA_VMID | input << 32 | size << 48, root, 0, 0, 0, 0]
}

/// Turns translation on. `streams` and `root` are physical addresses of zeroed pages: [`STREAM_PAGES`] of them, and
/// the level 0 table of the devices' stage 2; `queue` is that of the command queue.
pub fn open(listed: &Listed, streams: u64, root: u64, queue: u64) -> Result<(), &'static str> {
    assert!(streams % (ENTRY << STREAMS_SHIFT) == 0, "the stream table is not aligned");
    for stream in listed.functions() {
        for (index, word) in (0..).zip(entry(root)) {
            let place = layout::RAM + streams + stream * ENTRY + index * 8;
            // SAFETY: the stream is one of bus 0, for all of which the mapped, unused pages have room (caller).
            unsafe { (place as *mut u64).write_volatile(word) };
        }
    }
    SMMU.write(CR1, CACHED);
    SMMU.write(CR2, PRIVATE_TLB);
    write_long(STRTAB_BASE, streams);
    SMMU.write(STRTAB_BASE_CFG, STREAMS_SHIFT);
    write_long(CMDQ_BASE, queue | u64::from(smmu::QUEUE_SHIFT));
    SMMU.write(CMDQ_PROD, 0);
    SMMU.write(CMDQ_CONS, 0);
    write_long(EVENTQ_BASE, 0);
    write_long(PRIQ_BASE, 0);
    SMMU.write(GERRORN, SMMU.read(GERROR));
    let checks = if SMMU.read(IDR0) >> 10 & 1 == 1 { ATS_CHECK } else { 0 };
    if !switch(COMMANDS | checks) {
        return Err("SMMU: the command queue cannot be turned on");
    }
    smmu::forget_everything();
    if !switch(COMMANDS | checks | ENABLE) {
        return Err("SMMU: translation cannot be turned on");
    }
    Ok(())
}
