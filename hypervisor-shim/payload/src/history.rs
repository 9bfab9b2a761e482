//! Histories: a few CPUs make the calls and accesses of a small program at once, and it is noted what each answered and
//! when (trust label: UNTRUSTED).
//!
//! The boot CPU takes the steps of round 0 alone. Then the CPUs meet before each further round and take their steps
//! of it in order, each after a delay. They meet again, up to a bound, if one was late: in an emulator a CPU is a thread
//! that waits for a processor like any other, and steps of one that sleeps overlap nobody's. Before and after every step a CPU draws the next number of one sequence that all
//! share: a step that ended before another one began has the lower numbers.
//!
//! A program is a string of little-endian words, for each step: CPU, round, kind, number of registers (a byte each, low
//! first) and delay (32 bits), then x0 and so on. Its history has for each step, in that order: first number of the
//! sequence (20 bits), second (20 bits), mask of the registers that changed (18 bits), then those registers.

use bulkhead_abi::{CPUS_MAX, NO_DEADLINE, exit, id};
use bulkhead_el1::{cpu, gic, hvc, probe};
use bulkhead_link::message::{Answer, Refusal, Request};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most steps of a program.
const STEPS_MAX: usize = 160;
const REGISTERS: usize = 18;
/// Most bytes of a history.
const HISTORY_MAX: usize = 8000;
/// Longest time at a barrier, and of a vCPU's turn, microseconds.
const PATIENCE: u64 = 2_000_000;
const TURN: u64 = 100_000;

/// A meeting at which nobody was late, and how long from its begin a program tries to have such ones, microseconds.
const PROMPT: u64 = 20;
const TRYING: u64 = 60_000;

/// Kinds of steps. A call is HVC #0 with x0 to x17.
const CALL: u64 = 0;
/// x1 becomes what is loaded from address x0, which becomes 0, or the syndrome of the fault.
const LOAD: u64 = 1;
/// x1 is stored at address x0, which becomes 0, or the syndrome of the fault.
const STORE: u64 = 2;

struct Step {
    plan: AtomicU64,
    registers: [AtomicU64; REGISTERS],
    began: AtomicU64,
    ended: AtomicU64,
}

static STEPS: [Step; STEPS_MAX] = [const {
    Step {
        plan: AtomicU64::new(0),
        registers: [const { AtomicU64::new(0) }; REGISTERS],
        began: AtomicU64::new(0),
        ended: AtomicU64::new(0),
    }
}; STEPS_MAX];
static LENGTH: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static CPUS: AtomicU64 = AtomicU64::new(0);
static SEQUENCE: AtomicU64 = AtomicU64::new(0);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static ABSENT: AtomicBool = AtomicBool::new(false);
static GO: AtomicBool = AtomicBool::new(false);

/// What an unused register holds, so that a change shows.
const fn filler(register: usize) -> u64 {
    0xa5a5_0000_0000_5a5a | (register as u64) << 24
}

const fn byte(plan: u64, number: u32) -> u64 {
    plan >> (8 * number) & 0xff
}

/// Notes the `program` and the number of CPUs, all of which take part in its rounds from 1 on.
pub fn prepare(request: &Request, cpus: usize) -> Result<usize, Refusal> {
    let taking_part = request.index("cpus", cpus + 1)?;
    let mut words = request.bytes("program")?.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let (mut length, mut rounds) = (0, 0);
    while let Some(plan) = words.next() {
        let step = STEPS.get(length).ok_or(Refusal::request("a program has too many steps"))?;
        let count = byte(plan, 3) as usize;
        if byte(plan, 0) as usize >= CPUS_MAX || count > REGISTERS {
            return Err(Refusal::request("no such CPU, or too many registers"));
        }
        step.plan.store(plan, Ordering::Relaxed);
        for (register, place) in step.registers.iter().enumerate() {
            let value = if register < count { words.next().unwrap_or(0) } else { filler(register) };
            place.store(value, Ordering::Relaxed);
        }
        rounds = byte(plan, 1).max(rounds);
        length += 1;
    }
    LENGTH.store(length as u64, Ordering::Relaxed);
    ROUNDS.store(rounds, Ordering::Relaxed);
    CPUS.store(taking_part as u64, Ordering::Relaxed);
    [&SEQUENCE, &ARRIVED].map(|number| number.store(0, Ordering::Relaxed));
    ABSENT.store(false, Ordering::Relaxed);
    Ok(taking_part)
}

/// The boot CPU's steps of round 0.
pub fn overture() {
    play_round(0, 0);
}

/// This CPU's steps of all other rounds.
pub fn play(index: usize) {
    let mut meetings = Meetings { held: 0, index, trying: cpu::now().saturating_add(cpu::ticks(TRYING)) };
    for round in 1..=ROUNDS.load(Ordering::Relaxed) {
        if !meetings.gather() {
            return;
        }
        play_round(index, round);
    }
}

/// Where the CPUs of a program meet; each has one.
struct Meetings {
    held: u64,
    index: usize,
    /// Until when they try to be prompt.
    trying: u64,
}

