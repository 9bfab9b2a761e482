//! Whether the machine of the device tree is the platform of the allow-list. Trust label: TRUSTED.
//!
//! What the engine drives must be there, whole, and be where `platform` says; nothing may lie where RAM or something else
//! lies, or where the BARs of PCIe functions are. Devices that only the tree knows are mapped to nobody. Sources: Linux device tree bindings arm,gic-v3, arm,psci,
//! arm,arch_timer, arm,pl011, arm,smmu-v3, host-generic-pci, simple-bus; Arm BSA, 4.1.4 (timer and maintenance PPIs).

use core::slice::from_ref;

use bulkhead_abi::Range;

use crate::device_tree::{Refusal, is_memory};
use crate::fdt::Node;
use crate::memory::{end, overlap};
use crate::platform::{self, Device};
use crate::virtio::STRIDE;

/// Most ranges of device addresses in the tree.
const REGIONS: usize = 96;
/// First cell of an interrupt specifier that names a PPI, and the difference of its INTID to the second.
const PPI: u64 = 1;
const FIRST_PPI: u64 = 16;
/// Functions of bus 0.
const STREAMS: u64 = 256;

/// What a machine may have or not.
pub struct Devices {
    /// An SMMU.
    pub has_smmu: bool,
    /// An interrupt translation service of the GIC.
    pub has_its: bool,
    /// Transports of virtio, a bit each.
    pub virtio: u32,
    /// A PCIe host bridge.
    pub has_pcie: bool,
    /// The SMMU sees every function of bus 0, under its number as stream.
    pub pcie_behind_smmu: bool,
}

/// Compares the tree below `root` with the platform; the error says what is missing or elsewhere.
pub fn check(root: Node<'_>, ram: &[Range], cpus: usize) -> Result<Devices, Refusal> {
    check_regions(root, ram)?;
    require_firmware(root)?;
    require_uart(root, &platform::UART0, "UART0 is missing: no arm,pl011 at 0x9000000")?;
    require_uart(
        root,
        &platform::UART1,
        "UART1, the management channel, is missing: no arm,pl011 at 0x9040000 (give QEMU 9.1 or later two -serial options)",
    )?;
    let gic = require_gic(root, cpus)?;
    require_timer(root)?;
    let smmu = only(root, "arm,smmu-v3", "there are two SMMUs")?;
    if smmu.is_some_and(|node| !is_at(node, root, &[platform::SMMU])) {
        return Err("the SMMU is not where the engine expects it: 0x9050000".into());
    }
    let its = gic.children().find(|node| node.is("arm,gic-v3-its"));
    if its.is_some_and(|node| !is_at(node, gic, &[platform::GIC_ITS])) {
        return Err("the GIC's ITS is not where the engine expects it: 0x8080000".into());
    }
    let pcie = only(root, "pci-host-ecam-generic", "there are two PCIe host bridges")?;
    if pcie.is_some_and(|node| !is_at(node, root, &[platform::PCIE_ECAM])) {
        return Err("PCIe configuration space is not where the engine expects it: 0x4010000000".into());
    }
    if pcie.is_some_and(|node| !has_window(node, root)) {
        return Err("PCIe's memory window is not where the engine expects it: 0x10000000".into());
    }
    let pcie_behind_smmu = pcie.zip(smmu).is_some_and(|(pcie, smmu)| is_translated(pcie, smmu));
    let virtio = transports(root)?;
    let (has_smmu, has_its, has_pcie) = (smmu.is_some(), its.is_some(), pcie.is_some());
    Ok(Devices { has_smmu, has_its, virtio, has_pcie, pcie_behind_smmu })
}

/// No two devices share an address, and none lies in RAM or in PCIe's window; nor does RAM lie where the platform has
/// devices.
fn check_regions(root: Node<'_>, ram: &[Range]) -> Result<(), Refusal> {
    let mut regions = Regions { all: [Range::default(); REGIONS], used: 0 };
    regions.add(range(&platform::PCIE_MMIO))?;
    regions.add_children(root)?;
    root.children().filter(|node| is_bus(*node)).try_for_each(|bus| regions.add_children(bus))?;
    let expected = platform::ALL_DEVICES.map(|(base, size)| Range { base, size });
    match regions.all.iter().chain(&expected).find(|device| ram.iter().any(|ram| overlap(*ram, **device))) {
        Some(device) => Err(Refusal::at("RAM and a device overlap", device.base)),
        None => Ok(()),
    }
}

/// Device addresses that are taken.
struct Regions {
    all: [Range; REGIONS],
    used: usize,
}

impl Regions {
    fn add(&mut self, region: Range) -> Result<(), Refusal> {
        if self.all.iter().any(|other| overlap(*other, region)) {
            return Err(Refusal::at("two devices of the device tree overlap", region.base));
        }
        *self.all.get_mut(self.used).ok_or("there are more than 96 device regions")? = region;
        self.used += 1;
        Ok(())
    }

    /// All regions of the devices directly below a node.
    fn add_children(&mut self, parent: Node<'_>) -> Result<(), Refusal> {
        const MALFORMED: &str = "a device of the device tree has a malformed reg";
        let cells = parent.cell_sizes().ok_or(MALFORMED)?;
        for node in parent.children().filter(|node| node.is_enabled() && !is_memory(*node)) {
            let regions = node.regions(cells).ok_or(MALFORMED)?;
            regions.filter(|region| region.size > 0).try_for_each(|region| self.add(region))?;
        }
        Ok(())
    }
}

/// Whether the addresses of a node's children are those of the root.
fn is_bus(node: Node<'_>) -> bool {
    let carries = node.is("simple-bus") || node.is("arm,gic-v3");
    carries && node.property("ranges").is_some_and(<[u8]>::is_empty)
}

