//! The self-test at boot: a walk through the ownership transitions. Trust label: CHECKED. In no shipped image: built with
//! the feature `self-test` only.
//!
//! When all tables are up and the host has not begun, the real handlers take real frames and blocks through every
//! transition, right calls and wrong ones, on this machine's own memory, SMMU included. After each step records,
//! descriptors and contents must be those of the specification (`tooling/bulkhead/spec/calls`); at the first that is
//! not, boot stops and names the step. At the end everything is as before, which a fingerprint of all records and
//! tables says, so that the host finds what it finds without the test.

use bulkhead_abi::{exit, id, status};
use bulkhead_arch::{Machine, layout};
use bulkhead_core::addr::{Block, FRAME_SHIFT, Frame, Ipa, TABLE_ENTRIES, VmId};
use bulkhead_core::call::dispatch::{Registers, host_call};
use bulkhead_core::call::first_touch::first_touch;
use bulkhead_core::hardware::Hardware;
use bulkhead_core::owner::{Record, RunState, Sharing};
use bulkhead_core::stage2;
use bulkhead_core::vcpu::context::VcpuContext;
use bulkhead_core::vcpu::exit::{Decision, Exit};
use bulkhead_core::vcpu::sharing;
use bulkhead_core::vm::{Field, RECORD_WORDS};

use crate::device_tree::Refusal;
use crate::log::log;
use crate::time::now;

const VM: VmId = VmId(0);
const SIZE: u64 = 16 << 20;
/// First address of the VM's RAM, and the pages and blocks that it has there.
const RAM: u64 = 0x4000_0000;
const MEASURED: u64 = RAM + 0x1000;
const GIVEN: u64 = RAM + 0x2000;
const CUT: u64 = RAM + 0x20_0000;
const WHOLE: u64 = RAM + 0x40_0000;
const PATTERN: u64 = 0x5afe_c0de_5afe_c0de;
/// Frames that the walk takes from the split block.
const FRAMES: usize = 11;
/// Blocks that nobody has touched.
const BLOCKS: usize = 3;
type Step = Result<(), Refusal>;

/// Takes the walk. The refusal names the first step that is not as specified.
pub fn run() -> Step {
    let start = now();
    let before = fingerprint();
    let mut walk = Walk::new()?;
    walk.build()?;
    walk.blocks()?;
    walk.share()?;
    walk.devices()?;
    walk.end()?;
    walk.restore();
    walk.agree("self-test: everything is as before", fingerprint(), before)?;
    log!("self-test: {} ownership transitions in {} ticks", walk.transitions, now() - start);
    Ok(())
}

/// The frames and blocks on the way, and how many transitions were taken.
struct Walk {
    frames: [Frame; FRAMES],
    blocks: [Block; BLOCKS],
    transitions: u64,
}

impl Walk {
    /// Finds frames of the split block that are the host's, and blocks that nobody has touched.
    fn new() -> Result<Self, Refusal> {
        let all = || (0..Machine.frames() / TABLE_ENTRIES).map(Block);
        let split =
            all().find(|block| Machine.block_record(*block) == Record::SPLIT).ok_or("self-test: no split block")?;
        let mut hosts = (0..TABLE_ENTRIES)
            .map(|slot| Frame(split.first().0 + slot))
            .filter(|frame| Machine.frame_record(*frame) == Record::HOST);
        let mut untouched = all().filter(|block| Machine.block_record(*block) == Record::UNCLEARED);
        let mut walk = Self { frames: [Frame(0); FRAMES], blocks: [Block(0); BLOCKS], transitions: 0 };
        for frame in &mut walk.frames {
            *frame = hosts.next().ok_or("self-test: too few frames of the host")?;
        }
        for block in &mut walk.blocks {
            *block = untouched.next().ok_or("self-test: too few blocks that nobody has touched")?;
        }
        Ok(walk)
    }

