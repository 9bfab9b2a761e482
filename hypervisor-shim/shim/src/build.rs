//! Building a VM: its tables, its images, its vCPUs (trust label: UNTRUSTED).

use crate::memory;
use crate::schedule;
use crate::teardown;
use crate::vm::{Activity, SLOTS, Slot, State, Vm};
use bulkhead_abi::{FRAME_SIZE, MAP_MEASURED, MAP_ZEROED, RAM_RANGES, VCPUS_MAX, status};
use bulkhead_el1::hvc::{self, CallError};
use bulkhead_link::message::{Refusal, Request};
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages mapped since boot.
pub static PAGES_MAPPED: AtomicU64 = AtomicU64::new(0);

/// What a VM is made of. Addresses are the VM's (IPA), page-aligned.
pub struct Plan<'p> {
    /// Content and address of each image: kernel, initial RAM disk, device tree.
    images: [(&'p [u8], u64); 3],
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
        let initrd = match request.optional_text("initrd")? {
            Some(name) => (find(name)?, request.u64("initrd_address")?),
            None => (&[][..], 0),
        };
        let device_tree = (request.bytes("dtb")?, request.u64("dtb_address")?);
        let images = [kernel, initrd, device_tree];
        if images.iter().any(|(content, address)| {
            address % FRAME_SIZE != 0 || address.checked_add(content.len() as u64 + FRAME_SIZE).is_none()
        }) {
            return Err(Refusal::request("an image's address is not page-aligned or wraps"));
        }
        let (ranges, _) = request.pairs("ram")?;
        let vcpus = request.index("cpus", VCPUS_MAX + 1)?;
        let (entry, time) = (request.u64("entry")?, request.u64("time").unwrap_or(0));
        Ok(Self { images, entry, context: device_tree.1, ranges, vcpus, time })
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

/// Gives the VM a zeroed page at `ipa`. That another vCPU's fault has brought it already is fine.
///
/// # Errors
/// No memory is left, or the engine refused.
pub fn map_zeroed(index: usize, vm: &mut Vm, ipa: u64) -> Result<(), Refusal> {
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

/// Maps `frame`, donating the tables that are missing.
fn map(index: usize, vm: &mut Vm, ipa: u64, frame: u64, mode: u64) -> Result<(), Refusal> {
    const TABLE_LEVELS: usize = 2;
    let id = index as u64;
    let mut answer = hvc::patiently(|| hvc::map(id, ipa, frame, mode));
    for _ in 0..TABLE_LEVELS {
        let Err(CallError { status: status::TABLE_MISSING, detail: level, .. }) = answer else { break };
        let table = donate(|table| hvc::table_donate(id, ipa, level, table))?;
        memory::note(if level == 2 { &mut vm.tables_2 } else { &mut vm.tables_3 }, table);
        answer = hvc::patiently(|| hvc::map(id, ipa, frame, mode));
    }
    answer.map_err(refusal)?;
    memory::note(&mut vm.pages, frame);
    PAGES_MAPPED.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
