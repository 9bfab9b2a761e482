//! The pages that a VM shares with the host (trust label: UNTRUSTED).
//!
//! A page is accepted when a device first needs it, and a few stay accepted. The VM may unshare a page at any moment;
//! then the engine takes it away from the host at once, and an access here faults, which is an answer like any other.

use bulkhead_abi::FRAME_SIZE;
use bulkhead_el1::{hvc, probe};
use bulkhead_logic::virtio::{Memory, NotShared};

/// Pages that stay accepted at most, each in the place that its number says.
const PLACES: usize = 64;
const NOWHERE: u64 = u64::MAX;

/// The accepted pages of a VM. Invariant: a page is accepted only if it is here.
pub struct Shared {
    pages: [Page; PLACES],
}

#[derive(Clone, Copy)]
struct Page {
    ipa: u64,
    frame: u64,
}

impl Shared {
    /// Nothing accepted.
    pub const NONE: Self = Self { pages: [Page { ipa: NOWHERE, frame: 0 }; PLACES] };

    fn place(&mut self, ipa: u64) -> &mut Page {
        &mut self.pages[(ipa / FRAME_SIZE) as usize % PLACES]
    }

    /// The frame of the page at `ipa` of VM `vm`, accepted now if it is not yet.
    fn frame(&mut self, vm: usize, ipa: u64) -> Result<u64, NotShared> {
        let page = self.place(ipa);
        if page.ipa != ipa {
            page.release(vm);
            let [frame] = hvc::patiently(|| hvc::share_accept(vm as u64, ipa)).map_err(|_| NotShared)?;
            *page = Page { ipa, frame };
        }
        Ok(page.frame)
    }

    /// VM `vm` has taken the page at `ipa` back. It may have shared it again before this is heard of, and a device may
    /// have accepted it anew: so it is released, not only forgotten.
    pub fn taken_back(&mut self, vm: usize, ipa: u64) {
        let page = self.place(ipa);
        if page.ipa == ipa {
            page.release(vm);
        }
    }

    /// Unmaps every accepted page of VM `vm` from the host.
    pub fn release_all(&mut self, vm: usize) {
        for page in &mut self.pages {
            page.release(vm);
        }
    }
}

impl Page {
    fn release(&mut self, vm: usize) {
        if self.ipa != NOWHERE {
            // A refusal: the VM has unshared it, which releases it as well.
            let _ = hvc::patiently(|| hvc::share_release(vm as u64, self.ipa));
            self.ipa = NOWHERE;
        }
    }
}

/// The shared memory of the VM in slot `vm`.
pub struct Window<'s> {
    /// Its slot.
    pub vm: usize,
    /// Its accepted pages.
    pub shared: &'s mut Shared,
}

impl Window<'_> {
    /// Calls `access` with physical address and range of bytes for each page of the range; an `Err` of it is a fault.
    fn each(
        &mut self,
        address: u64,
        length: usize,
        mut access: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), u64>,
    ) -> Result<(), NotShared> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(NotShared)?;
            let offset = at % FRAME_SIZE;
            let piece = (length - done).min((FRAME_SIZE - offset) as usize);
            let frame = self.shared.frame(self.vm, at - offset)?;
            if access(frame + offset, done..done + piece).is_err() {
                self.shared.taken_back(self.vm, at - offset);
                return Err(NotShared);
            }
            done += piece;
        }
        Ok(())
    }
}

impl Memory for Window<'_> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), NotShared> {
        let length = bytes.len();
        // SAFETY: a load from a page that the VM shares, or has taken back.
        self.each(address, length, |from, range| unsafe { probe::load(from, &mut bytes[range]) })
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NotShared> {
        // SAFETY: a store to a page that the VM shares, or has taken back; the program relies on neither.
        self.each(address, bytes.len(), |to, range| unsafe { probe::store(to, &bytes[range]) })
    }
}
