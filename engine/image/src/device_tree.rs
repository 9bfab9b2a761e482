//! What the device tree says about the machine, as far as the engine needs it. Trust label: TRUSTED.
//!
//! The tree comes from the boot loader and is believed, but checked against the allow-list of `platform`: a machine
//! whose devices are elsewhere is refused. Sources: Devicetree Specification 0.4, 3.4 (memory), 3.7 (chosen),
//! 3.8 (cpus); Linux bindings arm,gic-v3, arm,smmu-v3, arm,pl011, arm,psci.

use bulkhead_abi::{CPUS_MAX, Range};
use flat_device_tree::Fdt;
use flat_device_tree::node::FdtNode;

use crate::memory::overlap;
use crate::platform;

/// Most RAM ranges.
pub const RAM_RANGES: usize = 8;
/// Most reserved ranges of RAM.
pub const RESERVED_RANGES: usize = 8;
/// Longest device tree that the Linux boot protocol allows.
pub const LONGEST: u64 = 2 << 20;

/// The machine.
pub struct Machine {
    /// RAM ranges; unused entries have size 0.
    pub ram: [Range; RAM_RANGES],
    /// RAM that firmware keeps for itself; unused entries have size 0.
    pub reserved: [Range; RESERVED_RANGES],
    /// Number of CPUs.
    pub cpus: usize,
    /// Affinity fields of each CPU's `MPIDR_EL1`, in the order of the tree.
    pub affinities: [u64; CPUS_MAX],
    /// Initial RAM disk; size 0: none.
    pub initrd: Range,
    /// Where the tree holds secrets for the operating system: `rng-seed` and `kaslr-seed`; size 0: none.
    pub seeds: [Range; 2],
    /// Whether there is an SMMU.
    pub has_smmu: bool,
    /// Whether there is a PCIe host bridge.
    pub has_pcie: bool,
    /// Whether the SMMU sees every function of bus 0, under its number as stream.
    pub pcie_behind_smmu: bool,
}

/// Reads the tree in `blob`, which lies at `place`; the error says what is missing.
pub fn read(blob: &[u8], place: Range) -> Result<Machine, &'static str> {
    let tree = Fdt::new(blob).map_err(|_| "the device tree is malformed")?;
    require_firmware(&tree)?;
    require_device(&tree, "arm,pl011", &platform::UART0, "UART0 is missing: no arm,pl011 at 0x9000000")?;
    require_device(
        &tree,
        "arm,pl011",
        &platform::UART1,
        "UART1, the management channel, is missing: no arm,pl011 at 0x9040000 (give QEMU 9.1 or later two -serial options)",
    )?;
    let (cpus, affinities) = cpus(&tree)?;
    require_gic(&tree, cpus)?;
    let initrd = initrd(&tree);
    let reserved = reserved(&tree, &[place, initrd])?;
    let seeds = ["rng-seed", "kaslr-seed"].map(|name| property_place(&tree, "/chosen", name, blob, place));
    let pcie = compatible(&tree, "pci-host-ecam-generic").next();
    Ok(Machine {
        ram: ram(&tree)?,
        reserved,
        cpus,
        affinities,
        initrd,
        seeds,
        has_smmu: smmu(&tree)?,
        has_pcie: pcie.is_some(),
        pcie_behind_smmu: pcie.is_some_and(|bridge| bridge.property("iommu-map").is_some()),
    })
}

