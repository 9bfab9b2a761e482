//! The host's RAM: which frames can be given away, and the boot loader's images in it (trust label: UNTRUSTED).

use bulkhead_abi::{BLOCK_SIZE, BootInfo, FRAME_SIZE, Range, status};
use bulkhead_el1::hvc::{self, CallError};
use bulkhead_el1::lock::Mutex;
use bulkhead_link::message::Refusal;
use bulkhead_logic::frames::{Frames, List};
use bulkhead_logic::store::Store;

static FRAMES: Mutex<Option<Frames<'static>>> = Mutex::new(None);

/// Finds the frames to give: all of the host's blocks that hold nothing of ours.
pub fn init(boot: &'static BootInfo) {
    let ranges = || boot.host_ram.iter().filter(|range| range.size >= BLOCK_SIZE);
    let base = ranges().map(|range| range.base).min().unwrap_or(0);
    let end = ranges().map(|range| range.base + range.size).max().unwrap_or(0);
    let count = (end - base) / FRAME_SIZE;
    let table_size = (count * size_of::<u32>() as u64).next_multiple_of(BLOCK_SIZE);
    let own = own_ranges(boot);
    let table = ranges().find_map(|range| free_run(*range, table_size, &own, boot.split_block));
    let table = table.expect("room for the frame table");
    let pointer = core::ptr::with_exposed_provenance_mut::<u32>(table.base as usize);
    // SAFETY: the blocks at `table` belong to the host and hold nothing else; they are never given away.
    let links = unsafe {
        pointer.write_bytes(0xff, count as usize);
        core::slice::from_raw_parts_mut(pointer, count as usize)
    };
    let mut frames = Frames::new(base, links);
    for range in ranges() {
        for address in steps(*range, BLOCK_SIZE) {
            let block = Range { base: address, size: BLOCK_SIZE };
            let used = overlaps(block, table) || own.iter().any(|range| overlaps(block, *range));
            if !used && !overlaps(block, boot.split_block) {
                frames.add_block(address);
            }
        }
    }
    // The first frame of the block that boot has split is that block's table.
    for address in steps(boot.split_block, FRAME_SIZE).skip(1) {
        let frame = Range { base: address, size: FRAME_SIZE };
        if !own.iter().any(|range| overlaps(frame, *range)) {
            frames.release(address);
        }
    }
    *FRAMES.lock() = Some(frames);
}

/// The addresses of the pieces of `size` bytes that make up `range`.
fn steps(range: Range, size: u64) -> impl Iterator<Item = u64> {
    (0..range.size / size).map(move |number| range.base + number * size)
}

/// What of the host's RAM is in use already.
fn own_ranges(boot: &'static BootInfo) -> [Range; 4] {
    let info = Range { base: core::ptr::from_ref(boot).addr() as u64, size: size_of::<BootInfo>() as u64 };
    [boot.host_image, boot.initrd, boot.device_tree, info]
}

fn overlaps(one: Range, other: Range) -> bool {
    one.size != 0 && other.size != 0 && one.base < other.base + other.size && other.base < one.base + one.size
}

/// The first `size` bytes of whole blocks in `range` that touch none of `used`.
fn free_run(range: Range, size: u64, used: &[Range], split: Range) -> Option<Range> {
    steps(range, BLOCK_SIZE)
        .map(|base| Range { base, size })
        .take_while(|run| run.base + run.size <= range.base + range.size)
        .find(|run| !overlaps(*run, split) && !used.iter().any(|used| overlaps(*run, *used)))
}