    /// A VM with tables, pages and a vCPU; what cannot be built is refused.
    fn build(&mut self) -> Step {
        let [root, level2, level3, page, measured, given, vcpu, ..] = self.frames;
        let create = [id::VM_CREATE, VM.0, address(root), 1, 0, RAM, SIZE];
        self.call("self-test: vm_create", &create, status::SUCCESS)?;
        self.taken("self-test: vm_create takes the root", root, Record::vm_root(VM))?;
        self.call("self-test: vm_create of a slot in use", &create, status::ALREADY_MAPPED)?;
        let map = [id::MAP, VM.0, RAM, address(page), 0];
        self.call("self-test: map without tables", &map, status::TABLE_MISSING)?;
        self.table("self-test: table_donate of level 2", 2, RAM, root, level2)?;
        self.table("self-test: table_donate of level 3", 3, RAM, level2, level3)?;
        let twice = [id::TABLE_DONATE, VM.0, CUT, 3, address(level3)];
        self.call("self-test: table_donate of what the host has not", &twice, status::NOT_OWNED)?;
        self.page("self-test: map, zeroed", RAM, page, 0)?;
        self.page("self-test: map, measured", MEASURED, measured, 1)?;
        self.page("self-test: map of another page", GIVEN, given, 0)?;
        self.call("self-test: map of a page twice", &map, status::NOT_OWNED)?;
        let create = [id::VCPU_CREATE, VM.0, 0, address(vcpu)];
        self.call("self-test: vcpu_create", &create, status::SUCCESS)?;
        self.taken("self-test: vcpu_create takes the frame", vcpu, Record::vcpu(VM, 0, RunState::OFF))?;
        let entry = [id::VCPU_SET_ENTRY, address(vcpu), RAM, 7];
        self.call("self-test: vcpu_set_entry", &entry, status::SUCCESS)
    }

    /// A whole block, and one that is cut; then the VM is sealed.
    fn blocks(&mut self) -> Step {
        let [_, level2, .., table, host_table] = self.frames;
        let [cut, whole, _] = self.blocks;
        for (ipa, block) in [(CUT, cut), (WHOLE, whole)] {
            let map = [id::MAP_BLOCK, VM.0, ipa, address(block.first())];
            self.call("self-test: map_block", &map, status::SUCCESS)?;
            let slot = ipa >> 21 & 511;
            let record = Record::vm_page(VM, level2, slot);
            self.agree("self-test: map_block: the record", Machine.block_record(block).0, record.0)?;
            let leaf = Machine.table_entry(level2, slot);
            self.agree("self-test: map_block: the descriptor", leaf, stage2::block(Machine, block))?;
            let first = (0..TABLE_ENTRIES).map(|slot| content(Frame(block.first().0 + slot)));
            self.agree("self-test: map_block: the content", first.fold(0, |all, one| all | one), 0)?;
        }
        let split = [id::VM_SPLIT, address(cut.first()), address(table), address(host_table)];
        self.call("self-test: vm_split", &split, status::SUCCESS)?;
        self.agree("self-test: vm_split: the record", Machine.block_record(cut).0, Record::SPLIT.0)?;
        for slot in 0..TABLE_ENTRIES {
            let (frame, record) = (Frame(cut.first().0 + slot), Record::vm_page(VM, table, slot));
            self.agree("self-test: vm_split: a page's record", Machine.frame_record(frame).0, record.0)?;
            let leaf = Machine.table_entry(table, slot);
            self.agree("self-test: vm_split: a page's descriptor", leaf, stage2::page(Machine, frame))?;
        }
        self.call("self-test: activate", &[id::ACTIVATE, VM.0], status::SUCCESS)?;
        let late = [id::MAP, VM.0, RAM + 0x5000, address(self.frames[7]), 1];
        self.call("self-test: map, measured, of a sealed VM", &late, status::BAD_STATE)
    }

