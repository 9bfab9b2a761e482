//! The operations of the management channel (trust label: UNTRUSTED).
//!
//! `ping`, `start`, `console`, `stop`, `destroy`, `stats`, `log`, `probe`, `poke`, `peek`, `vms`, `cpu_off`, `cpu_on`,
//! `shutdown`; arguments and results are in the README. Only the boot CPU gets here, one request at a time.

use crate::vm::{SLOTS, SLOTS_MAX, State};
use crate::{build, devices, memory, schedule, teardown};
use bulkhead_abi::{BootInfo, CALLS, exit, id};
use bulkhead_el1::hvc::{self, CallError};
use bulkhead_el1::{cpu, probe};
use bulkhead_link::message::{Answer, Refusal, Request};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Bytes for planted markers; also the longest range of `peek`.
const POKE_SIZE: usize = 16 << 10;
const PEEK_MAX: usize = 4096;
const LOG_MAX: usize = 6 << 10;

static POKED: [AtomicU8; POKE_SIZE] = [const { AtomicU8::new(0) }; POKE_SIZE];
static POKE_NEXT: AtomicUsize = AtomicUsize::new(0);
static POWER_OFF: AtomicBool = AtomicBool::new(false);
static START_TICKS: AtomicU64 = AtomicU64::new(0);
static DESTROY_TICKS: AtomicU64 = AtomicU64::new(0);

/// Every operation and the arguments that it may have.
const OPERATIONS: [(&str, &[&str]); 14] = [
    ("ping", &[]),
    ("start", &build::ARGUMENTS),
    ("console", &["vm", "data"]),
    ("stop", &["vm"]),
    ("destroy", &["vm"]),
    ("stats", &[]),
    ("log", &["offset"]),
    ("probe", &["address", "kind"]),
    ("poke", &["data"]),
    ("peek", &["address", "length"]),
    ("vms", &[]),
    ("cpu_off", &["cpu"]),
    ("cpu_on", &["cpu"]),
    ("shutdown", &[]),
];

/// Carries out one request. One with arguments that the operation does not have is refused.
pub fn handle(boot: &'static BootInfo, request: &Request, bad_frames: u64, reply: &mut Answer) -> Result<(), Refusal> {
    let known = OPERATIONS.iter().find(|(name, _)| *name == request.operation);
    let (_, arguments) = known.ok_or(Refusal::request("unknown operation"))?;
    request.only(arguments)?;
    match request.operation {
        "ping" => ping(boot, reply),
        "start" => start(boot, request, reply)?,
        "console" => console(request)?,
        "stop" => teardown::stop(vm_argument(request)?)?,
        "destroy" => destroy(request, reply)?,
        "stats" => stats(bad_frames, reply),
        "log" => log(request, reply)?,
        "probe" => probe_address(request, reply)?,
        "poke" => poke(request, reply)?,
        "peek" => peek(request, reply)?,
        "vms" => vms(reply),
        "cpu_off" => cpu_off(boot, cpu_argument(boot, request)?)?,
        "cpu_on" => cpu_on(boot, cpu_argument(boot, request)?)?,
        "shutdown" => shutdown()?,
        _ => return Err(Refusal::request("unknown operation")),
    }
    Ok(())
}

/// Turns the machine off once the reply to `shutdown` is out.
pub fn power_off_if_asked() {
    if POWER_OFF.swap(false, Ordering::Relaxed) {
        let status = cpu::system_off();
        crate::log!("SYSTEM_OFF answered {status:#x}");
    }
}

fn vm_argument(request: &Request) -> Result<usize, Refusal> {
    request.index("vm", SLOTS_MAX)
}

fn ping(boot: &'static BootInfo, reply: &mut Answer) {
    reply.text("version", env!("CARGO_PKG_VERSION"));
    reply.u64("abi", boot.abi_version);
    reply.u64("cpus", boot.cpus);
    reply.u64("free_frames", memory::available());
    reply.put(|encoder| encoder.str("store")?.begin_array()?.ok());
    for (name, _) in memory::store(boot).files() {
        reply.put(|encoder| encoder.str(name)?.ok());
    }
    reply.put(|encoder| encoder.end()?.ok());
}

fn start(boot: &'static BootInfo, request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let begin = cpu::now();
    let plan = build::Plan::new(request, |name| memory::store(boot).find(name))?;
    let (index, measurement) = build::start(&plan)?;
    START_TICKS.store(cpu::now().saturating_sub(begin), Ordering::Relaxed);
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(measurement) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    reply.u64("vm", index as u64);
    reply.bytes("measurement", &bytes);
    Ok(())
}

