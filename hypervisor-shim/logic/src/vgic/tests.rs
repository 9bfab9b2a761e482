//! Tests of the virtual GIC (trust label: CHECKED).

extern crate std;
use super::*;
use bulkhead_abi::{CONTROL_TIMER, CONTROL_UNDERFLOW};

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const UART: usize = 33;

/// A controller as Linux sets it up: all of group 1, priority 0xa0, SPIs routed to vCPU 0.
fn ready(vcpus: usize) -> Vgic {
    let mut gic = Vgic::new(vcpus);
    gic.distributor_write(0, 4, 0x12);
    for offset in (4..16).step_by(4) {
        gic.distributor_write(0x80 + offset, 4, 0xffff_ffff);
    }
    for offset in (32..128).step_by(4) {
        gic.distributor_write(0x400 + offset, 4, 0xa0a0_a0a0);
    }
    for vcpu in 0..vcpus as u64 {
        let base = vcpu * 0x2_0000;
        gic.redistributor_write(base + 0x14, 4, 0);
        gic.redistributor_write(base + 0x1_0080, 4, 0xffff_ffff);
        gic.redistributor_write(base + 0x1_0100, 4, 0xffff);
    }
    gic.take_notifications();
    gic
}

fn enable(gic: &mut Vgic, id: usize) {
    gic.distributor_write(0x100 + id as u64 / 32 * 4, 4, 1 << (id % 32));
}

fn id_of(list: u64) -> usize {
    (list & 0xffff_ffff) as usize
}

#[test]
fn identification_and_sizes() {
    let gic = ready(3);
    assert_eq!(gic.distributor_read(0xffe8, 4) >> 4 & 0xf, 3);
    assert_eq!((gic.distributor_read(4, 4) & 0x1f) + 1, 4);
    assert_eq!(gic.distributor_read(0, 4), 0x52);
    for vcpu in 0..3 {
        let typer = gic.redistributor_read(vcpu * 0x2_0000 + 8, 8);
        assert_eq!((typer >> 32, typer >> 8 & 0xffff, typer >> 4 & 1), (vcpu, vcpu, u64::from(vcpu == 2)));
        assert_eq!(gic.redistributor_read(vcpu * 0x2_0000 + 0xffe8, 4) >> 4 & 0xf, 3);
    }
    assert_eq!(gic.redistributor_read(3 * 0x2_0000 + 8, 8), 0);
    assert_eq!(Vgic::new(1).redistributor_read(0x14, 4), 6);
}

#[test]
fn a_level_interrupt_comes_again_while_its_line_is_high() {
    let mut gic = ready(1);
    gic.set_line(UART, true);
    assert!(!gic.has_deliverable(0));
    enable(&mut gic, UART);
    assert_eq!(gic.take_notifications(), 1);
    let list = gic.fill(0).lists[0];
    assert_eq!((id_of(list), list & (PENDING | ACTIVE)), (UART, PENDING));
    assert_eq!((list >> 48 & 0xff, list >> 41 & 1, list >> 60 & 3), (0xa0, 1, 1));
    gic.fold(0, [list & !PENDING | ACTIVE, 0, 0]);
    assert!(!gic.has_deliverable(0), "active");
    let list = gic.fill(0).lists[0];
    assert_eq!(list & (PENDING | ACTIVE), ACTIVE);
    gic.fold(0, [list & !ACTIVE, 0, 0]);
    assert!(gic.has_deliverable(0), "the line is still high");
    gic.set_line(UART, false);
    assert!(!gic.has_deliverable(0));
    assert_eq!(gic.fill(0).lists, [0; 3]);
}

#[test]
fn an_edge_that_comes_while_it_is_listed_is_not_lost() {
    let mut gic = ready(2);
    gic.send_sgi(1, 0b1 | 5 << 24);
    assert_eq!(gic.take_notifications(), 1);
    let list = gic.fill(0).lists[0];
    assert_eq!((id_of(list), list & PENDING, list >> 41 & 1), (5, PENDING, 0));
    gic.send_sgi(1, 0b1 | 5 << 24);
    assert_eq!(gic.take_notifications(), 1);
    gic.fold(0, [list & !PENDING, 0, 0]);
    assert!(gic.has_deliverable(0));
    let list = gic.fill(0).lists[0];
    gic.fold(0, [list & !PENDING, 0, 0]);
    assert!(!gic.has_deliverable(0));
}

