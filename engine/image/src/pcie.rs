//! PCIe: every function is made silent, and those of the allow-list become the host's. Trust label: TRUSTED.
//!
//! A function whose Command register is zero decodes no address and masters no bus, MSIs included (they are writes of
//! the function). Nobody but the engine reaches configuration space, so it stays so: the host has the pages of listed
//! functions of bus 0 only, and these only behind an SMMU. Functions that appear later, behind a hot-plug port or as
//! virtual functions, come up silent and are in nobody's reach; the SMMU knows no stream of theirs. Virtual functions
//! that firmware has turned on answer as if they were absent, so they are turned off where they were turned on.
//!
//! Source: PCI Express Base Specification, 7.2.2 (ECAM), 7.5.1.1 (Vendor ID, Command), 7.5.3 (PCI Express capability),
//! 7.6.3 (extended capabilities), 9.3.3 (SR-IOV capability), 9.3.4.1.1 (Vendor ID of virtual functions).

use bulkhead_arch::{layout, smmu};

use crate::mmio::Registers;
use crate::platform::{self, PCI_FUNCTIONS};
use crate::tables::PAGE;

/// Functions of a bus: 32 devices of 8, or one device of 256 (ARI).
pub const FUNCTIONS_PER_BUS: usize = 256;
const IDS: u64 = 0;
const COMMAND: u64 = 4;
const ABSENT: u32 = 0xffff;
/// Pointer to the first capability; most of them that fit a page; PCI Express and its registers.
const CAPABILITIES: u64 = 0x34;
const CAPABILITIES_MAX: u32 = 48;
const EXPRESS: u32 = 0x10;
const DEVICE_CAPABILITIES: u64 = 4;
const FLR_CAPABLE: u32 = 1 << 28;
const DEVICE_CONTROL: u64 = 8;
/// I/O space, memory space, bus master.
const ACTIVE: u32 = 7;
/// Extended capabilities, most of them that fit a page; SR-IOV and its Control register.
const EXTENDED: u64 = 0x100;
const EXTENDED_MAX: u64 = (PAGE - EXTENDED) / 8;
const SRIOV: u32 = 0x10;
const SRIOV_CONTROL: u64 = 8;
const VIRTUAL_FUNCTIONS: u32 = 1;

/// The listed functions of bus 0.
pub struct Listed([bool; FUNCTIONS_PER_BUS]);

impl Listed {
    /// None.
    pub const NONE: Self = Self([false; FUNCTIONS_PER_BUS]);

    /// Numbers of the functions (device << 3 | function), which are their streams' too.
    pub fn functions(&self) -> impl Iterator<Item = u64> + '_ {
        (0..).zip(&self.0).filter(|(_, listed)| **listed).map(|(function, _)| function)
    }

    /// Physical addresses of their configuration pages.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.functions().map(|function| platform::PCIE_ECAM.base + function * PAGE)
    }
}

/// Makes every function on every bus silent; answers the listed ones. `PCIE_ECAM` is mapped.
pub fn silence() -> Result<Listed, &'static str> {
    let mut listed = Listed::NONE;
    // SAFETY: mapped (caller).
    let space = unsafe { Registers::new(layout::PCIE_ECAM) };
    for function in 0..platform::PCIE_ECAM.size / PAGE {
        let page = space.at(function * PAGE);
        let ids = page.read(IDS);
        if ids & 0xffff == ABSENT {
            continue;
        }
        if !is_silenced(page) {
            return Err("a PCIe function cannot be made silent");
        }
        if let Some(place) = listed.0.get_mut(function as usize) {
            *place = PCI_FUNCTIONS.iter().any(|kind| kind.ids == ids && (!kind.lasting || is_resettable(page)));
        }
    }
    Ok(listed)
}

/// Clears the Command register of a function and turns its virtual functions off; whether it obeys.
fn is_silenced(page: Registers) -> bool {
    // The upper halves are Status registers, where zeros change nothing.
    page.write(COMMAND, 0);
    if let Some(virtuals) = extended(page, SRIOV) {
        virtuals.write(SRIOV_CONTROL, 0);
        if virtuals.read(SRIOV_CONTROL) & VIRTUAL_FUNCTIONS != 0 {
            return false;
        }
    }
    page.read(COMMAND) & ACTIVE == 0
}

/// The first extended capability of a kind.
fn extended(page: Registers, kind: u32) -> Option<Registers> {
    let mut offset = EXTENDED;
    for _ in 0..EXTENDED_MAX {
        let head = page.read(offset);
        if head & 0xffff == kind {
            return Some(page.at(offset));
        }
        offset = u64::from(head >> 20 & 0xffc);
        // The list ends, or there is none: a function of old answers with ones.
        if offset < EXTENDED || head == u32::MAX {
            break;
        }
    }
    None
}

/// Whether the function can be reset alone (FLR); if so, every window that closes resets it.
fn is_resettable(page: Registers) -> bool {
    let mut offset = u64::from(page.read(CAPABILITIES) & 0xfc);
    for _ in 0..CAPABILITIES_MAX {
        let head = page.read(offset);
        if offset != 0 && head & 0xff == EXPRESS && page.read(offset + DEVICE_CAPABILITIES) & FLR_CAPABLE != 0 {
            return smmu::reset_on_close(page.at(offset + DEVICE_CONTROL).address());
        }
        offset = u64::from(head >> 8 & 0xfc);
    }
    false
}