impl Meetings {
    /// Meets until all come promptly, or long enough; false if a CPU did not come at all.
    fn gather(&mut self) -> bool {
        loop {
            let start = cpu::now();
            if !(self.meet() && self.meet()) {
                return false;
            }
            if self.index == 0 {
                let now = cpu::now();
                GO.store(now - start < cpu::ticks(PROMPT) || now > self.trying, Ordering::Relaxed);
            }
            if !self.meet() {
                return false;
            }
            if GO.load(Ordering::Relaxed) {
                return true;
            }
        }
    }

    /// Waits until all CPUs are here, for a bounded time.
    fn meet(&mut self) -> bool {
        self.held += 1;
        let all = CPUS.load(Ordering::Relaxed) * self.held;
        ARRIVED.fetch_add(1, Ordering::AcqRel);
        let deadline = cpu::now().saturating_add(cpu::ticks(PATIENCE));
        let mut turns = 0_u32;
        while ARRIVED.load(Ordering::Acquire) < all {
            turns = turns.wrapping_add(1);
            if turns % 4096 == 0 && cpu::now() > deadline {
                ABSENT.store(true, Ordering::Relaxed);
            }
            if ABSENT.load(Ordering::Relaxed) {
                return false;
            }
        }
        true
    }
}

fn play_round(index: usize, round: u64) {
    let length = LENGTH.load(Ordering::Relaxed) as usize;
    for step in STEPS.iter().take(length) {
        let plan = step.plan.load(Ordering::Relaxed);
        if byte(plan, 0) != index as u64 || byte(plan, 1) != round {
            continue;
        }
        let mut registers = [0; REGISTERS];
        for (register, place) in registers.iter_mut().zip(&step.registers) {
            *register = place.load(Ordering::Relaxed);
        }
        (0..plan >> 32).for_each(|_| cpu::relax());
        take_step(index, step, byte(plan, 2), &mut registers);
        for (register, place) in registers.iter().zip(&step.registers) {
            place.store(*register, Ordering::Relaxed);
        }
    }
}

fn take_step(index: usize, step: &Step, kind: u64, registers: &mut [u64; REGISTERS]) {
    let runs = kind == CALL && registers[0] == id::VCPU_RUN;
    if runs {
        cpu::set_timer(cpu::now().saturating_add(cpu::ticks(TURN)));
    }
    step.began.store(SEQUENCE.fetch_add(1, Ordering::AcqRel), Ordering::Relaxed);
    match kind {
        LOAD | STORE => access(kind, registers),
        _ => hvc::raw(registers),
    }
    step.ended.store(SEQUENCE.fetch_add(1, Ordering::AcqRel), Ordering::Relaxed);
    if runs {
        cpu::set_timer(NO_DEADLINE);
        if registers[..2] == [0, exit::IRQ] {
            if index == 0 { crate::take_interrupts() } else { gic::service(|_| {}) }
        }
    }
}

fn access(kind: u64, registers: &mut [u64; REGISTERS]) {
    let [address, value, ..] = *registers;
    // SAFETY: the tester chose the address; one that hits the payload itself ends the test, nothing more.
    let done =
        unsafe { if kind == LOAD { probe::read(address, 8) } else { probe::write(address, value, 8).map(|()| value) } };
    match done {
        Ok(value) => registers[..2].copy_from_slice(&[0, value]),
        Err(syndrome) => registers[0] = syndrome,
    }
}

/// `history`: what came of the program. `sent` is the request once more: only registers that changed are told.
pub fn tell(sent: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    if ABSENT.load(Ordering::Relaxed) {
        return Err(Refusal::state("the CPUs did not meet in time"));
    }
    let mut bytes = [0; HISTORY_MAX];
    let mut at = 0;
    let mut push = |word: u64| {
        let place = bytes.get_mut(at..at + 8).ok_or(Refusal::state("the history does not fit into a frame"))?;
        place.copy_from_slice(&word.to_le_bytes());
        at += 8;
        Ok(())
    };
    let mut before = sent.bytes("program")?.chunks_exact(8);
    for step in STEPS.iter().take(LENGTH.load(Ordering::Relaxed) as usize) {
        before.next();
        let count = byte(step.plan.load(Ordering::Relaxed), 3) as usize;
        let registers = step.registers.each_ref().map(|register| register.load(Ordering::Relaxed));
        let mut changed = 0;
        for (register, value) in registers.iter().enumerate() {
            let old = if register < count { before.next().unwrap_or(&[]) } else { &filler(register).to_le_bytes() };
            changed |= u64::from(value.to_le_bytes() != old) << register;
        }
        push(step.began.load(Ordering::Relaxed) | step.ended.load(Ordering::Relaxed) << 20 | changed << 40)?;
        for (register, value) in registers.iter().enumerate() {
            if changed >> register & 1 == 1 {
                push(*value)?;
            }
        }
    }
    reply.bytes("history", &bytes[..at]);
    Ok(())
}
