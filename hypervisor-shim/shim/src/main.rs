//! The hypervisor: it places and schedules VMs, serves their devices, and obeys the management channel (trust
//! label: UNTRUSTED, isolated by design: nothing here can reach a VM's memory or registers).
//!
//! Every CPU runs [`cpu_loop`]: take interrupts, give up a vCPU whose VM is over, run one vCPU or sleep; the boot
//! CPU also answers requests. Lock order: a VM ([`vm::Slot::vm`]) → the frames ([`memory`]) → the channel.
#![no_std]
#![no_main]

mod build;
mod console;
mod devices;
mod exits;
mod log;
mod manage;
mod memory;
mod schedule;
mod shared;
mod teardown;
mod vm;

use bulkhead_abi::BootInfo;
use bulkhead_el1::channel::{self, Inbox};
use bulkhead_el1::{boot, cpu, gic};

bulkhead_el1::entry!(main, secondary);

fn main(boot: &'static BootInfo) -> ! {
    gic::init_distributor(boot);
    gic::init_cpu(boot);
    if let Ok(intid) = u32::try_from(boot.uart_intid) {
        gic::enable_shared(boot, intid, 0);
    }
    memory::init(boot);
    for index in 1..boot.cpus as usize {
        if let Err(status) = schedule::start_cpu(boot, index) {
            log!("CPU {index} does not start: PSCI {status:#x}; {index} CPUs have to do");
            break;
        }
    }
    channel::event("ready", |_| {});
    let mut inbox = Inbox::new();
    cpu_loop(|| {
        while inbox.poll(|request, bad_frames, reply| manage::handle(boot, request, bad_frames, reply)) {}
        manage::power_off_if_asked();
    })
}

fn secondary(_index: usize) -> ! {
    match boot::info() {
        Some(boot) => {
            gic::init_cpu(boot);
            cpu_loop(|| {})
        }
        None => unreachable!("a secondary starts after the boot CPU"),
    }
}

fn cpu_loop(mut chores: impl FnMut()) -> ! {
    let mut scheduler = schedule::Scheduler::new();
    loop {
        // First the interrupts, then what they are about: one that comes later is pending and ends the wait below.
        schedule::take_interrupts();
        chores();
        scheduler.give_up();
        if !schedule::is_online(cpu::index()) {
            turn_off();
        }
        if let Some(deadline) = scheduler.run_next() {
            cpu::set_timer(deadline);
            cpu::wait_for_interrupt();
        }
    }
}

/// Turns this CPU off; its vCPU has been given up.
fn turn_off() {
    let status = cpu::off();
    log!("CPU {} does not go off: PSCI {status:#x}", cpu::index());
    schedule::add_cpu(cpu::index());
}
