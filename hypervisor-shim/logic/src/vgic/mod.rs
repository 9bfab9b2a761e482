//! The GICv3 that a VM sees: distributor, redistributors, and the list registers that stand for its CPU
//! interfaces (trust label: UNTRUSTED).
//!
//! Source: Arm IHI 0069H. One security state (`GICD_CTLR.DS` = 1), affinity routing always on, no LPIs;
//! Aff0 of a vCPU is its index. Only group 1 is delivered. The virtual timer (PPI 27) is delivered by the
//! engine; the register state of its enable and priority goes there with each `vcpu_run`.
//!
//! Invariants: an interrupt is in a list register of at most one vCPU (`listed`); while it is, its latch holds
//! only what came since. `hot` has a bit for every interrupt that is pending or active, and may have more.

mod lists;
mod registers;

pub use lists::{Entry, LIST_REGISTERS};

use bulkhead_abi::VCPUS_MAX;

/// Interrupt ids: 32 private ones of each vCPU, the rest shared.
pub const INTIDS: usize = 128;
/// Private interrupts: 16 SGIs and 16 PPIs.
const PRIVATE: usize = 32;
const SHARED: usize = INTIDS - PRIVATE;
/// Interrupt id of the virtual timer.
pub const TIMER: usize = 27;

/// State of one interrupt.
#[derive(Debug, Clone, Copy)]
struct Interrupt {
    enabled: bool,
    group_1: bool,
    /// Pending by an edge, an SGI, or a write to ISPENDR.
    latch: bool,
    active: bool,
    /// Level-sensitive (`GICD_ICFGR`), and the level of its line.
    level: bool,
    line: bool,
    /// In a list register of `owner`.
    listed: bool,
    /// The vCPU where it is listed or active.
    owner: u8,
    priority: u8,
}

impl Interrupt {
    const fn new(level: bool) -> Self {
        Self {
            enabled: false,
            group_1: false,
            latch: false,
            active: false,
            level,
            line: false,
            listed: false,
            owner: 0,
            priority: 0,
        }
    }

    fn pending(&self) -> bool {
        self.latch || (self.level && self.line)
    }

    fn deliverable(&self) -> bool {
        self.pending() && self.enabled && self.group_1 && !self.active && !self.listed
    }
}

#[derive(Clone, Copy)]
struct Redistributor {
    interrupts: [Interrupt; PRIVATE],
    hot: u32,
    asleep: bool,
    /// What each list register was filled with: interrupt id, and whether that took its latch.
    listed: [Option<(u8, bool)>; LIST_REGISTERS],
}

impl Redistributor {
    const fn new() -> Self {
        let mut interrupts = [Interrupt::new(true); PRIVATE];
        let mut sgi = 0;
        while sgi < 16 {
            interrupts[sgi] = Interrupt::new(false);
            sgi += 1;
        }
        Self { interrupts, hot: 0, asleep: true, listed: [None; LIST_REGISTERS] }
    }
}

/// The interrupt controller of one VM.
pub struct Vgic {
    vcpus: usize,
    redistributors: [Redistributor; VCPUS_MAX],
    shared: [Interrupt; SHARED],
    routes: [u64; SHARED],
    shared_hot: u128,
    enable_group_0: bool,
    enable_group_1: bool,
    notify: u8,
}

impl Vgic {
    /// The controller of a VM with `vcpus` vCPUs after reset.
    #[must_use]
    pub const fn new(vcpus: usize) -> Self {
        Self {
            vcpus,
            redistributors: [Redistributor::new(); VCPUS_MAX],
            shared: [Interrupt::new(true); SHARED],
            routes: [0; SHARED],
            shared_hot: 0,
            enable_group_0: false,
            enable_group_1: false,
            notify: 0,
        }
    }

    /// Bit mask of the vCPUs that have got something to take since the last time this was asked.
    pub fn take_notifications(&mut self) -> u8 {
        core::mem::take(&mut self.notify)
    }

    /// Whether vCPU `vcpu` has an interrupt to take (which ends its WFI).
    #[must_use]
    pub fn has_deliverable(&self, vcpu: usize) -> bool {
        self.enable_group_1 && self.hot_ids(vcpu).any(|id| self.targets(vcpu, id) && self.get(vcpu, id).deliverable())
    }

