//! List registers (trust label: UNTRUSTED): filling them before a vCPU runs, folding them back after.
//!
//! Format as `ICH_LR<n>_EL2` (Arm IHI 0069H, 12.4.8), with HW = 0 and group 1; a level-sensitive interrupt
//! asks for maintenance at its end, so that its line is sampled again.

use super::{TIMER, Vgic};
use bulkhead_abi::{CONTROL_PRIORITY_SHIFT, CONTROL_TIMER, CONTROL_UNDERFLOW};

/// List registers that the host fills; the engine has its own for the timer.
pub const LIST_REGISTERS: usize = 3;

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const GROUP_1: u64 = 1 << 60;
const END_MAINTENANCE: u64 = 1 << 41;
const PRIORITY_SHIFT: u32 = 48;
/// Priority bits that a CPU interface with 5 bits keeps.
const PRIORITY_MASK: u8 = 0xf8;

/// What `vcpu_run` takes about interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The list registers; 0 is unused.
    pub lists: [u64; LIST_REGISTERS],
    /// The control word.
    pub control: u64,
}

impl Vgic {
    /// Fills the list registers of `vcpu`: what is active there, then what is pending by priority and id. If
    /// more is pending than fits, asks for maintenance when they run empty.
    pub fn fill(&mut self, vcpu: usize) -> Entry {
        let mut chosen: [Option<(u16, usize)>; LIST_REGISTERS] = [None; LIST_REGISTERS];
        let mut more = false;
        for id in self.hot_ids(vcpu).filter(|id| *id != TIMER) {
            if let Some(rank) = self.rank(vcpu, id) {
                more |= insert(&mut chosen, (rank, id));
            }
        }
        let timer = *self.get(vcpu, TIMER);
        let mut control = u64::from(timer.priority & PRIORITY_MASK) << CONTROL_PRIORITY_SHIFT;
        control |= if self.timer_enabled(vcpu) { CONTROL_TIMER } else { 0 };
        control |= if more { CONTROL_UNDERFLOW } else { 0 };
        let lists = core::array::from_fn(|slot| chosen[slot].map_or(0, |(_, id)| self.list(vcpu, slot, id)));
        Entry { lists, control }
    }

    /// Order of an interrupt among those to be listed: active ones first, then by priority.
    fn rank(&self, vcpu: usize, id: usize) -> Option<u16> {
        let interrupt = self.get(vcpu, id);
        if !self.targets(vcpu, id) || interrupt.listed {
            None
        } else if interrupt.active {
            Some(0)
        } else {
            (self.enable_group_1 && interrupt.deliverable()).then_some(1 + u16::from(interrupt.priority))
        }
    }

    /// Puts interrupt `id` into list register `slot` of `vcpu`; the register's value.
    fn list(&mut self, vcpu: usize, slot: usize, id: usize) -> u64 {
        let enabled = self.enable_group_1;
        let interrupt = self.get_mut(vcpu, id);
        let allowed = interrupt.enabled && interrupt.group_1 && enabled;
        // An active level-sensitive interrupt is sampled again when it ends.
        let pending = allowed && interrupt.pending() && !(interrupt.level && interrupt.active);
        let took_latch = pending && core::mem::take(&mut interrupt.latch);
        interrupt.listed = true;
        interrupt.owner = vcpu as u8;
        let mut value = GROUP_1 | u64::from(interrupt.priority & PRIORITY_MASK) << PRIORITY_SHIFT | id as u64;
        value |= if pending { PENDING } else { 0 };
        value |= if interrupt.active { ACTIVE } else { 0 };
        value |= if interrupt.level { END_MAINTENANCE } else { 0 };
        self.redistributors[vcpu].listed[slot] = Some((id as u8, took_latch));
        value
    }

    /// Takes back the list registers with which `vcpu` left.
    pub fn fold(&mut self, vcpu: usize, lists: [u64; LIST_REGISTERS]) {
        for (slot, value) in lists.into_iter().enumerate() {
            let Some((id, took_latch)) = self.redistributors[vcpu].listed[slot].take() else { continue };
            let id = usize::from(id);
            let interrupt = self.get_mut(vcpu, id);
            interrupt.listed = false;
            interrupt.active = value & ACTIVE != 0;
            interrupt.latch |= took_latch && value & PENDING != 0;
            self.mark(vcpu, id);
        }
    }
}

/// Keeps the lowest of all in order; true if one had to be left out.
fn insert(chosen: &mut [Option<(u16, usize)>; LIST_REGISTERS], item: (u16, usize)) -> bool {
    let mut carried = Some(item);
    for slot in chosen {
        match (*slot, carried) {
            (Some(held), Some(candidate)) if candidate < held => {
                *slot = Some(candidate);
                carried = Some(held);
            }
            (None, _) => {
                *slot = carried.take();
            }
            _ => {}
        }
    }
    carried.is_some()
}