fn require_firmware(root: Node<'_>) -> Result<(), Refusal> {
    let sound = |node: Node<'_>| node.is("arm,psci-1.0") && node.property("method") == Some(b"smc\0");
    let found = root.child("psci").is_some_and(sound);
    if found { Ok(()) } else { Err("PSCI firmware is missing: no /psci, arm,psci-1.0, with method \"smc\"".into()) }
}

fn require_uart(root: Node<'_>, uart: &Device, missing: &'static str) -> Result<(), Refusal> {
    let found = root.children().any(|node| node.is("arm,pl011") && is_at(node, root, from_ref(uart)));
    if found { Ok(()) } else { Err(missing.into()) }
}

fn require_gic(root: Node<'_>, cpus: usize) -> Result<Node<'_>, Refusal> {
    let gic = only(root, "arm,gic-v3", "there are two GICs")?.ok_or("the GIC is missing: no arm,gic-v3")?;
    if !is_at(gic, root, &[platform::GICD, platform::GICR_RD]) {
        return Err("the GIC is not where the engine expects it: 0x8000000 and 0x80a0000".into());
    }
    let room = root.cell_sizes().and_then(|cells| gic.regions(cells)?.nth(1)).map_or(0, |region| region.size);
    let stride = gic.number("redistributor-stride").unwrap_or(platform::GICR_RD.stride);
    if room < cpus as u64 * platform::GICR_RD.stride || stride != platform::GICR_RD.stride {
        return Err("the GIC has fewer redistributors in its first region than there are CPUs".into());
    }
    if gic.number("#interrupt-cells") != Some(3) || ppi(gic, 0) != Some(platform::MAINTENANCE_PPI) {
        return Err("the GIC's maintenance interrupt is not PPI 25".into());
    }
    Ok(gic)
}

fn require_timer(root: Node<'_>) -> Result<(), Refusal> {
    let timer = only(root, "arm,armv8-timer", "there are two timers")?;
    let timer = timer.ok_or("the timer is missing: no arm,armv8-timer")?;
    // In the binding's order: secure, physical, virtual, hypervisor.
    if [ppi(timer, 1), ppi(timer, 2)] != [Some(platform::PHYSICAL_TIMER_PPI), Some(platform::VIRTUAL_TIMER_PPI)] {
        return Err("the timer's physical and virtual interrupts are not PPI 30 and PPI 27".into());
    }
    Ok(())
}

/// INTID of entry `index` in a node's interrupts (three cells each), if it is a PPI.
fn ppi(node: Node<'_>, index: usize) -> Option<u64> {
    let mut cells = node.cells("interrupts")?.skip(3 * index);
    (cells.next()? == PPI).then_some(())?;
    Some(cells.next()? + FIRST_PPI)
}

/// Whether the functions of bus 0 are streams of the SMMU under their own numbers (`iommu-map`).
fn is_translated(pcie: Node<'_>, smmu: Node<'_>) -> bool {
    let Some(mut map) = pcie.cells("iommu-map") else { return false };
    let [function, controller, stream, length] = [(); 4].map(|()| map.next());
    let ours = smmu.number("phandle").is_some() && controller == smmu.number("phandle");
    ours && function == Some(0) && stream == Some(0) && length.is_some_and(|length| length >= STREAMS)
}

/// The child of the root that is of a kind, if there is one; more are refused.
fn only<'a>(root: Node<'a>, kind: &str, several: &'static str) -> Result<Option<Node<'a>>, Refusal> {
    let mut found = root.children().filter(|node| node.is(kind));
    let first = found.next();
    if found.next().is_some() { Err(several.into()) } else { Ok(first) }
}

/// The transports of virtio that are there, a bit each.
fn transports(root: Node<'_>) -> Result<u32, &'static str> {
    const ELSEWHERE: &str = "a virtio transport is not where the engine expects it: 0xa000000 to 0xa003fff";
    let space = range(&platform::VIRTIO_MMIO);
    let mut found = 0;
    for node in root.children().filter(|node| node.is("virtio,mmio")) {
        let region = root.cell_sizes().and_then(|cells| node.regions(cells)?.next()).ok_or(ELSEWHERE)?;
        let offset = region.base.checked_sub(space.base).filter(|offset| offset % STRIDE == 0).ok_or(ELSEWHERE)?;
        if end(region) > end(space) || region.size < STRIDE {
            return Err(ELSEWHERE);
        }
        found |= 1 << (offset / STRIDE);
    }
    Ok(found)
}

/// Whether a host bridge forwards the engine's window of 32-bit memory (space code 2).
fn has_window(pcie: Node<'_>, root: Node<'_>) -> bool {
    let window = range(&platform::PCIE_MMIO);
    let Some(mut forwarded) = root.cell_sizes().and_then(|(address, _)| pcie.forwarded(address)) else { return false };
    forwarded
        .any(|(space, from)| space >> 24 & 3 == 2 && from.base <= window.base && end(window) - from.base <= from.size)
}

const fn range(device: &Device) -> Range {
    Range { base: device.base, size: device.size }
}

/// Whether the first regions of a child of `parent` start where these devices are, and hold them.
fn is_at(node: Node<'_>, parent: Node<'_>, devices: &[Device]) -> bool {
    let Some(mut regions) = parent.cell_sizes().and_then(|cells| node.regions(cells)) else { return false };
    let holds = |region: Range, device: &Device| region.base == device.base && region.size >= device.size;
    devices.iter().all(|device| regions.next().is_some_and(|region| holds(region, device)))
}
