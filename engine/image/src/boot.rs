//! The order of a boot, from the first line of Rust at the virtual address to the host. Trust label: TRUSTED.
//!
//! On a machine that cannot be used, boot stops with one line on UART0 that says what is missing.

use core::fmt::Write;
use core::sync::atomic::Ordering;

use bulkhead_abi::{BOOT_MAGIC, BootInfo, Range, VERSION};
use bulkhead_arch::statics::{CONFIG, Decided};
use bulkhead_arch::{cpu, features, layout, smmu as arch_smmu};

use crate::device_tree::{self, Machine, Refusal};
use crate::early::{POOL, POOL_USED, ROOT};
use crate::host_stage2::{self, HOST_ROOT};
use crate::log::log;
use crate::memory::{self, Plan, Reserved, end};
use crate::pcie::{self, Listed};
use crate::platform;
use crate::start::{IMAGE_FILE_SIZE, run_cpu};
use crate::tables::{Access, BLOCK, PAGE, Tables, View};
use crate::time::{Stage, mark, now};
use crate::{gic, host_program, log as log_ring, psci, seed, smmu, stop, uart, virtio};

unsafe extern "C" {
    static __image_end: u8;
}

/// What the boot loader placed where, as physical ranges.
struct Placed {
    engine: Range,
    host_program: Range,
    device_tree: Range,
}

/// Called once, by the boot CPU: `load` is the physical address of the image, `tree` that of the device tree.
pub extern "C" fn boot(load: u64, tree: u64, entry_ticks: u64) -> ! {
    mark(Stage::Entry, entry_ticks);
    mark(Stage::MmuOn, now());
    let pool = POOL.address() - layout::IMAGE + load;
    let used = POOL_USED.load(Ordering::Relaxed);
    let mut tables = Tables::new(physical(ROOT.address(), load), View::Virtual(load), pool + used, pool + POOL.size());
    for device in [&platform::SMMU, &platform::UART0] {
        tables.map(layout::DEVICE + device.base, device.base, device.size, Access::Device);
    }
    match prepare(load, tree, &mut tables) {
        // SAFETY: the CPU's stack is mapped, its tables are complete, its destination is known.
        Ok(cpu) => unsafe { run_cpu(cpu) },
        Err(refusal) => stop(&refusal),
    }
}

/// Every CPU, on its own stack: enters the host.
pub extern "C" fn run_cpu_host(cpu: u64) -> ! {
    if let Err(missing) = gic::start_redistributor(cpu) {
        stop(&missing.into());
    }
    let (entry, context) = psci::destination(cpu);
    // SAFETY: boot mapped this CPU's area and all windows, and stored its decisions; PSCI starts each index once.
    // The stack was empty when this function began.
    unsafe {
        cpu::init(cpu);
        cpu::enter_host(entry, context)
    }
}

/// Everything up to the host's first instruction; answers the boot CPU's index.
fn prepare(load: u64, tree: u64, tables: &mut Tables) -> Result<u64, Refusal> {
    let (machine, placed) = understand(load, tree, tables)?;
    features::check()?;
    mark(Stage::MachineKnown, now());
    let cpus = machine.cpus as u64;
    let keep = [placed.host_program, placed.device_tree, machine.initrd];
    let plan = Plan::new(&machine, placed.engine, &keep)?;
    let reserved = memory::reserve(&plan, tables);
    (0..cpus).for_each(|cpu| memory::map_cpu(cpu, tables));
    mark(Stage::MemoryReserved, now());

    for device in &platform::ENGINE_DEVICES {
        let instances = if device.stride == 0 { 1 } else { cpus };
        for base in (0..instances).map(|instance| device.base + instance * device.stride) {
            tables.map(layout::DEVICE + base, base, device.size, Access::Device);
        }
    }
    let affinities = gic::affinities(machine.cpus, &machine.affinities)?;
    gic::start_distributor()?;
    if machine.devices.has_its {
        gic::close_its()?;
    }
    virtio::reset(machine.devices.virtio)?;
    memory::record_blocks(&plan, tables);
    let root = physical(HOST_ROOT.address(), load);
    host_stage2::build(&plan, root, reserved.host_level2, cpus, tables);
    let has_dma = open_devices(&machine, &plan, &reserved, root, load, tables)?;
    mark(Stage::TablesBuilt, now());

    // The program begins in a block that is the engine's: shown for the copy, hidden with all that is not the host's.
    memory::show(placed.host_program, tables);
    let (program, info) = load_host(&machine, &placed, &plan, affinities)?;
    for range in [placed.engine, placed.host_program, placed.device_tree, plan.reservation] {
        memory::hide(range, &plan, tables);
    }
    decide(&plan, root, cpus, has_dma)?;
    psci::describe(&affinities[..machine.cpus], load);
    let here = psci::this_cpu().ok_or("the boot CPU is not in the device tree")?;
    psci::claim(here, program.base, info);
    log!("host program at {:#x}, boot information at {info:#x}", program.base);
    #[cfg(feature = "self-test")]
    crate::self_test::run()?;
    log_ring::stop_mirror();
    mark(Stage::HostEntered, now());
    Ok(here)
}