    /// The VM shares pages and takes them back, the host accepts and releases.
    fn share(&mut self) -> Step {
        let [_, _, level3, page, measured, given, vcpu, ..] = self.frames;
        let record = Record::vm_page(VM, level3, 0);
        let accept = [id::SHARE_ACCEPT, VM.0, RAM];
        self.call("self-test: share_accept of a private page", &accept, status::BAD_STATE)?;
        self.vm_call("self-test: share", vcpu, id::SHARE, RAM)?;
        self.taken("self-test: share: the page", page, record.with_sharing(Sharing::OFFERED))?;
        for _ in 0..2 {
            self.call("self-test: share_accept", &accept, status::SUCCESS)?;
            self.reached("self-test: share_accept: the page", page, record.with_sharing(Sharing::ACCEPTED))?;
            self.call("self-test: share_release", &[id::SHARE_RELEASE, VM.0, RAM], status::SUCCESS)?;
            self.taken("self-test: share_release: the page", page, record.with_sharing(Sharing::OFFERED))?;
        }
        self.call("self-test: share_accept before unshare", &accept, status::SUCCESS)?;
        self.vm_call("self-test: unshare", vcpu, id::UNSHARE, RAM)?;
        self.taken("self-test: unshare: the page", page, record)?;
        let content_before = content(measured);
        self.agree("self-test: a page keeps its content", content_before, PATTERN)?;
        write(given, PATTERN);
        self.vm_call("self-test: relinquish", vcpu, id::RELINQUISH, GIVEN)?;
        self.agree("self-test: relinquish: the VM's descriptor", Machine.table_entry(level3, 2), 0)?;
        self.returned("self-test: relinquish: the page", given)
    }

    /// The first touch of a block, a DMA window, and a split.
    fn devices(&mut self) -> Step {
        let [.., host_table, _, _] = self.frames;
        let block = self.blocks[2];
        let at = address(block.first());
        self.call(
            "self-test: host_split of an untouched block",
            &[id::HOST_SPLIT, at, address(host_table)],
            status::NOT_CLEARED,
        )?;
        let touched = first_touch(Machine, block);
        self.agree("self-test: first touch", touched.status, status::SUCCESS)?;
        self.agree("self-test: first touch: the record", Machine.block_record(block).0, Record::HOST.0)?;
        self.agree("self-test: first touch: the descriptor", Machine.host_entry(block), stage2::block(Machine, block))?;
        self.transitions += 1;
        if Machine.has_dma() {
            self.call("self-test: dma_allow", &[id::DMA_ALLOW, at], status::SUCCESS)?;
            self.agree("self-test: dma_allow: the record", Machine.block_record(block).0, Record::DMA.0)?;
            let map = [id::MAP_BLOCK, VM.0, RAM + 0x60_0000, at];
            self.call("self-test: map_block of a DMA window", &map, status::NOT_OWNED)?;
            self.call("self-test: dma_revoke", &[id::DMA_REVOKE, at], status::SUCCESS)?;
            self.agree("self-test: dma_revoke: the record", Machine.block_record(block).0, Record::HOST.0)?;
        }
        self.call("self-test: host_split", &[id::HOST_SPLIT, at, address(host_table)], status::SUCCESS)?;
        self.agree("self-test: host_split: the record", Machine.block_record(block).0, Record::SPLIT.0)?;
        let entry = stage2::table(Machine, host_table);
        self.agree("self-test: host_split: the descriptor", Machine.host_entry(block), entry)?;
        self.reached("self-test: host_split: a frame", block.first(), Record::HOST)
    }

