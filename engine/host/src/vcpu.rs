//! vCPUs of the fake machine: entered, but never executing anything. Trust label: TOOL.
//!
//! A fake CPU always has a physical interrupt pending, so `vcpu_run` exits with class IRQ at once; exceptions and
//! interrupts are handed in from outside, with the syndrome that the hardware would give.

use std::cell::Cell;
use std::mem::{size_of, transmute};

use bulkhead_abi::{FRAME_SIZE, exit, status};
use bulkhead_core::addr::{Frame, VmId};
use bulkhead_core::call::dispatch::Registers;
use bulkhead_core::owner::RunState;
use bulkhead_core::vcpu::exit::{self as decide, Decision};
use bulkhead_core::vcpu::processor::{El1Exception, Syndrome};
use bulkhead_core::vcpu::run::{Run, claim, release};
use bulkhead_core::vcpu::{Processor, VcpuContext};
use bulkhead_core::vm::Field;
use bulkhead_core::{Hardware, Outcome};

use crate::hardware::Cpu;
use crate::trace::Kind;

/// `ESR_EL2.EC` of an HVC instruction executed in AArch64 state (Arm ARM DDI 0487, D24.2.40).
const EC_HVC: u64 = 0x16 << 26;
/// INTID that says that no interrupt is pending (IHI 0069, 2.2.1).
const NO_INTERRUPT: u64 = 1023;

/// Registers of a fake CPU that exit decisions read, as a test chooses them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CpuRegisters {
    /// `VBAR_EL1` of the domain that is loaded.
    pub vector_base: u64,
    /// `SCTLR_EL1` of the domain that is loaded.
    pub system_control: u64,
    /// Every ID register of the hardware.
    pub id_registers: u64,
    /// `CNTV_CTL_EL0` of the VM.
    pub timer_control: u64,
    /// `CNTV_CVAL_EL0` of the VM.
    pub timer_compare: u64,
    /// Not 0: the CPU has no random number right now (`RNDR` sets PSTATE.Z).
    pub random_fails: u64,
}

/// What a fake CPU's registers hold that exit decisions read or write.
#[derive(Debug, Clone, Copy)]
pub struct El1State {
    pub(crate) syndrome: Syndrome,
    pub(crate) pending: u64,
    pub(crate) timer_lr: u64,
    pub(crate) registers: CpuRegisters,
}

impl El1State {
    /// No interrupt, a timer that is off, ID registers of all ones; all else is zero.
    pub const RESET: Self = Self {
        syndrome: Syndrome { esr: 0, far: 0, hpfar: 0 },
        pending: NO_INTERRUPT,
        timer_lr: 0,
        registers: CpuRegisters {
            vector_base: 0,
            system_control: 0,
            id_registers: u64::MAX,
            timer_control: 0,
            timer_compare: 0,
            random_fails: 0,
        },
    };
}

impl<'m> Cpu<'m> {
    /// `vcpu_run` with its arguments and results in `registers`.
    pub(crate) fn vcpu_run(self, registers: &mut Registers) {
        let [_, vcpu, reply, list0, list1, list2, control, ..] = *registers;
        let run = Run { vcpu, reply, lists: [list0, list1, list2], control };
        match claim(self, &run, self.loaded()) {
            Err(Outcome { status, detail }) => registers[..2].copy_from_slice(&[status, detail]),
            Ok(claimed) => {
                if claimed.is_new {
                    self.unload(RunState::RUNNABLE);
                    self.machine.loaded[self.index as usize].set(Some(claimed.frame));
                }
                let deadline = self.with_context(claimed.frame, |context| {
                    context.control = control;
                    decide::complete(context, reply);
                    decide::deliver_timer(self, context);
                    decide::deadline(self, context)
                });
                let answer = [status::SUCCESS, exit::IRQ, 0, 0, 0, list0, list1, list2, 0, deadline];
                registers[..answer.len()].copy_from_slice(&answer);
            }
        }
    }

    /// Unloads the vCPU that is loaded here, if any, leaving it in state `run`.
    pub(crate) fn unload(self, run: RunState) {
        if let Some(frame) = self.machine.loaded[self.index as usize].take() {
            release(self, frame, run);
        }
    }

    /// A call of vCPU 0 of `vm`: its x0 to x17 become `registers`, which then receive the answer.
    pub(crate) fn vm_call(self, vm: VmId, registers: &mut Registers) -> Decision {
        let frame = self.vm_word(vm, Field::vcpu(0)).checked_sub(1).expect("the VM has vCPU 0");
        self.with_context(Frame(frame), |context| {
            context.x[..18].copy_from_slice(registers);
            // The preferred return address of an HVC is that of the next instruction (Arm ARM DDI 0487, D1.3).
            context.pc = context.pc.wrapping_add(4);
        });
        let decision = self.exception(Frame(frame), Syndrome { esr: EC_HVC, far: 0, hpfar: 0 });
        self.with_context(Frame(frame), |context| registers.copy_from_slice(&context.x[..18]));
        decision
    }

