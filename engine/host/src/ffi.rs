//! The C interface that Python uses through cffi. Trust label: TOOL.
//!
//! Rules for every function: a machine is used by one thread at a time, pointers come from this interface and live
//! until `bulkhead_machine_destroy`. Nothing unwinds into the caller: a panic is caught, its message kept in the
//! machine, and the machine answers no further call.
#![allow(unsafe_code, reason = "the boundary to C")]

use core::ffi::c_char;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use bulkhead_abi::CALLS;
use bulkhead_core::addr::{Block, Frame, VmId};
use bulkhead_core::call::dispatch::Registers;
use bulkhead_core::vcpu::exit::Decision;
use bulkhead_core::vcpu::processor::Syndrome;

use crate::layout::{Layout, RamRange};
use crate::machine::Machine;
use crate::memory::Written;
use crate::trace::{Event, NAMES};
use crate::vcpu::CpuRegisters;

/// A machine, and the message of the panic that ended it.
pub struct Handle {
    machine: Machine,
    panic: Option<CString>,
}

fn text(message: &str) -> CString {
    CString::new(message.replace('\0', " ")).expect("no zero byte is left")
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> CString {
    let known = payload.downcast_ref::<String>().map(String::as_str);
    text(known.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic without a message"))
}

/// Makes a machine with `count` RAM ranges, `cpus` CPUs and the `features` (as the call answers them). If that is impossible the answer is null, and `reason`
/// (`capacity` bytes) gets a zero-terminated sentence that says why.
///
/// # Safety
/// `ranges` points to `count` ranges, `reason` to `capacity` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_create(
    ranges: *const RamRange,
    count: usize,
    cpus: u64,
    features: u64,
    reason: *mut c_char,
    capacity: usize,
) -> *mut Handle {
    // SAFETY: the caller's first condition.
    let ranges = unsafe { slice::from_raw_parts(ranges, count) };
    let made = catch_unwind(|| Machine::new(ranges, cpus, features));
    let why = match made {
        Ok(Ok(machine)) => return Box::into_raw(Box::new(Handle { machine, panic: None })),
        Ok(Err(why)) => text(&why),
        Err(payload) => panic_message(payload.as_ref()),
    };
    let length = why.as_bytes().len().min(capacity.saturating_sub(1));
    if capacity > 0 {
        // SAFETY: the caller's second condition; `length` is below `capacity` and within the message.
        unsafe {
            ptr::copy_nonoverlapping(why.as_ptr(), reason, length);
            reason.add(length).write(0);
        }
    }
    ptr::null_mut()
}

/// Ends a machine.
///
/// # Safety
/// `handle` comes from `bulkhead_machine_create` and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_destroy(handle: *mut Handle) {
    // SAFETY: the caller's condition; the box was made by `bulkhead_machine_create`.
    drop(unsafe { Box::from_raw(handle) });
}

/// What happens after an exception of a VM.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Next {
    /// 0: the VM goes on; 1: exit to the host; 2: exit to the host and the vCPU is off.
    pub kind: u64,
    /// Exit class.
    pub class_: u64,
    /// x2 to x4 of the exit.
    pub data: [u64; 3],
}

impl From<Decision> for Next {
    fn from(decision: Decision) -> Self {
        let (kind, exit) = match decision {
            Decision::Resume => return Self { kind: 0, class_: 0, data: [0; 3] },
            Decision::Exit(exit) => (1, exit),
            Decision::Off(exit) => (2, exit),
        };
        Self { kind, class_: exit.class, data: exit.data }
    }
}

impl Handle {
    /// Runs `step` unless the machine has ended; false if it has, or ends now.
    fn guarded(&mut self, step: impl FnOnce(&Machine)) -> bool {
        if self.panic.is_none() {
            let machine = &self.machine;
            let done = catch_unwind(AssertUnwindSafe(|| step(machine)));
            self.panic = done.err().map(|payload| panic_message(payload.as_ref()));
        }
        self.panic.is_none()
    }
}

/// A call of the host on CPU `cpu`: `registers` are x0 to x17, changed into those of the answer. False if the engine
/// panicked; `bulkhead_machine_panic` says how.
///
/// # Safety
/// `handle` is alive, `registers` points to 18 words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_call(handle: *mut Handle, cpu: u64, registers: *mut u64) -> bool {
    // SAFETY: the caller's conditions.
    let (handle, registers) = unsafe { (&mut *handle, &mut *registers.cast::<Registers>()) };
    handle.guarded(|machine| machine.host_call(cpu, registers))
}