fn console(request: &Request) -> Result<(), Refusal> {
    let (index, data) = (vm_argument(request)?, request.bytes("data")?);
    let slot = crate::vm::existing(index)?;
    let mut vm = slot.vm.lock();
    let taken = devices::uart::type_in(&mut vm, data);
    schedule::notify(index, &mut vm);
    if taken { Ok(()) } else { Err(Refusal::state("the VM has not read its earlier input")) }
}

fn destroy(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let begin = cpu::now();
    let returned = teardown::destroy(vm_argument(request)?)?;
    DESTROY_TICKS.store(cpu::now().saturating_sub(begin), Ordering::Relaxed);
    reply.u64("frames", returned.frames);
    reply.bool("scrubbed", returned.scrubbed);
    Ok(())
}

/// Names of the exit classes, in order.
const EXITS: [&str; exit::COUNT] = [
    "irq",
    "wfi",
    "mmio_read",
    "mmio_write",
    "mem_fault",
    "sgi",
    "vgic",
    "psci",
    "share",
    "host_call",
    "died",
    "needs_split",
];
const STAGES_MAX: u64 = 16;
const STAGES: [&str; STAGES_MAX as usize] = [
    "boot0", "boot1", "boot2", "boot3", "boot4", "boot5", "boot6", "boot7", "boot8", "boot9", "boot10", "boot11",
    "boot12", "boot13", "boot14", "boot15",
];

fn stats(bad_frames: u64, reply: &mut Answer) {
    const CALLS_KIND: u64 = 0;
    const EXITS_KIND: u64 = 1;
    const STAGES_KIND: u64 = 2;
    reply.map("calls", |reply| {
        for call in CALLS.iter().filter(|call| call.by_host && !call.reserved) {
            if let Ok([count]) = hvc::stats(CALLS_KIND, call.id - id::VERSION) {
                reply.u64(call.name, count);
            }
        }
    });
    reply.map("exits", |reply| {
        for (class, name) in EXITS.into_iter().enumerate() {
            if let Ok([count]) = hvc::stats(EXITS_KIND, class as u64) {
                reply.u64(name, count);
            }
        }
    });
    reply.map("stages", |reply| {
        for (index, name) in STAGES.into_iter().enumerate() {
            let Ok([ticks]) = hvc::stats(STAGES_KIND, index as u64) else { break };
            reply.u64(name, ticks);
        }
        reply.u64("start", START_TICKS.load(Ordering::Relaxed));
        reply.u64("destroy", DESTROY_TICKS.load(Ordering::Relaxed));
    });
    reply.u64("pages_mapped", build::PAGES_MAPPED.load(Ordering::Relaxed));
    reply.u64("pages_reclaimed", teardown::PAGES_RECLAIMED.load(Ordering::Relaxed));
    reply.u64("free_frames", memory::available());
    reply.u64("bad_frames", bad_frames);
    reply.u64("cntfrq", cpu::frequency());
}

/// Bytes that one `log_read` returns at most.
const LOG_STEP: usize = 64;

/// The engine's log from byte `offset` (default: the newest that fits), and where to go on.
fn log(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let refusal = |error: CallError| Refusal::call(error.call, error.status, error.detail);
    let mut offset = match request.optional_u64("offset")? {
        Some(offset) => offset,
        None => log_end().map_err(refusal)?.saturating_sub((LOG_MAX - LOG_STEP) as u64),
    };
    let mut text = [0; LOG_MAX];
    let mut length = 0;
    while length + LOG_STEP <= LOG_MAX {
        let [next, count, words @ ..] = hvc::log_read(offset).map_err(refusal)?;
        let count = (count as usize).min(LOG_STEP);
        if count == 0 {
            break;
        }
        for (position, byte) in text[length..length + count].iter_mut().enumerate() {
            let byte_read = words[position / 8].to_le_bytes()[position % 8];
            *byte = if byte_read.is_ascii() { byte_read } else { b'?' };
        }
        length += count;
        offset = next;
    }
    reply.text("text", core::str::from_utf8(&text[..length]).unwrap_or_default());
    reply.u64("next", offset);
    Ok(())
}

/// Offset behind the newest byte of the engine's log.
fn log_end() -> Result<u64, CallError> {
    let mut offset = 0;
    loop {
        let [next, count, ..] = hvc::log_read(offset)?;
        if count == 0 || next <= offset {
            return Ok(next);
        }
        offset = next;
    }
}

