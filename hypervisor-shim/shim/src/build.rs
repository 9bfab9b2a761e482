//! Building a VM: its tables, its images, its vCPUs (trust label: UNTRUSTED).

use crate::devices::disk::Disk;
use crate::memory;
use crate::schedule;
use crate::teardown;
use crate::vm::{Activity, SLOTS, Slot, State, Vm};
use bulkhead_abi::{BLOCK_SIZE, FRAME_SIZE, MAP_MEASURED, MAP_ZEROED, RAM_RANGES, VCPUS_MAX, status};
use bulkhead_el1::hvc::{self, CallError};
use bulkhead_link::message::{Refusal, Request};
use core::sync::atomic::{AtomicU64, Ordering};

/// Relinquished pages are looked for among all of a VM's pages when there are so many of them, and one in so many pages.
const RELINQUISHED: u64 = 64;

/// Pages mapped since boot.
pub static PAGES_MAPPED: AtomicU64 = AtomicU64::new(0);

/// Arguments of the operation `start`.
pub const ARGUMENTS: [&str; 14] = [
    "kernel",
    "initrd",
    "dtb",
    "kernel_address",
    "initrd_address",
    "dtb_address",
    "entry",
    "ram",
    "cpus",
    "time",
    "disk",
    "disk_size",
    "first",
    "first_address",
];