/// A call of vCPU 0 of VM `vm` on CPU `cpu`, which has not to be loaded there; otherwise as `bulkhead_machine_call`.
///
/// # Safety
/// `handle` is alive, `registers` points to 18 words, `next` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_vm_call(
    handle: *mut Handle,
    cpu: u64,
    vm: u64,
    registers: *mut u64,
    next: *mut Next,
) -> bool {
    // SAFETY: the caller's conditions.
    let (handle, registers, next) = unsafe { (&mut *handle, &mut *registers.cast::<Registers>(), &mut *next) };
    handle.guarded(|machine| *next = machine.vm_call(cpu, VmId(vm), registers).into())
}

/// A synchronous exception on CPU `cpu` from the vCPU whose context is frame index `frame`; `syndrome` is
/// `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2`. False as for `bulkhead_machine_call`.
///
/// # Safety
/// `handle` is alive, `syndrome` points to three words, `next` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_exception(
    handle: *mut Handle,
    cpu: u64,
    frame: u64,
    syndrome: *const u64,
    next: *mut Next,
) -> bool {
    // SAFETY: the caller's conditions.
    let (handle, next, [esr, far, hpfar]) = unsafe { (&mut *handle, &mut *next, *syndrome.cast::<[u64; 3]>()) };
    let syndrome = Syndrome { esr, far, hpfar };
    handle.guarded(|machine| *next = machine.exception(cpu, Frame(frame), syndrome).into())
}

/// The physical interrupt `intid` on CPU `cpu` while the vCPU whose context is frame index `frame` ran. False as for
/// `bulkhead_machine_call`.
///
/// # Safety
/// `handle` is alive, `next` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_interrupt(
    handle: *mut Handle,
    cpu: u64,
    frame: u64,
    intid: u64,
    next: *mut Next,
) -> bool {
    // SAFETY: the caller's conditions.
    let (handle, next) = unsafe { (&mut *handle, &mut *next) };
    handle.guarded(|machine| *next = machine.interrupt(cpu, Frame(frame), intid).into())
}

/// An SError interrupt on CPU `cpu` while the vCPU whose context is frame index `frame` ran. False as for
/// `bulkhead_machine_call`.
///
/// # Safety
/// `handle` is alive, `next` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_system_error(
    handle: *mut Handle,
    cpu: u64,
    frame: u64,
    next: *mut Next,
) -> bool {
    // SAFETY: the caller's conditions.
    let (handle, next) = unsafe { (&mut *handle, &mut *next) };
    handle.guarded(|machine| *next = machine.system_error(cpu, Frame(frame)).into())
}

/// The host's access, on CPU `cpu`, to block index `block` that nobody has touched since boot. False as for
/// `bulkhead_machine_call`.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_first_touch(handle: *mut Handle, cpu: u64, block: u64) -> bool {
    // SAFETY: the caller's condition.
    unsafe { &mut *handle }.guarded(|machine| machine.first_touch(cpu, Block(block)))
}

/// The registers of CPU `cpu`, below the number of CPUs, to be read and changed between steps.
///
/// # Safety
/// `handle` is alive; the registers live as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_cpu(handle: *const Handle, cpu: u64) -> *mut CpuRegisters {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.cpus[cpu as usize].as_ptr()
}

/// The 64 ID registers op0=3, op1=0, CRn=0 of all CPUs, by 8 * CRm + op2, as `bulkhead_machine_cpu`.
///
/// # Safety
/// `handle` is alive; the registers live as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_identification(handle: *const Handle) -> *mut u64 {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.identification.as_ptr().cast()
}

/// What the system counter shows next.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_counter(handle: *const Handle) -> u64 {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.counter.get()
}

/// How often the random source has given something.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_randoms(handle: *const Handle) -> u64 {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.randoms.get()
}

/// Whether the random source, if there is one, has something to give from now on.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_set_entropy(handle: *const Handle, entropy: bool) {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.entropy.set(entropy);
}

/// Lets another CPU store `value` at a physical address of RAM just before the next exchange of a frame record.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_meanwhile(handle: *const Handle, address: u64, value: u64) {
    // SAFETY: the caller's condition.
    unsafe { &*handle }.machine.meanwhile(address, value);
}

/// The message of the panic that ended the machine, null if it is well.
///
/// # Safety
/// `handle` is alive; the text lives as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_panic(handle: *const Handle) -> *const c_char {
    // SAFETY: the caller's condition.
    unsafe { (*handle).panic.as_ref() }.map_or(ptr::null(), |message| message.as_ptr())
}

