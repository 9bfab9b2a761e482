//! Calls and programs on any CPU: one mailbox per secondary (trust label: UNTRUSTED).
//!
//! States: OFF → (cpu_on) STARTING → IDLE ⇄ CALL, PROGRAM, STORM or HISTORY (the boot CPU filled it in) → IDLE. The
//! registers belong to the boot CPU in IDLE and to the secondary otherwise; the state word hands them over. A watchdog on
//! the CPU's timer ends a `vcpu_run` of a VM that never exits. A program is awaited only when its end is asked for.

use crate::{history, storm};
use bulkhead_abi::{BootInfo, CPUS_MAX, NO_DEADLINE};
use bulkhead_el1::{boot, cpu, gic, hvc, probe};
use bulkhead_link::message::Refusal;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const OFF: u8 = 0;
const STARTING: u8 = 1;
const IDLE: u8 = 2;
const CALL: u8 = 3;
const PROGRAM: u8 = 4;
const STORM: u8 = 5;
const HISTORY: u8 = 6;

/// Longest time a VM may run in one call, microseconds.
const WATCHDOG: u64 = 200_000;
/// Longest time that the boot CPU waits for a secondary, microseconds.
const PATIENCE: u64 = 5_000_000;

struct Mailbox {
    state: AtomicU8,
    registers: [AtomicU64; 18],
}

impl Mailbox {
    fn take(&self) -> [u64; 18] {
        let mut registers = [0; 18];
        for (register, shared) in registers.iter_mut().zip(&self.registers) {
            *register = shared.load(Ordering::Relaxed);
        }
        registers
    }

    fn put(&self, registers: &[u64; 18], state: u8) {
        for (register, shared) in registers.iter().zip(&self.registers) {
            shared.store(*register, Ordering::Relaxed);
        }
        self.state.store(state, Ordering::Release);
    }

    /// Hands `registers` to a secondary that is idle.
    fn request(&self, registers: &[u64; 18], state: u8) -> Result<(), Refusal> {
        if self.state.load(Ordering::Acquire) != IDLE {
            return Err(Refusal::state("the CPU is off or still busy"));
        }
        self.put(registers, state);
        Ok(())
    }
}

static MAILBOXES: [Mailbox; CPUS_MAX] =
    [const { Mailbox { state: AtomicU8::new(OFF), registers: [const { AtomicU64::new(0) }; 18] } }; CPUS_MAX];

/// What a secondary does for ever.
pub fn secondary(index: usize) -> ! {
    let mailbox = &MAILBOXES[index];
    if let Some(boot) = boot::info() {
        gic::init_cpu(boot);
        if storm::was_interrupted(index) {
            storm::run(boot, index);
        }
        mailbox.state.store(IDLE, Ordering::Release);
        gic::kick(boot, 0);
        loop {
            serve(boot, index, mailbox);
            cpu::wait_for_interrupt();
            gic::service(|_| {});
        }
    }
    unreachable!("a secondary starts after the boot CPU")
}

fn serve(boot: &BootInfo, index: usize, mailbox: &Mailbox) {
    match mailbox.state.load(Ordering::Acquire) {
        CALL => {
            let mut registers = mailbox.take();
            guarded_call(&mut registers);
            mailbox.put(&registers, IDLE);
        }
        PROGRAM => {
            let [address, ..] = mailbox.take();
            // SAFETY: the tester chose the address; code there that does not return ends the test, nothing more.
            let syndrome = unsafe { probe::execute(address) }.err().unwrap_or(0);
            let mut registers = [0; 18];
            registers[0] = syndrome;
            mailbox.put(&registers, IDLE);
        }
        STORM => {
            storm::run(boot, index);
            mailbox.state.store(IDLE, Ordering::Release);
        }
        HISTORY => {
            history::play(index);
            mailbox.state.store(IDLE, Ordering::Release);
        }
        _ => return,
    }
    gic::kick(boot, 0);
}

/// The call itself, under the watchdog.
fn guarded_call(registers: &mut [u64; 18]) {
    cpu::set_timer(cpu::now().saturating_add(cpu::ticks(WATCHDOG)));
    hvc::raw(registers);
    cpu::set_timer(NO_DEADLINE);
}

