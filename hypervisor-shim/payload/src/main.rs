//! The payload: carries out single calls and accesses that a test sends over the management channel, on any
//! CPU, and reports faults (trust label: UNTRUSTED).
//!
//! Operations: `ping`, `cpu_on {cpu}`, `call {cpu, regs}`, `calls {cpu, class, regs}`, `read {address, length}`, `write {address, data}`,
//! `survey {address, step, count}`, `execute {address}`, `begin {cpu, address}`, `finish {cpu}`,
//! `storm {seed, steps, ..}`, `history {cpus, program}`. It holds no policy and no state beyond one mailbox per
//! secondary CPU ([`mailbox`]).
#![no_std]
#![no_main]

mod access;
mod calls;
mod gifts;
mod history;
mod mailbox;
mod storm;
mod tally;

use bulkhead_abi::BootInfo;
use bulkhead_el1::channel::{self, Inbox};
use bulkhead_el1::{cpu, gic, uart};
use bulkhead_link::message::{Answer, Refusal, Request};

/// Most calls of one request.
const CALLS_MAX: usize = 16;

bulkhead_el1::entry!(main, mailbox::secondary);

fn main(boot: &'static BootInfo) -> ! {
    gic::init_distributor(boot);
    gic::init_cpu(boot);
    if let Ok(intid) = u32::try_from(boot.uart_intid) {
        gic::enable_shared(boot, intid, 0);
    }
    channel::event("ready", |_| {});
    let mut inbox = Inbox::new();
    loop {
        while inbox.poll(|request, bad_frames, reply| handle(boot, request, bad_frames, reply)) {}
        cpu::wait_for_interrupt();
        take_interrupts();
    }
}

/// Takes every pending interrupt: kicks need nothing, the UART is masked until the next poll.
fn take_interrupts() {
    gic::service(|intid| {
        if intid != gic::KICK {
            uart::listen(false);
        }
    });
}

fn handle(boot: &'static BootInfo, request: &Request, bad_frames: u64, reply: &mut Answer) -> Result<(), Refusal> {
    match request.operation {
        "ping" => {
            reply.text("payload", env!("CARGO_PKG_VERSION"));
            reply.u64("abi", boot.abi_version);
            reply.u64("cpus", boot.cpus);
            reply.u64("boot_info", core::ptr::from_ref(boot).addr() as u64);
            reply.u64("bad_frames", bad_frames);
            Ok(())
        }
        "cpu_on" => mailbox::start(boot, request.index("cpu", boot.cpus as usize)?),
        "call" => {
            let cpu = request.index("cpu", boot.cpus as usize)?;
            let (mut registers, length) = request.integers::<18>("regs")?;
            if length != registers.len() {
                return Err(Refusal::request("a call takes 18 registers"));
            }
            mailbox::call(boot, cpu, &mut registers)?;
            reply.integers("regs", &registers);
            Ok(())
        }
        "calls" => {
            let (mut registers, length) = request.integers::<{ 18 * CALLS_MAX }>("regs")?;
            if length == 0 || length % 18 != 0 {
                return Err(Refusal::request("each call takes 18 registers"));
            }
            let cpu = request.index("cpu", boot.cpus as usize)?;
            let done = mailbox::calls(boot, cpu, &mut registers[..length], request.u64("class")?)?;
            reply.integers("regs", &registers[..done]);
            Ok(())
        }
        "read" => access::read(request, reply),
        "write" => access::write(request),
        "survey" => access::survey(request, reply),
        "execute" => access::execute(request),
        "begin" => mailbox::begin(boot, request.index("cpu", boot.cpus as usize)?, request.u64("address")?),
        "finish" => mailbox::finish(request.index("cpu", boot.cpus as usize)?),
        "storm" => {
            storm::prepare(request, boot.cpus as usize)?;
            mailbox::storm(boot)?;
            tally::report(reply);
            Ok(())
        }
        "history" => {
            let cpus = history::prepare(request, boot.cpus as usize)?;
            mailbox::history(boot, cpus)?;
            history::tell(request, reply)
        }
        _ => Err(Refusal::request("unknown operation")),
    }
}