fn probe_address(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    const WORD: usize = 8;
    let address = request.u64("address")?;
    // SAFETY: who sends this tests whether the engine keeps us out; where it does not, the test has failed and
    // whatever happens to this program does not matter.
    let result = unsafe {
        match request.text("kind")? {
            "read" => probe::read(address, WORD),
            "write" => probe::write(address, 0x4242_4242_4242_4242, WORD).map(|()| 0),
            "execute" => probe::execute(address).map(|()| 0),
            _ => return Err(Refusal::request("kind is read, write or execute")),
        }
    };
    reply.bool("faulted", result.is_err());
    reply.u64("value", result.unwrap_or(0));
    reply.u64("esr", result.err().unwrap_or(0));
    Ok(())
}

/// Puts bytes one after another into a buffer of its own; when it is full, from its start again.
fn poke(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let data = request.bytes("data")?;
    if data.len() > POKE_SIZE {
        return Err(Refusal::request("too many bytes"));
    }
    let next = POKE_NEXT.load(Ordering::Relaxed);
    let first = if next + data.len() > POKE_SIZE { 0 } else { next };
    for (slot, byte) in POKED[first..].iter().zip(data) {
        slot.store(*byte, Ordering::Relaxed);
    }
    POKE_NEXT.store((first + data.len()).next_multiple_of(8), Ordering::Relaxed);
    reply.u64("address", POKED.as_ptr().addr() as u64 + first as u64);
    Ok(())
}

fn peek(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let address = request.u64("address")?;
    let length = request.index("length", PEEK_MAX + 1)?;
    let mut data = [0; PEEK_MAX];
    for (offset, byte) in data[..length].iter_mut().enumerate() {
        let at = address.checked_add(offset as u64).ok_or(Refusal::request("a range wraps"))?;
        // SAFETY: a load of one byte; see `probe_address`.
        *byte = unsafe { probe::read(at, 1) }.map_err(Refusal::fault)? as u8;
    }
    reply.bytes("data", &data[..length]);
    Ok(())
}

fn vms(reply: &mut Answer) {
    reply.put(|encoder| encoder.str("vms")?.begin_array()?.ok());
    for (index, slot) in SLOTS.iter().enumerate() {
        let state = match slot.state() {
            State::Free => continue,
            State::Changing => "changing",
            State::Running => "running",
            State::Stopped => "stopped",
        };
        let vcpus = slot.vm.lock().vcpus().len() as u64;
        reply.put(|encoder| {
            encoder.map(3)?.str("vm")?.u64(index as u64)?.str("state")?.str(state)?.str("vcpus")?.u64(vcpus)?.ok()
        });
    }
    reply.put(|encoder| encoder.end()?.ok());
}

/// A CPU other than the boot CPU, which serves the management channel.
fn cpu_argument(boot: &'static BootInfo, request: &Request) -> Result<usize, Refusal> {
    match request.index("cpu", boot.cpus as usize)? {
        0 => Err(Refusal::request("the boot CPU stays on")),
        cpu => Ok(cpu),
    }
}

fn cpu_off(boot: &'static BootInfo, cpu: usize) -> Result<(), Refusal> {
    /// Longest wait for the CPU to end its turn, microseconds.
    const PATIENCE: u64 = 2_000_000;
    if !schedule::is_online(cpu) {
        return Err(Refusal::state("the CPU is off"));
    }
    schedule::remove_cpu(cpu);
    let deadline = cpu::now().saturating_add(cpu::ticks(PATIENCE));
    while !cpu::is_off(boot, cpu) {
        if cpu::now() >= deadline {
            return Err(Refusal::state("the CPU does not go off"));
        }
        cpu::relax();
    }
    Ok(())
}

fn cpu_on(boot: &'static BootInfo, cpu: usize) -> Result<(), Refusal> {
    if schedule::is_online(cpu) {
        return Err(Refusal::state("the CPU is on"));
    }
    schedule::start_cpu(boot, cpu).map_err(|status| Refusal::call("PSCI CPU_ON", status, 0))
}

fn shutdown() -> Result<(), Refusal> {
    if SLOTS.iter().any(|slot| slot.state() != State::Free) {
        return Err(Refusal::state("a VM exists; destroy it first"));
    }
    POWER_OFF.store(true, Ordering::Relaxed);
    Ok(())
}