#[test]
fn what_was_listed_but_not_taken_stays_pending() {
    let mut gic = ready(1);
    gic.send_sgi(0, 1);
    let list = gic.fill(0).lists[0];
    gic.fold(0, [list, 0, 0]);
    assert!(gic.has_deliverable(0));
}

#[test]
fn sgi_targets() {
    let targets = |value: u64| {
        let mut gic = ready(8);
        gic.send_sgi(2, value);
        gic.take_notifications()
    };
    assert_eq!(targets(0b1000_0101), 0b1000_0101);
    assert_eq!(targets(1 << 40), 0b1111_1011);
    assert_eq!(targets(0xff | 1 << 16), 0);
    assert_eq!(targets(0xff | 1 << 44), 0);
}

#[test]
fn more_than_three_go_by_priority_with_maintenance_when_they_run_empty() {
    let mut gic = ready(1);
    for (n, priority) in [0xc0_u64, 0x80, 0xa0, 0x20, 0x80].into_iter().enumerate() {
        let id = 40 + n;
        gic.distributor_write(0x400 + id as u64, 1, priority);
        enable(&mut gic, id);
        gic.set_line(id, true);
    }
    let entry = gic.fill(0);
    assert_eq!(entry.lists.map(id_of), [43, 41, 44]);
    assert_ne!(entry.control & CONTROL_UNDERFLOW, 0);
    gic.fold(0, entry.lists.map(|list| list & !PENDING | ACTIVE));
    for id in [41, 43, 44] {
        gic.set_line(id, false);
    }
    let entry = gic.fill(0);
    assert_eq!(entry.lists.map(id_of), [41, 43, 44], "active ones keep their registers");
    gic.fold(0, [0; 3]);
    let entry = gic.fill(0);
    assert_eq!(entry.lists.map(id_of), [42, 40, 0]);
    assert_eq!(entry.control & CONTROL_UNDERFLOW, 0);
}

#[test]
fn the_timer_is_the_engines_and_only_its_enable_and_priority_go_there() {
    let mut gic = ready(2);
    assert_eq!(gic.fill(1).control, 0);
    gic.redistributor_write(0x2_0000 + 0x1_0400 + 27, 1, 0x90);
    gic.redistributor_write(0x2_0000 + 0x1_0100, 4, 1 << 27);
    assert_eq!(gic.fill(1).control, CONTROL_TIMER | 0x90 << 8);
    gic.redistributor_write(0x2_0000 + 0x1_0200, 4, 1 << 27);
    assert_eq!(gic.fill(1).lists, [0; 3]);
    assert_eq!(gic.fill(0).control, 0);
    gic.redistributor_write(0x2_0000 + 0x1_0180, 4, 1 << 27);
    assert_eq!(gic.fill(1).control, 0x90 << 8);
}

#[test]
fn routing_follows_irouter_and_an_active_interrupt_stays() {
    let mut gic = ready(4);
    enable(&mut gic, UART);
    gic.distributor_write(0x6000 + 8 * UART as u64, 8, 2);
    gic.set_line(UART, true);
    assert_eq!(gic.take_notifications(), 0b100);
    assert!(gic.has_deliverable(2) && !gic.has_deliverable(0));
    let list = gic.fill(2).lists[0];
    assert_eq!(gic.fill(0).lists, [0; 3]);
    gic.fold(2, [list & !PENDING | ACTIVE, 0, 0]);
    gic.distributor_write(0x6000 + 8 * UART as u64, 4, 0);
    assert_eq!(gic.fill(0).lists, [0; 3]);
    let list = gic.fill(2).lists[0];
    assert_eq!(id_of(list), UART);
    gic.fold(2, [list & !ACTIVE, 0, 0]);
    assert!(gic.has_deliverable(0) && !gic.has_deliverable(2));
    gic.distributor_write(0x6000 + 8 * UART as u64, 8, 77);
    assert!(!gic.has_deliverable(0));
    gic.distributor_write(0x6000 + 8 * UART as u64, 8, 1 << 31);
    assert!(gic.has_deliverable(0));
}