/// Reads the device tree and closes the SMMU: the first access to any device.
fn understand(load: u64, tree: u64, tables: &mut Tables) -> Result<(Machine, Placed), Refusal> {
    let device_tree = map_device_tree(tree, tables)?;
    // SAFETY: mapped by the line above; nobody writes to it before the host runs.
    let blob = unsafe { core::slice::from_raw_parts((layout::RAM + tree) as *const u8, device_tree.size as usize) };
    let machine = device_tree::read(blob, device_tree)?;
    if machine.devices.has_smmu {
        smmu::close()?;
    }
    let random = seed::take(machine.seeds);
    uart::start();
    log!("Bulkhead {}, abi {VERSION}, loaded at {load:#x}", env!("CARGO_PKG_VERSION"));
    log!("{} CPUs, {}", machine.cpus, if machine.devices.has_smmu { "SMMU closed" } else { "no SMMU" });
    log!("random numbers: {random}");
    for range in machine.ram.iter().filter(|range| range.size > 0) {
        log!("RAM {:#x}..{:#x}", range.base, end(*range));
    }
    for range in machine.reserved.iter().filter(|range| range.size > 0) {
        log!("reserved by firmware {:#x}..{:#x}", range.base, end(*range));
    }
    // SAFETY: a word of the image's header, which the build fills in.
    let file = unsafe { (&raw const IMAGE_FILE_SIZE).read_volatile() };
    let engine = Range { base: load, size: (&raw const __image_end as u64) - layout::IMAGE };
    let host_program = Range { base: end(engine), size: file.saturating_sub(engine.size) };
    Ok((machine, Placed { engine, host_program, device_tree }))
}

/// Makes all PCIe functions silent, and lets the host have the listed ones if there is an SMMU that can translate for
/// them. Answers whether there is.
fn open_devices(
    machine: &Machine,
    plan: &Plan,
    reserved: &Reserved,
    host_root: u64,
    load: u64,
    tables: &mut Tables,
) -> Result<bool, &'static str> {
    let listed = if machine.devices.has_pcie { pcie::silence()? } else { Listed::NONE };
    let shortcoming = if machine.devices.has_smmu { smmu::shortcoming(plan.top()) } else { Some("there is none") };
    if let Some(shortcoming) = shortcoming {
        log!("SMMU: {shortcoming}; no DMA");
        return Ok(false);
    }
    // Functions whose streams the tree does not lead through the SMMU would pass by it.
    let listed = if machine.devices.pcie_behind_smmu { listed } else { Listed::NONE };
    smmu::open(&listed, reserved.streams, reserved.dma_root, physical(arch_smmu::queue(), load))?;
    host_stage2::map_functions(&listed, host_root, tables);
    log!("SMMU: translates for {} PCIe functions", listed.functions().count());
    Ok(true)
}