fn with_frames<T>(action: impl FnOnce(&mut Frames<'static>) -> T) -> T {
    action(FRAMES.lock().as_mut().expect("memory::init comes first"))
}

/// Number of frames that can be given away.
pub fn available() -> u64 {
    with_frames(|frames| frames.available())
}

/// A frame of the host. Blocks are split as needed.
///
/// # Errors
/// None is left, or the engine refused to split a block.
pub fn allocate() -> Result<u64, Refusal> {
    let mut refusal = Refusal::state("out of memory");
    let split = |block, table| match split(block, table) {
        Ok([]) => true,
        Err(error) => {
            refusal = Refusal::call(error.call, error.status, error.detail);
            false
        }
    };
    with_frames(|frames| frames.allocate(split)).ok_or(refusal)
}

/// Splits a block of the host, which nobody may have touched since boot: a load makes the engine clear it.
fn split(block: u64, table: u64) -> Result<[u64; 0], CallError> {
    match hvc::patiently(|| hvc::host_split(block, table)) {
        Err(CallError { status: status::NOT_CLEARED, .. }) => {
            // SAFETY: a load from a block of the host.
            unsafe { core::ptr::with_exposed_provenance::<u64>(block as usize).read_volatile() };
            hvc::patiently(|| hvc::host_split(block, table))
        }
        answer => answer,
    }
}

/// A whole block of the host, if one is left.
pub fn allocate_block() -> Option<u64> {
    with_frames(|frames| frames.allocate_block())
}

/// Gives back a block that is the host's.
pub fn release_block(block: u64) {
    with_frames(|frames| frames.add_block(block));
}

/// Notes in `list` the block that was given away for the 2 MiB of a VM at `ipa`.
pub fn note_block(list: &mut List, block: u64, ipa: u64) {
    with_frames(|frames| frames.push_block(list, block, (ipa / BLOCK_SIZE) as u32));
}

/// Takes the block for the 2 MiB at `ipa` off `list`.
pub fn take_block(list: &mut List, ipa: u64) -> Option<u64> {
    with_frames(|frames| frames.take_block(list, (ipa / BLOCK_SIZE) as u32))
}

/// Gives back a frame that is the host's.
pub fn release(frame: u64) {
    with_frames(|frames| frames.release(frame));
}

/// Notes in `list` a frame that was given away.
pub fn note(list: &mut List, frame: u64) {
    with_frames(|frames| frames.push(list, frame));
}

/// Notes in `list` all the frames of a block.
pub fn note_pages(list: &mut List, block: u64) {
    steps(Range { base: block, size: BLOCK_SIZE }, FRAME_SIZE).for_each(|frame| note(list, frame));
}

/// Takes a frame off `list`.
pub fn take(list: &mut List) -> Option<u64> {
    with_frames(|frames| frames.pop(list))
}

/// Fills a frame of the host with `content`, at most a frame long, and zeros behind it.
pub fn fill(frame: u64, content: &[u8]) {
    with_bytes(frame, |bytes| {
        let (head, tail) = bytes.split_at_mut(content.len().min(FRAME_SIZE as usize));
        head.copy_from_slice(&content[..head.len()]);
        tail.fill(0);
    });
}

/// Does something with the content of a frame of the host that its caller has allocated.
pub fn with_bytes<T>(frame: u64, action: impl FnOnce(&mut [u8; FRAME_SIZE as usize]) -> T) -> T {
    let pointer = core::ptr::with_exposed_provenance_mut::<[u8; FRAME_SIZE as usize]>(frame as usize);
    // SAFETY: an allocated frame of the host, of which no other reference exists.
    action(unsafe { &mut *pointer })
}

/// Fills a block of the host with `content`, at most a block long, and zeros behind it.
pub fn fill_block(block: u64, content: &[u8]) {
    let pages = content.chunks(FRAME_SIZE as usize).chain(core::iter::repeat(&[][..]));
    for (frame, page) in steps(Range { base: block, size: BLOCK_SIZE }, FRAME_SIZE).zip(pages) {
        fill(frame, page);
    }
}

/// Copies from memory of the host that was allocated and that nobody else uses.
pub fn copy_out(address: u64, bytes: &mut [u8]) {
    let pointer = core::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: as the caller says; `bytes` is other memory.
    unsafe { pointer.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
}

/// Copies into memory of the host that was allocated and that nobody else uses.
pub fn copy_in(address: u64, bytes: &[u8]) {
    let pointer = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: as the caller says; `bytes` is other memory.
    unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Whether a frame of the host holds zeros only.
pub fn is_zero(frame: u64) -> bool {
    let pointer = core::ptr::with_exposed_provenance::<[u64; FRAME_SIZE as usize / 8]>(frame as usize);
    // SAFETY: an allocated frame of the host; nobody writes it now.
    unsafe { &*pointer }.iter().all(|word| *word == 0)
}

/// The image store; empty if the boot loader left none.
pub fn store(boot: &'static BootInfo) -> Store<'static> {
    if boot.initrd.size == 0 {
        return Store::new(&[]);
    }
    let pointer = core::ptr::with_exposed_provenance::<u8>(boot.initrd.base as usize);
    // SAFETY: the boot loader's image lies in RAM of the host that is never given away nor written.
    Store::new(unsafe { core::slice::from_raw_parts(pointer, boot.initrd.size as usize) })
}