/// What a VM is made of. Addresses are the VM's (IPA), page-aligned.
pub struct Plan<'p> {
    /// Content and address of each image: kernel, initial RAM disk, device tree, and a program that comes before the kernel.
    images: [(&'p [u8], u64); 4],
    /// Image and size of its disk.
    disk: Option<(&'p [u8], u64)>,
    entry: u64,
    context: u64,
    ranges: [(u64, u64); RAM_RANGES],
    vcpus: usize,
    time: u64,
}

impl<'p> Plan<'p> {
    /// From the arguments of the operation `start`.
    ///
    /// # Errors
    /// An argument is missing or malformed, or the store lacks a file.
    pub fn new(request: &Request<'p>, find: impl Fn(&str) -> Option<&'p [u8]>) -> Result<Self, Refusal> {
        let find = |name| find(name).ok_or(Refusal::request("the image store has no such file"));
        let kernel = (find(request.text("kernel")?)?, request.u64("kernel_address")?);
        let initrd_address = request.u64("initrd_address")?;
        let initrd = match request.optional_text("initrd")? {
            Some(name) => (find(name)?, initrd_address),
            None => (&[][..], 0),
        };
        let device_tree = (request.bytes("dtb")?, request.u64("dtb_address")?);
        let first = match (request.optional_bytes("first")?, request.optional_u64("first_address")?) {
            (Some(program), Some(address)) => (program, address),
            (None, None) => (&[][..], 0),
            _ => return Err(Refusal::request("first and first_address come together")),
        };
        let disk = match request.optional_text("disk")? {
            Some(name) => Some(find(name)?),
            None => None,
        };
        let disk = match (disk, request.optional_u64("disk_size")?) {
            (image, Some(size)) if size > 0 => Some((image.unwrap_or_default(), size)),
            (Some(image), _) => Some((image, image.len() as u64)),
            (None, _) => None,
        };
        let images = [kernel, initrd, device_tree, first];
        if images.iter().any(|(content, address)| {
            address % FRAME_SIZE != 0 || address.checked_add(content.len() as u64 + FRAME_SIZE).is_none()
        }) {
            return Err(Refusal::request("an image's address is not page-aligned or wraps"));
        }
        let (ranges, _) = request.pairs("ram")?;
        let vcpus = request.index("cpus", VCPUS_MAX + 1)?;
        let (entry, time) = (request.u64("entry")?, request.optional_u64("time")?.unwrap_or(0));
        Ok(Self { images, disk, entry, context: device_tree.1, ranges, vcpus, time })
    }
}

fn refusal(error: CallError) -> Refusal {
    Refusal::call(error.call, error.status, error.detail)
}

/// Builds a VM and lets it run: its slot and measurement.
///
/// # Errors
/// No slot or memory is left, or the engine refused; what had been built is taken apart again.
pub fn start(plan: &Plan) -> Result<(usize, [u64; 4]), Refusal> {
    let free = SLOTS.iter().position(|slot| slot.state() == State::Free);
    let index = free.ok_or(Refusal::state("every VM slot is in use"))?;
    let slot = &SLOTS[index];
    slot.set_state(State::Changing);
    let built = build(index, slot, plan);
    match built {
        Ok(measurement) => {
            slot.set_state(State::Running);
            schedule::kick_vcpu(index, 0);
            Ok((index, measurement))
        }
        Err(refusal) => {
            teardown::take_apart(index, &mut slot.vm.lock())?;
            slot.set_state(State::Free);
            Err(refusal)
        }
    }
}

fn build(index: usize, slot: &Slot, plan: &Plan) -> Result<[u64; 4], Refusal> {
    let mut vm = slot.vm.lock();
    *vm = Vm::new(plan.vcpus.min(VCPUS_MAX));
    vm.firmware.set_clock(plan.time);
    vm.ranges = plan.ranges;
    if let Some((image, size)) = plan.disk {
        vm.disk = Some(Disk::new(image, size)?);
    }
    let id = index as u64;
    let [(b0, s0), (b1, s1), (b2, s2), (b3, s3)] = plan.ranges;
    vm.root = donate(|root| hvc::vm_create(id, root, plan.vcpus as u64, 0, b0, s0, b1, s1, b2, s2, b3, s3))?;
    for (content, address) in plan.images {
        load(index, &mut vm, content, address)?;
    }
    for vcpu in 0..plan.vcpus {
        vm.vcpus[vcpu].frame = donate(|frame| hvc::vcpu_create(id, vcpu as u64, frame))?;
    }
    let first = vm.vcpus[0].frame;
    hvc::patiently(|| hvc::vcpu_set_entry(first, plan.entry, plan.context)).map_err(refusal)?;
    vm.vcpus[0].activity = Activity::Ready;
    hvc::patiently(|| hvc::activate(id)).map_err(refusal)
}

/// Allocates a frame and gives it away by `call`; the frame.
fn donate(mut call: impl FnMut(u64) -> Result<[u64; 0], CallError>) -> Result<u64, Refusal> {
    let frame = memory::allocate()?;
    match hvc::patiently(|| call(frame)) {
        Ok([]) => Ok(frame),
        Err(error) => {
            memory::release(frame);
            Err(refusal(error))
        }
    }
}

/// Copies an image page by page into frames that the VM gets, measured.
fn load(index: usize, vm: &mut Vm, content: &[u8], address: u64) -> Result<(), Refusal> {
    for (number, page) in content.chunks(FRAME_SIZE as usize).enumerate() {
        let frame = memory::allocate()?;
        memory::fill(frame, page);
        let ipa = address + number as u64 * FRAME_SIZE;
        if let Err(refusal) = map(index, vm, ipa, frame, MAP_MEASURED) {
            memory::release(frame);
            return Err(refusal);
        }
    }
    Ok(())
}

/// Gives the VM zeroed memory at `ipa`: a whole block where that is possible, else a page. That another vCPU's fault
/// has brought it already is fine.
///
/// # Errors
/// No memory is left, or the engine refused.
pub fn map_zeroed(index: usize, vm: &mut Vm, ipa: u64) -> Result<(), Refusal> {
    if vm.relinquished >= RELINQUISHED.max(vm.pages.len() / RELINQUISHED) {
        teardown::take_relinquished(index, vm);
    }
    if map_block(index, vm, ipa - ipa % BLOCK_SIZE)? {
        return Ok(());
    }
    let frame = memory::allocate()?;
    let mapped = map(index, vm, ipa, frame, MAP_ZEROED);
    if mapped.is_err() {
        memory::release(frame);
    }
    match mapped {
        Err(refusal) if refusal.values[0] == Some(("status", status::ALREADY_MAPPED)) => Ok(()),
        other => other,
    }
}

/// Gives the VM a zeroed block at `ipa`, a multiple of 2 MiB; false if its RAM is smaller there, pages are there
/// already, or no whole block is left.
fn map_block(index: usize, vm: &mut Vm, ipa: u64) -> Result<bool, Refusal> {
    let in_ram = |(base, size): &(u64, u64)| {
        ipa >= *base && size.checked_sub(ipa - base).is_some_and(|behind| behind >= BLOCK_SIZE)
    };
    if !vm.ranges.iter().any(in_ram) {
        return Ok(false);
    }
    let Some(block) = memory::allocate_block() else { return Ok(false) };
    let answer = with_tables(index, vm, ipa, || hvc::map_block(index as u64, ipa, block));
    match answer {
        Ok(()) => {
            memory::note_block(&mut vm.blocks, block, ipa);
            PAGES_MAPPED.fetch_add(BLOCK_SIZE / FRAME_SIZE, Ordering::Relaxed);
            Ok(true)
        }
        Err(refused) => {
            memory::release_block(block);
            match refused.values[0] {
                Some(("status", status::ALREADY_MAPPED)) => Ok(false),
                Some(_) => Err(refused),
                // No frame is left for a table unless this block is split.
                None => Ok(false),
            }
        }
    }
}

/// Cuts the block that holds `ipa` into pages. That another vCPU's exit has done it already is fine.
///
/// # Errors
/// No memory is left, or the engine refused.
pub fn split(vm: &mut Vm, ipa: u64) -> Result<(), Refusal> {
    let Some(block) = memory::take_block(&mut vm.blocks, ipa) else { return Ok(()) };
    match split_block(block) {
        Ok(table) => {
            memory::note(&mut vm.tables_3, table);
            memory::note_pages(&mut vm.pages, block);
            Ok(())
        }
        Err(refusal) => {
            memory::note_block(&mut vm.blocks, block, ipa);
            Err(refusal)
        }
    }
}

/// The frame that became the VM's table. The one that became the host's stays it for good, as after `host_split`.
fn split_block(block: u64) -> Result<u64, Refusal> {
    let host_table = memory::allocate()?;
    let split = donate(|table| hvc::vm_split(block, table, host_table));
    if split.is_err() {
        memory::release(host_table);
    }
    split
}

/// Makes `call`, which maps something at `ipa`, and donates the tables that it says are missing.
fn with_tables(
    index: usize,
    vm: &mut Vm,
    ipa: u64,
    mut call: impl FnMut() -> Result<[u64; 0], CallError>,
) -> Result<(), Refusal> {
    const TABLE_LEVELS: usize = 2;
    let mut answer = hvc::patiently(&mut call);
    for _ in 0..TABLE_LEVELS {
        let Err(CallError { status: status::TABLE_MISSING, detail: level, .. }) = answer else { break };
        let table = donate(|table| hvc::table_donate(index as u64, ipa, level, table))?;
        memory::note(if level == 2 { &mut vm.tables_2 } else { &mut vm.tables_3 }, table);
        answer = hvc::patiently(&mut call);
    }
    answer.map(|[]| ()).map_err(refusal)
}

/// Maps the page `frame`.
fn map(index: usize, vm: &mut Vm, ipa: u64, frame: u64, mode: u64) -> Result<(), Refusal> {
    with_tables(index, vm, ipa, || hvc::map(index as u64, ipa, frame, mode))?;
    memory::note(&mut vm.pages, frame);
    PAGES_MAPPED.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