    /// Whether the VM has enabled its virtual timer interrupt on `vcpu`.
    #[must_use]
    pub fn timer_enabled(&self, vcpu: usize) -> bool {
        let timer = self.get(vcpu, TIMER);
        self.enable_group_1 && timer.enabled && timer.group_1
    }

    /// Sets the level of the line of shared interrupt `id`.
    pub fn set_line(&mut self, id: usize, level: bool) {
        if !(PRIVATE..INTIDS).contains(&id) || self.get(0, id).line == level {
            return;
        }
        let interrupt = self.get_mut(0, id);
        interrupt.line = level;
        interrupt.latch |= level && !interrupt.level;
        self.changed(0, id);
    }

    /// vCPU `source` wrote `value` to `ICC_SGI1R_EL1` (section 12.2.16): makes the SGI pending at its targets.
    pub fn send_sgi(&mut self, source: usize, value: u64) {
        const ROUTING_MODE: u64 = 1 << 40;
        const HIGHER_AFFINITY: u64 = 0xff << 48 | 0xff << 32 | 0xff << 16;
        let id = (value >> 24 & 0xf) as usize;
        let first = (value >> 44 & 0xf) as usize * 16;
        for vcpu in 0..self.vcpus {
            let chosen = if value & ROUTING_MODE != 0 {
                vcpu != source
            } else {
                let bit = vcpu.wrapping_sub(first);
                value & HIGHER_AFFINITY == 0 && bit < 16 && value >> bit & 1 == 1
            };
            if chosen {
                self.get_mut(vcpu, id).latch = true;
                self.changed(vcpu, id);
            }
        }
    }

    fn get(&self, vcpu: usize, id: usize) -> &Interrupt {
        if id < PRIVATE { &self.redistributors[vcpu].interrupts[id] } else { &self.shared[id - PRIVATE] }
    }

    fn get_mut(&mut self, vcpu: usize, id: usize) -> &mut Interrupt {
        if id < PRIVATE { &mut self.redistributors[vcpu].interrupts[id] } else { &mut self.shared[id - PRIVATE] }
    }

    /// Ids of the interrupts that may be pending or active for `vcpu`, ascending.
    fn hot_ids(&self, vcpu: usize) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.shared_hot | u128::from(self.redistributors[vcpu].hot);
        core::iter::from_fn(move || {
            let id = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (id < INTIDS).then_some(id)
        })
    }

    /// Whether `id` is for `vcpu`: private, or shared and owned by it or routed to it.
    fn targets(&self, vcpu: usize, id: usize) -> bool {
        let interrupt = self.get(vcpu, id);
        if id < PRIVATE {
            true
        } else if interrupt.active || interrupt.listed {
            usize::from(interrupt.owner) == vcpu
        } else {
            self.route(id) == Some(vcpu)
        }
    }

    /// The vCPU that shared interrupt `id` is routed to; "any" (Interrupt_Routing_Mode) means the first.
    fn route(&self, id: usize) -> Option<usize> {
        const ANY: u64 = 1 << 31;
        let route = self.routes[id - PRIVATE];
        let vcpu = if route & ANY != 0 { 0 } else { usize::try_from(route).ok()? };
        (vcpu < self.vcpus).then_some(vcpu)
    }

    /// Keeps the bit of an interrupt in `hot`.
    fn mark(&mut self, vcpu: usize, id: usize) {
        let interrupt = self.get(vcpu, id);
        let hot = interrupt.pending() || interrupt.active;
        if id < PRIVATE {
            let word = &mut self.redistributors[vcpu].hot;
            *word = *word & !(1 << id) | u32::from(hot) << id;
        } else {
            self.shared_hot = self.shared_hot & !(1 << id) | u128::from(hot) << id;
        }
    }

    /// To be called when an interrupt has changed: keeps `hot` and notes whom it concerns.
    fn changed(&mut self, vcpu: usize, id: usize) {
        self.mark(vcpu, id);
        let interrupt = *self.get(vcpu, id);
        let target = if interrupt.listed {
            Some(usize::from(interrupt.owner))
        } else if id < PRIVATE {
            Some(vcpu)
        } else {
            self.route(id)
        };
        if let Some(target) = target.filter(|_| interrupt.listed || interrupt.deliverable()) {
            self.notify |= 1 << target;
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