    /// The VM dies, and everything that it had comes back, zeroed.
    fn end(&mut self) -> Step {
        let [root, level2, level3, page, measured, _, vcpu, .., table, _] = self.frames;
        let [cut, whole, _] = self.blocks;
        let destroy = [id::VM_DESTROY, VM.0];
        self.call("self-test: reclaim from a VM that lives", &[id::RECLAIM, address(page)], status::BAD_STATE)?;
        self.call("self-test: vm_kill", &[id::VM_KILL, VM.0], status::SUCCESS)?;
        self.call("self-test: vm_destroy of a VM with pages", &destroy, status::NOT_EMPTY)?;
        self.call(
            "self-test: table_reclaim of a table in use",
            &[id::TABLE_RECLAIM, address(level3)],
            status::NOT_EMPTY,
        )?;
        let cut_pages = (0..TABLE_ENTRIES).map(|slot| Frame(cut.first().0 + slot));
        for frame in [page, measured, vcpu].into_iter().chain(cut_pages) {
            self.call("self-test: reclaim", &[id::RECLAIM, address(frame)], status::SUCCESS)?;
            self.returned("self-test: reclaim: the frame", frame)?;
        }
        self.call("self-test: reclaim_block", &[id::RECLAIM_BLOCK, address(whole.first())], status::SUCCESS)?;
        self.agree("self-test: reclaim_block: the record", Machine.block_record(whole).0, Record::HOST.0)?;
        let entry = stage2::block(Machine, whole);
        self.agree("self-test: reclaim_block: the descriptor", Machine.host_entry(whole), entry)?;
        for frame in [level3, table, level2] {
            self.call("self-test: table_reclaim", &[id::TABLE_RECLAIM, address(frame)], status::SUCCESS)?;
            self.returned("self-test: table_reclaim: the table", frame)?;
        }
        self.call("self-test: vm_destroy", &destroy, status::SUCCESS)?;
        self.returned("self-test: vm_destroy: the root", root)
    }

    /// What no call undoes: two blocks are split, and all three touched.
    fn restore(&self) {
        let [.., split_table, _, cut_table] = self.frames;
        for block in self.blocks {
            for slot in 0..TABLE_ENTRIES {
                Machine.set_frame_record(Frame(block.first().0 + slot), Record::ENGINE);
            }
            Machine.set_block_record(block, Record::UNCLEARED);
            Machine.set_host_entry(block, 0);
        }
        for table in [split_table, cut_table] {
            Machine.zero_frame(table);
            Machine.set_frame_record(table, Record::HOST);
            Machine.set_table_entry(host_table_of(table), table.slot(), stage2::page(Machine, table));
        }
        Machine.publish();
    }

    /// A call of the host that must answer `wanted`.
    fn call(&mut self, step: &'static str, words: &[u64], wanted: u64) -> Step {
        let mut registers: Registers = [0; 18];
        registers[..words.len()].copy_from_slice(words);
        host_call(Machine, &mut registers);
        self.transitions += 1;
        self.agree(step, registers[0], wanted)
    }

    /// A call of the VM, whose vCPU has its context in `vcpu`, that must succeed and tell the host.
    fn vm_call(&mut self, step: &'static str, vcpu: Frame, function: u64, ipa: u64) -> Step {
        let place = (layout::RAM + address(vcpu)) as *mut VcpuContext;
        // SAFETY: a whole frame, which the RAM window maps, and whose content nothing else refers to.
        let context = unsafe { &mut *place };
        context.x[..4].copy_from_slice(&[function, ipa, 0, 0]);
        let told = Decision::Exit(Exit { class: exit::SHARE, data: [function, ipa, 0] });
        let decision = sharing::call(Machine, context);
        self.transitions += 1;
        self.agree(step, u64::from(decision == told), 1)
    }

    /// Donates a table of `level` for `ipa`, which `parent` then names.
    fn table(&mut self, step: &'static str, level: u64, ipa: u64, parent: Frame, table: Frame) -> Step {
        write(table, PATTERN);
        self.call(step, &[id::TABLE_DONATE, VM.0, ipa, level, address(table)], status::SUCCESS)?;
        let slot = Ipa(ipa).index(level as u32 - 1);
        self.taken(step, table, Record::vm_table(VM, level, parent, slot))?;
        self.agree(step, Machine.table_entry(parent, slot), stage2::table(Machine, table))?;
        self.agree(step, content(table), 0)
    }