#[test]
fn registers_read_back_and_out_of_range_ones_are_zero() {
    let mut gic = ready(2);
    gic.distributor_write(0xc08, 4, 0xaaaa_aaaa);
    assert_eq!(gic.distributor_read(0xc08, 4), 0xaaaa_aaaa);
    assert_eq!(gic.distributor_read(0xc00, 4), 0);
    assert_eq!(gic.redistributor_read(0x1_0c00, 4), 0xaaaa_aaaa);
    gic.redistributor_write(0x1_0c00, 4, 0);
    assert_eq!(gic.redistributor_read(0x1_0c00, 4), 0xaaaa_aaaa, "SGIs are edges");
    assert_eq!(gic.distributor_read(0x80, 4), 0);
    assert_eq!(gic.distributor_read(0x421, 1), 0xa0);
    for offset in (0..0x1_0000).step_by(4) {
        gic.distributor_write(offset, 4, 0xffff_ffff);
        let _ = (gic.distributor_read(offset, 8), gic.distributor_read(offset + 3, 1));
    }
    for offset in (0..0x5_0000).step_by(4) {
        gic.redistributor_write(offset, 8, u64::MAX);
        let _ = (gic.redistributor_read(offset, 4), gic.redistributor_read(offset + 1, 2));
    }
    for vcpu in 0..2 {
        gic.fill(vcpu);
        gic.fold(vcpu, [u64::MAX; 3]);
    }
}

/// The checks of the engine before it enters a vCPU.
fn is_sound(lists: &[u64; 3]) -> bool {
    let allowed = PENDING | ACTIVE | 1 << 60 | 0xff << 48 | 1 << 41 | 0xffff_ffff;
    let sound = |list: &u64| {
        let well_formed = list & !allowed == 0 && list & (PENDING | ACTIVE) != 0 && list >> 60 & 1 == 1;
        *list == 0 || well_formed && id_of(*list) < 1020 && id_of(*list) != TIMER
    };
    let twice =
        |one: usize, other: usize| lists[one] != 0 && lists[other] != 0 && id_of(lists[one]) == id_of(lists[other]);
    lists.iter().all(sound) && !twice(0, 1) && !twice(0, 2) && !twice(1, 2)
}

#[test]
fn whatever_a_vm_does_the_engine_accepts_the_lists_and_no_interrupt_is_listed_twice() {
    const VCPUS: usize = 4;
    let mut gic = ready(VCPUS);
    let mut running: [Option<[u64; 3]>; VCPUS] = [None; VCPUS];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |bound: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % bound
    };
    for _ in 0..200_000 {
        let vcpu = random(VCPUS as u64) as usize;
        match random(6) {
            0 => gic.set_line(random(140) as usize, random(2) == 0),
            1 => gic.send_sgi(vcpu, random(1 << 28) | random(2) << 40),
            2 => gic.distributor_write(random(0x700) * 4 % 0x1000, 4, random(1 << 31)),
            3 => gic.redistributor_write(vcpu as u64 * 0x2_0000 + 0x1_0000 + random(0x400) * 4, 4, random(1 << 31)),
            4 => gic.distributor_write(0x6000 + random(128) * 8, 8, random(6)),
            _ => match running[vcpu].take() {
                None => {
                    let lists = gic.fill(vcpu).lists;
                    assert!(is_sound(&lists), "{lists:x?}");
                    for other in running.iter().flatten().flatten().filter(|list| **list != 0 && id_of(**list) >= 32) {
                        assert!(lists.iter().all(|list| *list == 0 || id_of(*list) != id_of(*other)));
                    }
                    running[vcpu] = Some(lists);
                }
                Some(lists) => gic.fold(vcpu, lists.map(|list| list & !(random(4) << 62))),
            },
        }
    }
}