/// Where the machine keeps what.
///
/// # Safety
/// `handle` is alive, `layout` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_layout(handle: *const Handle, layout: *mut Layout) {
    // SAFETY: the caller's conditions.
    unsafe { layout.write(*(*handle).machine.layout()) };
}

/// Address, on this machine, of the byte at physical address `layout.ram_base`; `layout.frames * 4096` bytes follow.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_memory(handle: *const Handle) -> *mut u8 {
    // SAFETY: the caller's condition.
    unsafe { (*handle).machine.memory.as_ptr() }
}

/// Whether all of `[address, address + length)` is RAM of the machine.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_is_ram(handle: *const Handle, address: u64, length: u64) -> bool {
    // SAFETY: the caller's condition.
    unsafe { (*handle).machine.is_ram(address, length) }
}

/// Takes (or gives back) the ownership lock from outside, as another CPU in the middle of a call would.
///
/// # Safety
/// `handle` is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_hold_lock(handle: *const Handle, held: bool) {
    // SAFETY: the caller's condition.
    unsafe { (*handle).machine.locked.set(held) };
}

/// The effects since the last call of this function that cleared them: copies up to `capacity` events, returns how
/// many there are. With `capacity` at least that number the list is cleared.
///
/// # Safety
/// `handle` is alive, `events` points to `capacity` writable events (and may be null if that is 0).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_take_events(
    handle: *const Handle,
    events: *mut Event,
    capacity: usize,
) -> usize {
    // SAFETY: the caller's first condition.
    let mut list = unsafe { &*handle }.machine.events.borrow_mut();
    // SAFETY: the caller's second condition.
    unsafe { take(&mut list, events, capacity) }
}

/// The words that the engine has written since the last call of this function that cleared them: copies up to
/// `capacity` ranges, returns how many there are. With `capacity` at least that number the list is cleared.
///
/// # Safety
/// `handle` is alive, `written` points to `capacity` writable ranges.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_machine_take_written(
    handle: *const Handle,
    written: *mut Written,
    capacity: usize,
) -> usize {
    // SAFETY: the caller's first condition.
    let mut list = unsafe { &*handle }.machine.memory.written.borrow_mut();
    // SAFETY: the caller's second condition.
    unsafe { take(&mut list, written, capacity) }
}

/// Copies up to `capacity` entries to `out`, clears the list if that is all of them, returns how many there were.
///
/// # Safety
/// `out` points to `capacity` writable entries (and may be null if that is 0).
unsafe fn take<T: Copy>(list: &mut Vec<T>, out: *mut T, capacity: usize) -> usize {
    let count = list.len();
    if capacity > 0 {
        // SAFETY: the caller's condition; no more than `count` are read and `capacity` written.
        unsafe { ptr::copy_nonoverlapping(list.as_ptr(), out, count.min(capacity)) };
    }
    if capacity >= count {
        list.clear();
    }
    count
}

/// Name of an event kind, null if there is none with this number.
#[unsafe(no_mangle)]
pub extern "C" fn bulkhead_event_name(kind: u64) -> *const c_char {
    usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind)).map_or(ptr::null(), |name| name.as_ptr())
}

/// One line of the call table that this library was built with.
#[repr(C)]
pub struct CallLine {
    /// Name, not zero-terminated.
    pub name: *const u8,
    /// Length of the name.
    pub name_length: usize,
    /// Function id.
    pub id: u64,
    /// Number of argument registers.
    pub args: usize,
    /// Number of result registers.
    pub results: usize,
    /// Called by the host, else by a VM.
    pub by_host: bool,
    /// Answers `NOT_SUPPORTED`.
    pub reserved: bool,
    /// Runs under the ownership lock.
    pub changes_ownership: bool,
}

/// Line `index` of the call table; false if there is none.
///
/// # Safety
/// `line` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bulkhead_call_line(index: usize, line: *mut CallLine) -> bool {
    let Some(call) = CALLS.get(index) else { return false };
    let copy = CallLine {
        name: call.name.as_ptr(),
        name_length: call.name.len(),
        id: call.id,
        args: call.args,
        results: call.results,
        by_host: call.by_host,
        reserved: call.reserved,
        changes_ownership: call.changes_ownership,
    };
    // SAFETY: the caller's condition.
    unsafe { line.write(copy) };
    true
}

#[cfg(test)]
#[path = "ffi_tests.rs"]
mod tests;
