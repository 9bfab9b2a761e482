//! The VM's disk: a virtio block device at its address, with its interrupt and its own copy of an image behind it
//! (trust label: UNTRUSTED).

use super::Window;
use crate::vm::Vm;
use crate::{log, memory, shared};
use bulkhead_abi::BLOCK_SIZE;
use bulkhead_link::message::Refusal;
use bulkhead_logic::virtio::block::{SECTOR, Storage};
use bulkhead_logic::virtio::mmio::Block;

/// Its registers.
pub const WINDOW: Window = Window { base: 0x0a00_0000, size: 0x200, read, write };
/// Interrupt id: SPI 16.
const INTID: usize = 48;
/// Most blocks that hold a disk.
const BLOCKS_MAX: usize = 64;

/// A disk.
pub struct Disk {
    device: Block,
    content: Content,
}

/// Blocks of the host that hold a disk's sectors. Invariant: the first `count` are allocated to it.
struct Content {
    blocks: [u64; BLOCKS_MAX],
    count: usize,
    sectors: u64,
}

impl Disk {
    /// A disk of `size` bytes, which begins with `image`.
    ///
    /// # Errors
    /// It would be empty or too large, or no memory is left.
    pub fn new(image: &[u8], size: u64) -> Result<Self, Refusal> {
        let sectors = size.div_ceil(SECTOR);
        let count = size.div_ceil(BLOCK_SIZE);
        if size < image.len() as u64 || count == 0 || count > BLOCKS_MAX as u64 {
            return Err(Refusal::request("a disk is as large as its image at least, and has 1 byte to 128 MiB"));
        }
        let mut content = Content { blocks: [0; BLOCKS_MAX], count: 0, sectors };
        for number in 0..count as usize {
            let Some(block) = memory::allocate_block() else {
                content.release();
                return Err(Refusal::state("no memory for a disk"));
            };
            content.blocks[number] = block;
            content.count += 1;
            let begin = image.len().min(number * BLOCK_SIZE as usize);
            let end = image.len().min(begin + BLOCK_SIZE as usize);
            memory::fill_block(block, &image[begin..end]);
        }
        Ok(Self { device: Block::new(sectors), content })
    }

    /// Gives its memory back.
    pub fn release(mut self) {
        self.content.release();
    }
}

impl Content {
    fn release(&mut self) {
        self.blocks[..self.count].iter().for_each(|block| memory::release_block(*block));
        self.count = 0;
    }

    /// Physical address of sector `number`.
    fn address(&self, number: u64) -> u64 {
        let offset = number * SECTOR;
        self.blocks[..self.count][(offset / BLOCK_SIZE) as usize] + offset % BLOCK_SIZE
    }
}

impl Storage for Content {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn load(&mut self, number: u64, sector: &mut [u8; SECTOR as usize]) {
        memory::copy_out(self.address(number), sector);
    }

    fn store(&mut self, number: u64, sector: &[u8; SECTOR as usize]) {
        memory::copy_in(self.address(number), sector);
    }
}

fn read(_: usize, vm: &mut Vm, offset: u64, size: u64) -> u64 {
    vm.disk.as_ref().map_or(0, |disk| disk.device.read(offset, size))
}

fn write(index: usize, vm: &mut Vm, offset: u64, size: u64, value: u64) {
    let Some(disk) = &mut vm.disk else { return };
    if disk.device.write(offset, size, value) {
        let mut window = shared::Window { vm: index, shared: &mut vm.shared };
        let served = disk.device.serve(&mut window, &mut disk.content);
        if let (Err(broken), true) = (served, vm.log_budget > 0) {
            vm.log_budget -= 1;
            log!("VM {index}: its disk needs a reset: {broken:?}");
        }
    }
    vm.gic.set_line(INTID, disk.device.line());
}