fn require_firmware(tree: &Fdt<'_>) -> Result<(), &'static str> {
    let method = tree.find_node("/psci").and_then(|node| node.property("method")).and_then(|method| method.as_str());
    if method == Some("smc") { Ok(()) } else { Err("PSCI firmware is missing: no /psci with method \"smc\"") }
}

fn ram(tree: &Fdt<'_>) -> Result<[Range; RAM_RANGES], &'static str> {
    let root = tree.find_node("/").ok_or("the device tree has no root node")?;
    let sizes = root.cell_sizes();
    let memory = |node: &FdtNode<'_, '_>| node.property("device_type").and_then(|kind| kind.as_str()) == Some("memory");
    let ranges = root.children().filter(memory).filter_map(|node| node.property("reg"));
    let mut ram = [Range::default(); RAM_RANGES];
    for (index, (base, size)) in ranges.flat_map(|reg| reg.iter_prop_encoded(sizes)).enumerate() {
        let place = ram.get_mut(index).ok_or("there are more than 8 RAM ranges")?;
        base.checked_add(size).ok_or("the device tree's RAM ranges are malformed")?;
        *place = Range { base, size };
    }
    if ram[0].size == 0 { Err("RAM is missing: no node with device_type \"memory\"") } else { Ok(ram) }
}

/// What the reservation block and `/reserved-memory` name (Devicetree Specification 0.4, 5.3 and 3.5). Boot loaders
/// list the tree and the RAM disk too: those are `known` and the host's to keep.
fn reserved(tree: &Fdt<'_>, known: &[Range]) -> Result<[Range; RESERVED_RANGES], &'static str> {
    const BLOCK_OFFSET: usize = 16;
    let offset = tree.raw_data().get(BLOCK_OFFSET..BLOCK_OFFSET + 4).and_then(|bytes| bytes.try_into().ok());
    if offset.map(u32::from_be_bytes).is_none_or(|offset| offset as usize > tree.total_size()) {
        return Err("the device tree is malformed");
    }
    let listed = tree.memory_reservations().map(|entry| (entry.address() as u64, entry.size() as u64));
    let nodes = tree.find_node("/reserved-memory").into_iter().flat_map(|parent| {
        let sizes = parent.cell_sizes();
        let children = parent.children().filter_map(|node| node.property("reg"));
        children.flat_map(move |reg| reg.iter_prop_encoded(sizes))
    });
    let mut reserved = [Range::default(); RESERVED_RANGES];
    let mut places = reserved.iter_mut();
    for (base, size) in listed.chain(nodes) {
        base.checked_add(size).ok_or("the device tree's reserved ranges are malformed")?;
        let range = Range { base, size };
        if !known.iter().any(|known| overlap(*known, range)) {
            *places.next().ok_or("there are more than 8 reserved ranges")? = range;
        }
    }
    Ok(reserved)
}

fn cpus(tree: &Fdt<'_>) -> Result<(usize, [u64; CPUS_MAX]), &'static str> {
    let parent = tree.find_node("/cpus").ok_or("CPUs are missing: no node /cpus")?;
    let cells = parent.cell_sizes().address_cells;
    let cpu = |node: &FdtNode<'_, '_>| node.property("device_type").and_then(|kind| kind.as_str()) == Some("cpu");
    let mut affinities = [0; CPUS_MAX];
    let mut used = 0;
    for node in parent.children().filter(cpu) {
        let affinity = node.property("reg").and_then(|reg| reg.iter_cell_size(cells).next());
        let affinity = affinity.ok_or("a node of /cpus has no reg")?;
        *affinities.get_mut(used).ok_or("there are more than 8 CPUs")? = affinity;
        used += 1;
    }
    if used == 0 { Err("CPUs are missing: /cpus is empty") } else { Ok((used, affinities)) }
}

fn initrd(tree: &Fdt<'_>) -> Range {
    let chosen = tree.find_node("/chosen");
    let address = |name| chosen.and_then(|node| node.property(name)).and_then(|value| value.as_usize());
    match (address("linux,initrd-start"), address("linux,initrd-end")) {
        (Some(start), Some(end)) if start < end => Range { base: start as u64, size: (end - start) as u64 },
        _ => Range::default(),
    }
}

/// Where the value of a property lies, the tree in `blob` lying at `place`; size 0: there is none.
fn property_place(tree: &Fdt<'_>, node: &str, name: &str, blob: &[u8], place: Range) -> Range {
    let property = tree.find_node(node).and_then(|node| node.property(name));
    property.map_or(Range::default(), |property| {
        let offset = property.value.as_ptr().addr() - blob.as_ptr().addr();
        Range { base: place.base + offset as u64, size: property.value.len() as u64 }
    })
}

fn require_gic(tree: &Fdt<'_>, cpus: usize) -> Result<(), &'static str> {
    let gic = compatible(tree, "arm,gic-v3").next().ok_or("the GIC is missing: no arm,gic-v3")?;
    let mut frames = gic.reg();
    let (distributor, redistributors) = (frames.next(), frames.next());
    let base = |frame: Option<flat_device_tree::standard_nodes::MemoryRegion>| frame.map(|f| f.starting_address as u64);
    if base(distributor) != Some(platform::GICD.base) || base(redistributors) != Some(platform::GICR_RD.base) {
        return Err("the GIC is not where the engine expects it: 0x8000000 and 0x80a0000");
    }
    let room = redistributors.and_then(|region| region.size).unwrap_or(0) as u64;
    if room < cpus as u64 * platform::GICR_RD.stride {
        return Err("the GIC has fewer redistributors in its first region than there are CPUs");
    }
    Ok(())
}

fn smmu(tree: &Fdt<'_>) -> Result<bool, &'static str> {
    match compatible(tree, "arm,smmu-v3").next().map(base_of) {
        None => Ok(false),
        Some(Some(base)) if base == platform::SMMU.base => Ok(true),
        Some(_) => Err("the SMMU is not where the engine expects it: 0x9050000"),
    }
}

fn require_device(
    tree: &Fdt<'_>,
    kind: &str,
    device: &platform::Device,
    missing: &'static str,
) -> Result<(), &'static str> {
    let enabled = |node: &FdtNode<'_, '_>| node.property("status").is_none_or(|status| status.as_str() == Some("okay"));
    let found = compatible(tree, kind).filter(enabled).any(|node| base_of(node) == Some(device.base));
    if found { Ok(()) } else { Err(missing) }
}

/// Children of the root that name `kind` as compatible.
fn compatible<'b, 'a: 'b>(tree: &'b Fdt<'a>, kind: &'b str) -> impl Iterator<Item = FdtNode<'b, 'a>> {
    let nodes = tree.find_node("/").into_iter().flat_map(FdtNode::children);
    nodes.filter(move |node| node.property("compatible").is_some_and(|names| names.iter_str().any(|name| name == kind)))
}

fn base_of(node: FdtNode<'_, '_>) -> Option<u64> {
    node.reg().next().map(|region| region.starting_address as u64)
}