    /// A synchronous exception from the vCPU whose context is `frame`.
    pub(crate) fn exception(self, frame: Frame, syndrome: Syndrome) -> Decision {
        self.el1_cell().set(El1State { syndrome, ..self.el1() });
        self.exit(frame, decide::synchronous)
    }

    /// The physical interrupt `intid` while the vCPU whose context is `frame` ran.
    pub(crate) fn interrupt(self, frame: Frame, intid: u64) -> Decision {
        self.el1_cell().set(El1State { pending: intid, ..self.el1() });
        self.exit(frame, decide::interrupt)
    }

    /// An SError interrupt while the vCPU whose context is `frame` ran.
    pub(crate) fn system_error(self, frame: Frame) -> Decision {
        self.exit(frame, decide::system_error)
    }

    fn exit(self, frame: Frame, decide: impl FnOnce(Self, &mut VcpuContext) -> Decision) -> Decision {
        let in_vm_exit = &self.machine.in_vm_exit[self.index as usize];
        in_vm_exit.set(true);
        let decision = self.with_context(frame, |context| decide(self, context));
        in_vm_exit.set(false);
        if matches!(decision, Decision::Off(_)) && self.loaded() == Some(frame) {
            self.unload(RunState::OFF);
        }
        decision
    }

    /// Chooses what this CPU's registers hold.
    pub(crate) fn set_registers(self, registers: CpuRegisters) {
        self.el1_cell().set(El1State { registers, ..self.el1() });
    }

    pub(crate) fn in_vm_exit(self) -> bool {
        self.machine.in_vm_exit[self.index as usize].get()
    }

    fn loaded(self) -> Option<Frame> {
        self.machine.loaded[self.index as usize].get()
    }

    /// Lets `change` work on a copy of the context in `frame`, which then goes back.
    #[allow(unsafe_code, reason = "a context is plain words in fake RAM")]
    fn with_context<T>(self, frame: Frame, change: impl FnOnce(&mut VcpuContext) -> T) -> T {
        const { assert!(size_of::<VcpuContext>() <= FRAME_SIZE as usize) };
        let content = self.content(frame);
        // SAFETY: the frame is 4096 initialised, page-aligned bytes in cells; every bit pattern is a valid context,
        // which consists of u64 only. Nothing else uses them while the copy is made.
        let mut context = unsafe { content.as_ptr().cast::<VcpuContext>().read() };
        let result = change(&mut context);
        // SAFETY: a context consists of u64 only, as many as its size says.
        let words: [u64; size_of::<VcpuContext>() / 8] = unsafe { transmute(context) };
        for (index, word) in (0..).zip(words) {
            if content.at(index).get() != word {
                content.at(index).set(word);
            }
        }
        result
    }

    fn el1_cell(self) -> &'m Cell<El1State> {
        &self.machine.el1[self.index as usize]
    }

    pub(crate) fn el1(self) -> El1State {
        self.el1_cell().get()
    }
}

impl Processor for Cpu<'_> {
    fn syndrome(self) -> Syndrome {
        self.el1().syndrome
    }
    fn vector_base(self) -> u64 {
        self.el1().registers.vector_base
    }
    fn system_control(self) -> u64 {
        self.el1().registers.system_control
    }
    fn set_exception(self, exception: El1Exception) {
        let El1Exception { elr, spsr, esr, far } = exception;
        self.note(Kind::SetException, [elr, spsr, esr, far]);
    }
    fn id_register(self, _crm: u64, _op2: u64) -> u64 {
        self.el1().registers.id_registers
    }
    fn set_debug_register(self, crm: u64, op2: u64, value: u64) {
        self.note(Kind::SetDebugRegister, [crm, op2, value]);
    }
    fn virtual_timer(self) -> (u64, u64) {
        let CpuRegisters { timer_control, timer_compare, .. } = self.el1().registers;
        (timer_control, timer_compare)
    }

    fn pending_interrupt(self) -> u64 {
        self.el1().pending
    }
    fn acknowledge_interrupt(self) {
        self.note(Kind::AcknowledgeInterrupt, [self.el1().pending]);
        self.el1_cell().set(El1State { pending: NO_INTERRUPT, ..self.el1() });
    }
    fn set_timer_list_register(self, value: u64) {
        self.note(Kind::SetTimerListRegister, [value]);
        self.el1_cell().set(El1State { timer_lr: value, ..self.el1() });
    }
    fn timer_list_register(self) -> u64 {
        self.el1().timer_lr
    }
}
