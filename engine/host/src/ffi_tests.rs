//! The C interface as a C caller uses it.
#![allow(unsafe_code, reason = "calls across the boundary to C")]

use core::ffi::CStr;
use std::ptr;

use bulkhead_abi::{CALLS, id, status};

use super::*;

const RAM: RamRange = RamRange { base: 0x4000_0000, size: 32 << 20 };

/// A machine that ends with the test.
struct Owned(*mut Handle);

impl Owned {
    fn new() -> Self {
        // SAFETY: one range; no room for a reason.
        Self(unsafe { bulkhead_machine_create(&RAM, 1, 1, 0, ptr::null_mut(), 0) })
    }

    fn call(&self, function: u64, arguments: &[u64]) -> Option<[u64; 18]> {
        let mut registers = [0; 18];
        registers[0] = function;
        registers[1..=arguments.len()].copy_from_slice(arguments);
        // SAFETY: the machine is alive, and there are 18 words.
        unsafe { bulkhead_machine_call(self.0, 0, registers.as_mut_ptr()) }.then_some(registers)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by `new`, not used afterwards.
        unsafe { bulkhead_machine_destroy(self.0) };
    }
}

#[test]
fn a_call_and_its_events() {
    let machine = Owned::new();
    assert_eq!(machine.call(id::VERSION, &[]).map(|regs| regs[0]), Some(status::SUCCESS));
    assert_eq!(machine.call(id::VM_KILL, &[64]).map(|regs| regs[1]), Some(1));
    // SAFETY: the machine is alive; first no, then enough room.
    unsafe {
        assert_eq!(bulkhead_machine_take_events(machine.0, ptr::null_mut(), 0), 2);
        let mut events = [Event { kind: 0, operands: [0; 6] }; 2];
        assert_eq!(bulkhead_machine_take_events(machine.0, events.as_mut_ptr(), 2), 2);
        assert_eq!(CStr::from_ptr(bulkhead_event_name(events[0].kind)), c"Lock");
        assert_eq!(CStr::from_ptr(bulkhead_event_name(events[1].kind)), c"Unlock");
        assert_eq!(bulkhead_machine_take_events(machine.0, ptr::null_mut(), 0), 0);
    }
    assert!(bulkhead_event_name(1000).is_null());
}

#[test]
fn a_panic_ends_the_machine_and_not_the_caller() {
    let machine = Owned::new();
    let mut registers = [id::VERSION; 18];
    // SAFETY: the machine is alive, and there are 18 words. There is no CPU 7.
    unsafe {
        assert!(bulkhead_machine_panic(machine.0).is_null());
        assert!(!bulkhead_machine_call(machine.0, 7, registers.as_mut_ptr()));
        let message = CStr::from_ptr(bulkhead_machine_panic(machine.0));
        assert!(message.to_str().is_ok_and(|text| text.contains("no CPU 7")));
    }
    assert_eq!(machine.call(id::VERSION, &[]), None);
}

#[test]
fn a_machine_that_cannot_be_says_why() {
    let mut reason = [1; 16];
    // SAFETY: no ranges are read; the reason has 16 bytes.
    let made = unsafe { bulkhead_machine_create(&RAM, 0, 1, 0, reason.as_mut_ptr(), reason.len()) };
    assert!(made.is_null());
    // SAFETY: zero-terminated by the function.
    assert_eq!(unsafe { CStr::from_ptr(reason.as_ptr()) }, c"a machine needs");
}

#[test]
fn the_table_has_every_call() {
    let mut count = 0;
    let mut line = std::mem::MaybeUninit::<CallLine>::uninit();
    // SAFETY: the line is writable.
    while unsafe { bulkhead_call_line(count, line.as_mut_ptr()) } {
        // SAFETY: just written.
        assert_eq!(unsafe { line.assume_init_ref() }.id, CALLS[count].id);
        count += 1;
    }
    assert_eq!(count, CALLS.len());
}