/// Sleeps until the mailbox is IDLE, for a bounded time.
fn wait_idle(mailbox: &Mailbox) -> Result<(), Refusal> {
    let deadline = cpu::now().saturating_add(cpu::ticks(PATIENCE));
    while mailbox.state.load(Ordering::Acquire) != IDLE {
        if cpu::now() >= deadline {
            return Err(Refusal::state("the CPU did not answer in time"));
        }
        cpu::set_timer(deadline);
        cpu::wait_for_interrupt();
        crate::take_interrupts();
    }
    cpu::set_timer(NO_DEADLINE);
    Ok(())
}

/// Starts secondary `index`, if it is off, and waits for it.
pub fn start(boot: &BootInfo, index: usize) -> Result<(), Refusal> {
    let mailbox = &MAILBOXES[index];
    // A CPU that a program has turned off has left its mailbox as it was.
    let gone = || mailbox.state.load(Ordering::Acquire) == OFF || cpu::is_off(boot, index);
    if index == cpu::index() || !gone() {
        return Err(Refusal::state("the CPU is on"));
    }
    mailbox.state.store(STARTING, Ordering::Release);
    if let Err(status) = cpu::start(boot, index) {
        mailbox.state.store(OFF, Ordering::Release);
        return Err(Refusal::call("PSCI CPU_ON", status, 0));
    }
    wait_idle(mailbox)
}

/// Executes HVC #0 with `registers` on CPU `index`.
pub fn call(boot: &BootInfo, index: usize, registers: &mut [u64; 18]) -> Result<(), Refusal> {
    if index == cpu::index() {
        guarded_call(registers);
        return Ok(());
    }
    let mailbox = &MAILBOXES[index];
    mailbox.request(registers, CALL)?;
    gic::kick(boot, index);
    wait_idle(mailbox)?;
    *registers = mailbox.take();
    Ok(())
}

/// Calls one after the other, 18 registers each, as long as they answer SUCCESS and `class`: the exits of a VM that asks
/// for something. How many registers have answers.
pub fn calls(boot: &BootInfo, index: usize, registers: &mut [u64], class: u64) -> Result<usize, Refusal> {
    let mut done = 0;
    for one in registers.chunks_exact_mut(18) {
        let mut answer = [0; 18];
        answer.copy_from_slice(one);
        call(boot, index, &mut answer)?;
        one.copy_from_slice(&answer);
        done += one.len();
        if answer[..2] != [0, class] {
            break;
        }
    }
    Ok(done)
}

/// Lets CPU `index`, a secondary, call the program at `address`; its end is not awaited.
pub fn begin(boot: &BootInfo, index: usize, address: u64) -> Result<(), Refusal> {
    let mut registers = [0; 18];
    registers[0] = address;
    MAILBOXES[index].request(&registers, PROGRAM)?;
    gic::kick(boot, index);
    Ok(())
}

/// Waits for the end of the program on CPU `index`; a fault that ended it is the refusal.
pub fn finish(index: usize) -> Result<(), Refusal> {
    let mailbox = &MAILBOXES[index];
    wait_idle(mailbox)?;
    match mailbox.take()[0] {
        0 => Ok(()),
        syndrome => Err(Refusal::fault(syndrome)),
    }
}

/// Sends all CPUs that are on into a storm, this one included, and waits until it is over.
pub fn storm(boot: &BootInfo) -> Result<(), Refusal> {
    let cpus = boot.cpus as usize;
    for (index, mailbox) in MAILBOXES.iter().enumerate().take(cpus).skip(1) {
        mailbox.request(&[0; 18], STORM)?;
        gic::kick(boot, index);
    }
    storm::run(boot, 0);
    while !storm::is_over(cpus) {
        (1..cpus).for_each(|index| storm::wake(boot, index));
        cpu::relax();
    }
    MAILBOXES.iter().take(cpus).skip(1).try_for_each(wait_idle)
}

/// Plays the program that `history` holds on the first `cpus` CPUs, this one among them.
pub fn history(boot: &BootInfo, cpus: usize) -> Result<(), Refusal> {
    history::overture();
    let others = || MAILBOXES.iter().enumerate().take(cpus).skip(1);
    for (index, mailbox) in others() {
        mailbox.request(&[0; 18], HISTORY)?;
        gic::kick(boot, index);
    }
    history::play(0);
    others().try_for_each(|(_, mailbox)| wait_idle(mailbox))
}