    /// Maps a page, with the content that the host has left there if `mode` is 1.
    fn page(&mut self, step: &'static str, ipa: u64, frame: Frame, mode: u64) -> Step {
        let level3 = self.frames[2];
        write(frame, PATTERN);
        self.call(step, &[id::MAP, VM.0, ipa, address(frame), mode], status::SUCCESS)?;
        let slot = Ipa(ipa).index(3);
        self.taken(step, frame, Record::vm_page(VM, level3, slot))?;
        self.agree(step, Machine.table_entry(level3, slot), stage2::page(Machine, frame))?;
        self.agree(step, content(frame), PATTERN * mode)
    }

    /// The record, and that the host does not reach the frame.
    fn taken(&self, step: &'static str, frame: Frame, record: Record) -> Step {
        self.agree(step, Machine.frame_record(frame).0, record.0)?;
        self.agree(step, Machine.table_entry(host_table_of(frame), frame.slot()), 0)
    }

    /// The record, and that the host reaches the frame.
    fn reached(&self, step: &'static str, frame: Frame, record: Record) -> Step {
        self.agree(step, Machine.frame_record(frame).0, record.0)?;
        let leaf = Machine.table_entry(host_table_of(frame), frame.slot());
        self.agree(step, leaf, stage2::page(Machine, frame))
    }

    /// The frame is the host's again, and zero.
    fn returned(&self, step: &'static str, frame: Frame) -> Step {
        self.reached(step, frame, Record::HOST)?;
        self.agree(step, content(frame), 0)
    }

    /// Refuses to go on if a word is not the specified one.
    fn agree(&self, step: &'static str, is: u64, wanted: u64) -> Step {
        if is == wanted {
            return Ok(());
        }
        log!("{step}: {is:#x}, specified is {wanted:#x}");
        Err(Refusal::from(step))
    }
}

/// Physical address of a frame.
fn address(frame: Frame) -> u64 {
    Machine.ram_base() + (frame.0 << FRAME_SHIFT)
}

fn host_table_of(frame: Frame) -> Frame {
    stage2::target(Machine, Machine.host_entry(frame.block()))
}

/// All words of a frame, ORed.
fn content(frame: Frame) -> u64 {
    (0..TABLE_ENTRIES).fold(0, |all, word| all | Machine.table_entry(frame, word))
}

/// Writes to a frame of the host.
fn write(frame: Frame, value: u64) {
    Machine.set_table_entry(frame, TABLE_ENTRIES - 1, value);
}

/// A hash of all records, of the tables of host and devices, and of split blocks: what the host could see of the walk.
fn fingerprint() -> u64 {
    let blocks = || (0..Machine.frames() / TABLE_ENTRIES).map(Block);
    let split = blocks().filter(|block| Machine.block_record(*block) == Record::SPLIT);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |word: u64| hash = (hash.rotate_left(7) ^ word).wrapping_mul(0x0100_0000_01b3);
    blocks().for_each(|block| {
        add(Machine.block_record(block).0);
        add(Machine.host_entry(block));
        add(bulkhead_arch::smmu::entry(block));
    });
    (0..Machine.frames()).for_each(|frame| add(Machine.frame_record(Frame(frame)).0));
    for vm in 0..bulkhead_abi::VM_SLOTS as u64 {
        (0..RECORD_WORDS as u64).for_each(|word| add(Machine.vm_word(VmId(vm), Field(word))));
    }
    for frame in split.flat_map(|block| (0..TABLE_ENTRIES).map(move |slot| Frame(block.first().0 + slot))) {
        (0..TABLE_ENTRIES).for_each(|word| add(Machine.table_entry(frame, word)));
    }
    hash
}
