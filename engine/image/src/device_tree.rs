//! What the device tree says about memory, CPUs and boot data. Trust label: TRUSTED.
//!
//! The tree comes from the boot loader and is believed, as far as it does not contradict itself; whether its devices
//! are those of the platform is [`crate::devices`]' question. Sources: Devicetree Specification 0.4, 3.4 (memory), 3.5
//! (reserved memory), 3.7 (chosen), 3.8 (cpus).

use bulkhead_abi::{CPUS_MAX, Range};

use crate::devices::{self, Devices};
use crate::fdt::{Node, Tree};
use crate::memory::{end, overlap};
use crate::tables::PAGE;

/// Most RAM ranges.
pub const RAM_RANGES: usize = 8;
/// Most reserved ranges of RAM.
pub const RESERVED_RANGES: usize = 8;
/// Longest device tree that the Linux boot protocol allows.
pub const LONGEST: u64 = 2 << 20;
/// Aff3, Aff2, Aff1 and Aff0 of `MPIDR_EL1`.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Why a machine cannot be used: what is missing or wrong, and where.
pub struct Refusal {
    /// In words.
    pub what: &'static str,
    /// A physical address, if that says more.
    pub at: Option<u64>,
}

impl From<&'static str> for Refusal {
    fn from(what: &'static str) -> Self {
        Self { what, at: None }
    }
}

impl Refusal {
    /// A refusal that names an address.
    pub const fn at(what: &'static str, address: u64) -> Self {
        Self { what, at: Some(address) }
    }
}

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
    /// What there is besides.
    pub devices: Devices,
}

/// Reads the tree in `blob`, which lies at `place`; the error says what is missing.
pub fn read(blob: &[u8], place: Range) -> Result<Machine, Refusal> {
    let tree = Tree::new(blob)?;
    let root = tree.root();
    let ram = ram(root)?;
    if !ram.iter().any(|ram| ram.base <= place.base && end(place) <= end(*ram)) {
        return Err("the device tree does not lie in RAM".into());
    }
    let (cpus, affinities) = cpus(root)?;
    let devices = devices::check(root, &ram, cpus)?;
    let initrd = initrd(root);
    let reserved = reserved(&tree, &[place, initrd])?;
    let seeds = ["rng-seed", "kaslr-seed"].map(|name| property_place(root.child("chosen"), name, blob, place));
    Ok(Machine { ram, reserved, cpus, affinities, initrd, seeds, devices })
}

/// Whether a node describes RAM that may be used.
pub fn is_memory(node: Node<'_>) -> bool {
    node.is_enabled() && node.lists("device_type", "memory")
}

fn ram(root: Node<'_>) -> Result<[Range; RAM_RANGES], Refusal> {
    const MALFORMED: &str = "the device tree's RAM ranges are malformed";
    let cells = root.cell_sizes().ok_or(MALFORMED)?;
    let mut ram = [Range::default(); RAM_RANGES];
    let mut used = 0;
    for node in root.children().filter(|node| is_memory(*node)) {
        for range in node.regions(cells).ok_or(MALFORMED)? {
            if range.size == 0 {
                return Err(Refusal::at("a RAM range is empty", range.base));
            }
            if ram.iter().any(|other| overlap(*other, range)) {
                return Err(Refusal::at("two RAM ranges overlap", range.base));
            }
            *ram.get_mut(used).ok_or("there are more than 8 RAM ranges")? = range;
            used += 1;
        }
    }
    if used == 0 { Err("RAM is missing: no node with device_type \"memory\"".into()) } else { Ok(ram) }
}

/// What the reservation block and `/reserved-memory` name. Boot loaders list the tree and the RAM disk too, in whole pages:
/// those are `known` and the host's to keep. A range with more than that in it is firmware's.
fn reserved(tree: &Tree<'_>, known: &[Range]) -> Result<[Range; RESERVED_RANGES], Refusal> {
    const MALFORMED: &str = "the device tree's reserved ranges are malformed";
    let mut reserved = [Range::default(); RESERVED_RANGES];
    let mut places = reserved.iter_mut();
    let mut keep = |range: Range| {
        range.base.checked_add(range.size).ok_or(MALFORMED)?;
        let pages = |range: Range| range.base / PAGE..end(range).div_ceil(PAGE);
        let within = |known: Range| pages(known).start <= pages(range).start && pages(range).end <= pages(known).end;
        if range.size > 0 && !known.iter().any(|known| within(*known)) {
            *places.next().ok_or("there are more than 8 reserved ranges")? = range;
        }
        Ok::<(), Refusal>(())
    };
    tree.reservations().try_for_each(&mut keep)?;
    if let Some(parent) = tree.root().child("reserved-memory") {
        let cells = parent.cell_sizes().ok_or(MALFORMED)?;
        for node in parent.children() {
            node.regions(cells).ok_or(MALFORMED)?.try_for_each(&mut keep)?;
        }
    }
    Ok(reserved)
}

fn cpus(root: Node<'_>) -> Result<(usize, [u64; CPUS_MAX]), Refusal> {
    const MALFORMED: &str = "a CPU of the device tree has no sound reg";
    let parent = root.child("cpus").ok_or("CPUs are missing: no node /cpus")?;
    let (address, size) = parent.cell_sizes().ok_or(MALFORMED)?;
    let mut affinities = [0; CPUS_MAX];
    let mut used = 0;
    for node in parent.children().filter(|node| node.is_enabled() && node.lists("device_type", "cpu")) {
        let affinity = node.regions((address, size)).and_then(|mut one| one.next()).ok_or(MALFORMED)?.base;
        if affinity & !AFFINITY != 0 || size != 0 {
            return Err(MALFORMED.into());
        }
        if affinities[..used].contains(&affinity) {
            return Err(Refusal::at("two CPUs of the device tree have the same MPIDR", affinity));
        }
        *affinities.get_mut(used).ok_or("there are more than 8 CPUs")? = affinity;
        used += 1;
    }
    if used == 0 { Err("CPUs are missing: /cpus is empty".into()) } else { Ok((used, affinities)) }
}

fn initrd(root: Node<'_>) -> Range {
    let address = |name| root.child("chosen").and_then(|node| node.number(name));
    match (address("linux,initrd-start"), address("linux,initrd-end")) {
        (Some(start), Some(end)) if start < end => Range { base: start, size: end - start },
        _ => Range::default(),
    }
}

/// Where the value of a property lies, the tree in `blob` lying at `place`; size 0: there is none.
fn property_place(node: Option<Node<'_>>, name: &str, blob: &[u8], place: Range) -> Range {
    node.and_then(|node| node.property(name)).map_or(Range::default(), |value| {
        let offset = value.as_ptr().addr() - blob.as_ptr().addr();
        Range { base: place.base + offset as u64, size: value.len() as u64 }
    })
}
