//! Calls of a storm: counted, and repeated where a VM would not come to life without (trust label: UNTRUSTED).

use crate::tally;
use bulkhead_abi::{NO_DEADLINE, status};
use bulkhead_el1::{cpu, gic, hvc};

/// How often a call that has to succeed for a VM to come to life is made while it is BUSY.
const TRIES: u32 = 50;
/// Sleep between two tries, microseconds: the emulated CPU that has the lock may want a CPU of the computer.
const PAUSE: u64 = 50;

/// x0 to x17 of a call.
pub fn call(function: u64, arguments: &[u64]) -> [u64; 18] {
    let mut registers = [0; 18];
    registers[0] = function;
    registers[1..=arguments.len()].copy_from_slice(arguments);
    hvc::raw(&mut registers);
    tally::call(function, registers[0]);
    registers
}

/// A call, once; whether it succeeded.
pub fn attempt(function: u64, arguments: &[u64]) -> bool {
    call(function, arguments)[0] == status::SUCCESS
}

/// A call, again while it is BUSY; whether it succeeded.
pub fn insist(function: u64, arguments: &[u64]) -> bool {
    for _ in 0..TRIES {
        match call(function, arguments)[0] {
            status::BUSY => pause(),
            answer => return answer == status::SUCCESS,
        }
    }
    false
}

fn pause() {
    cpu::set_timer(cpu::now().saturating_add(cpu::ticks(PAUSE)));
    cpu::wait_for_interrupt();
    cpu::set_timer(NO_DEADLINE);
    gic::service(|_| {});
}