/// Maps the blob at `tree` in the RAM window: first the block it begins in, which says how long it is.
fn map_device_tree(tree: u64, tables: &mut Tables) -> Result<Range, &'static str> {
    const MAGIC: u32 = 0xd00d_feed;
    if tree == 0 || tree % 8 != 0 || tree >> layout::PHYSICAL_BITS != 0 {
        return Err("the device tree is missing: x0 must hold its address (boot the raw image, not the ELF file)");
    }
    let block = tree / BLOCK * BLOCK;
    tables.map(layout::RAM + block, block, BLOCK, Access::Data);
    let word = |index: u64| {
        // SAFETY: mapped above; the header's first words lie in the block, `tree` being a multiple of 8.
        u32::from_be(unsafe { ((layout::RAM + tree + index * 4) as *const u32).read_volatile() })
    };
    let size = u64::from(word(1));
    if word(0) != MAGIC || size > device_tree::LONGEST {
        return Err("the device tree is missing: there is none at the address in x0");
    }
    if tree + size > block + BLOCK {
        tables.map(layout::RAM + block + BLOCK, block + BLOCK, BLOCK, Access::Data);
    }
    Ok(Range { base: tree, size })
}

/// Copies the host program, splits the first block, writes the boot information. Answers where the program is and
/// the physical address of the boot information.
fn load_host(
    machine: &Machine,
    placed: &Placed,
    plan: &Plan,
    affinities: [u64; bulkhead_abi::CPUS_MAX],
) -> Result<(Range, u64), &'static str> {
    let size = host_program::memory_size(placed.host_program)?;
    let keep = [placed.host_program, placed.device_tree, machine.initrd];
    let place = plan.find(size + PAGE, &keep).ok_or("there is no room for the host program")?;
    let image = Range { base: place.base, size };
    host_program::load(placed.host_program, image);
    mark(Stage::HostLoaded, now());
    let [program, tree, initrd] = keep;
    let split_block = plan.find(BLOCK, &[place, program, tree, initrd]).ok_or("there is no block to split")?;
    host_stage2::split(plan, split_block);
    host_stage2::withhold(plan, &[place, tree, initrd, split_block]);
    let reachable = |range: Range| {
        if plan.host_has(range) {
            return range;
        }
        if range.size > 0 {
            log!("what lies at {:#x} is not the host's", range.base);
        }
        Range::default()
    };
    let info = BootInfo {
        magic: BOOT_MAGIC,
        abi_version: VERSION,
        cpus: machine.cpus as u64,
        mpidr: affinities,
        host_ram: plan.host_ranges()?,
        split_block,
        host_image: image,
        initrd: reachable(machine.initrd),
        device_tree: reachable(placed.device_tree),
        uart: platform::UART1.base,
        uart_intid: platform::UART1_INTID,
        gicd: platform::GICD.base,
        gicr: platform::GICR_RD.base,
        counter_frequency: crate::time::frequency(),
    };
    host_program::describe(end(image), &info);
    Ok((image, end(image)))
}

/// Fixes what the engine's calls work with.
fn decide(plan: &Plan, host_root: u64, cpus: u64, has_dma: bool) -> Result<(), &'static str> {
    let (host_vtcr, vm_vtcr) = cpu::translation_control().ok_or("the CPU has fewer than 44 physical address bits")?;
    CONFIG.decide(&Decided {
        ram_base: plan.ram_base,
        frames: plan.blocks() * (BLOCK / PAGE),
        cpus,
        host_root,
        host_vtcr,
        vm_vtcr,
        has_dma,
    });
    Ok(())
}

/// Physical address of a byte of the image.
fn physical(address: u64, load: u64) -> u64 {
    address - layout::IMAGE + load
}

/// Says what is missing and stops this CPU.
pub fn stop(refusal: &Refusal) -> ! {
    uart::start();
    let _ = match refusal.at {
        Some(address) => writeln!(uart::Console, "BULKHEAD STOP {} ({address:#x})", refusal.what),
        None => writeln!(uart::Console, "BULKHEAD STOP {}", refusal.what),
    };
    stop::park()
}
