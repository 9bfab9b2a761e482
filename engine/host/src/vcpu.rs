//! vCPUs of the fake machine: entered, but never executing anything. Trust label: TOOL.
//!
//! A fake CPU always has a physical interrupt pending, so `vcpu_run` exits with class IRQ at once; exceptions are
//! handed in from outside, with the syndrome that the hardware would give. Entry and exit follow `engine/arch`
//! (`exits.rs`, `resident.rs`), but that registers which stay in a CPU are words of the context all the time, except
//! for the timer's list register.

use std::mem::{size_of, transmute};

use bulkhead_abi::{CONTROL_NO_PENDING, CONTROL_UNDERFLOW, FRAME_SIZE, exit, status};
use bulkhead_core::addr::{Frame, VmId};
use bulkhead_core::call::dispatch::Registers;
use bulkhead_core::owner::RunState;
use bulkhead_core::vcpu::exit::{
    Decision, Exit, complete, deadline, deliver_timer, interrupt, synchronous, system_error,
};
use bulkhead_core::vcpu::processor::{El1Exception, Syndrome};
use bulkhead_core::vcpu::registers::SwitchedRegisters;
use bulkhead_core::vcpu::run::{Claimed, Run, claim, release};
use bulkhead_core::vcpu::{Processor, VcpuContext, debug};
use bulkhead_core::vm::Field;
use bulkhead_core::{Hardware, Outcome};

use crate::hardware::Cpu;
use crate::trace::Kind;

/// `ESR_EL2.EC` of an HVC instruction executed in AArch64 state (Arm ARM DDI 0487, D24.2.40).
const EC_HVC: u64 = 0x16 << 26;
/// INTID that says that no interrupt is pending (IHI 0069, 2.2.1).
const NO_INTERRUPT: u64 = 1023;

/// Registers of a fake CPU that its surroundings may see and set between steps.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CpuRegisters {
    /// x0 to x17 of the host: where the last `vcpu_run` or the last exit has left them.
    pub host: [u64; 18],
    /// List registers of the host.
    pub lists: [u64; 3],
    /// The list register of the virtual timer.
    pub timer_list: u64,
    /// `ICH_MISR_EL2`.
    pub maintenance: u64,
    /// INTID of the highest-priority pending interrupt (`ICC_HPPIR1_EL1`).
    pub intid: u64,
    /// Frame index + 1 of the vCPU that is loaded, or 0.
    pub loaded: u64,
}

impl CpuRegisters {
    /// As boot leaves them.
    pub const RESET: Self =
        Self { host: [0; 18], lists: [0; 3], timer_list: 0, maintenance: 0, intid: NO_INTERRUPT, loaded: 0 };
}

/// What the hardware holds during the step of a VM.
#[derive(Debug, Clone, Copy)]
pub struct InStep {
    pub(crate) syndrome: Syndrome,
    pub(crate) el1: Option<SwitchedRegisters>,
}

impl InStep {
    /// Before the first step.
    pub const RESET: Self = Self { syndrome: Syndrome { esr: 0, far: 0, hpfar: 0 }, el1: None };
}

impl Cpu<'_> {
    /// `vcpu_run` with its arguments and results in `registers`.
    pub(crate) fn vcpu_run(self, registers: &mut Registers) {
        let [_, vcpu, reply, list0, list1, list2, control, ..] = *registers;
        let run = Run { vcpu, reply, lists: [list0, list1, list2], control };
        match claim(self, &run, self.loaded()) {
            Err(Outcome { status, detail }) => registers[..2].copy_from_slice(&[status, detail]),
            Ok(claimed) => {
                self.change_registers(|cpu| cpu.host = *registers);
                self.enter(&run, claimed);
                self.step(claimed.frame, |_| Decision::Exit(Exit::of(exit::IRQ)));
                *registers = self.registers().host;
            }
        }
    }

    fn enter(self, run: &Run, claimed: Claimed) {
        if claimed.is_new {
            self.unload(RunState::RUNNABLE);
            self.load(claimed.frame);
        }
        self.with_context(claimed.frame, |vcpu| {
            vcpu.control = run.control;
            complete(vcpu, run.reply);
            deliver_timer(self, vcpu);
        });
        let [list0, list1, list2] = run.lists;
        let maintenance = run.control & (CONTROL_UNDERFLOW | CONTROL_NO_PENDING);
        self.note(Kind::EnableVirtual, [list0, list1, list2, maintenance]);
        self.change_registers(|cpu| cpu.lists = run.lists);
    }

    fn load(self, frame: Frame) {
        self.with_context(frame, |vcpu| {
            debug::load(self, vcpu);
            self.set_timer_list_register(vcpu.resident.timer_lr);
        });
        self.change_registers(|cpu| cpu.loaded = frame.0 + 1);
    }

    /// Unloads the vCPU that is loaded here, if any, leaving it in state `run`.
    pub(crate) fn unload(self, run: RunState) {
        let Some(frame) = self.loaded() else { return };
        self.with_context(frame, |vcpu| vcpu.resident.timer_lr = self.timer_list_register());
        self.set_timer_list_register(0);
        self.change_registers(|cpu| cpu.loaded = 0);
        release(self, frame, run);
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
        self.hold(InStep { syndrome, ..InStep::RESET });
        self.step(frame, |vcpu| synchronous(self, vcpu))
    }

    /// The physical interrupt `intid` while the vCPU whose context is `frame` ran.
    pub(crate) fn interrupt(self, frame: Frame, intid: u64) -> Decision {
        self.change_registers(|cpu| cpu.intid = intid);
        self.step(frame, |vcpu| interrupt(self, vcpu))
    }

    /// An SError interrupt while the vCPU whose context is `frame` ran.
    pub(crate) fn system_error(self, frame: Frame) -> Decision {
        self.step(frame, |vcpu| system_error(self, vcpu))
    }

    /// An exception of the vCPU whose context is `frame`, decided by `decide`, up to the host's registers.
    fn step(self, frame: Frame, decide: impl FnOnce(&mut VcpuContext) -> Decision) -> Decision {
        let in_vm_exit = &self.machine.in_vm_exit[self.index as usize];
        in_vm_exit.set(true);
        let decision = self.with_context(frame, |vcpu| {
            let before = self.held();
            self.hold(InStep { el1: Some(vcpu.el1), ..before });
            let decision = decide(vcpu);
            if let Decision::Exit(exit) | Decision::Off(exit) = decision {
                self.report(vcpu, exit);
            }
            // MDSCR_EL1 changes by a trap alone, in the context.
            let mdscr_el1 = vcpu.el1.mdscr_el1;
            vcpu.el1 = SwitchedRegisters { mdscr_el1, ..self.el1() };
            self.hold(before);
            decision
        });
        in_vm_exit.set(false);
        if matches!(decision, Decision::Off(_)) && self.loaded() == Some(frame) {
            self.unload(RunState::OFF);
        }
        decision
    }

    /// Puts the exit into the host's x0 to x9.
    fn report(self, vcpu: &VcpuContext, exit: Exit) {
        let deadline = deadline(self, vcpu);
        self.change_registers(|cpu| {
            let ([data0, data1, data2], [list0, list1, list2]) = (exit.data, cpu.lists);
            let answer = [
                status::SUCCESS,
                exit.class,
                data0,
                data1,
                data2,
                list0,
                list1,
                list2,
                cpu.maintenance & 0xff,
                deadline,
            ];
            cpu.host[..answer.len()].copy_from_slice(&answer);
        });
    }

    pub(crate) fn in_vm_exit(self) -> bool {
        self.machine.in_vm_exit[self.index as usize].get()
    }

    fn loaded(self) -> Option<Frame> {
        self.registers().loaded.checked_sub(1).map(Frame)
    }

    fn registers(self) -> CpuRegisters {
        self.machine.cpus[self.index as usize].get()
    }

    fn change_registers(self, change: impl FnOnce(&mut CpuRegisters)) {
        let mut registers = self.registers();
        change(&mut registers);
        self.machine.cpus[self.index as usize].set(registers);
    }

    fn held(self) -> InStep {
        self.machine.in_step[self.index as usize].get()
    }

    fn hold(self, state: InStep) {
        self.machine.in_step[self.index as usize].set(state);
    }

    fn el1(self) -> SwitchedRegisters {
        self.held().el1.expect("a VM's registers are in the CPU")
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
}

impl Processor for Cpu<'_> {
    fn syndrome(self) -> Syndrome {
        self.held().syndrome
    }
    fn vector_base(self) -> u64 {
        self.el1().vbar_el1
    }
    fn system_control(self) -> u64 {
        self.el1().sctlr_el1
    }
    fn set_exception(self, exception: El1Exception) {
        let El1Exception { elr, spsr, esr, far } = exception;
        self.note(Kind::SetException, [elr, spsr, esr, far]);
        let el1 = SwitchedRegisters { elr_el1: elr, spsr_el1: spsr, esr_el1: esr, far_el1: far, ..self.el1() };
        self.hold(InStep { el1: Some(el1), ..self.held() });
    }
    fn id_register(self, crm: u64, op2: u64) -> u64 {
        self.machine.identification.get()[(crm << 3 | op2) as usize % 64]
    }
    fn set_debug_register(self, crm: u64, op2: u64, value: u64) {
        self.note(Kind::SetDebugRegister, [crm, op2, value]);
    }
    fn virtual_timer(self) -> (u64, u64) {
        let el1 = self.el1();
        (el1.cntv_ctl_el0, el1.cntv_cval_el0)
    }

    fn pending_interrupt(self) -> u64 {
        self.registers().intid
    }
    fn acknowledge_interrupt(self) {
        self.note(Kind::AcknowledgeInterrupt, [self.pending_interrupt()]);
        self.change_registers(|cpu| cpu.intid = NO_INTERRUPT);
    }
    fn set_timer_list_register(self, value: u64) {
        self.note(Kind::SetTimerListRegister, [value]);
        self.change_registers(|cpu| cpu.timer_list = value);
    }
    fn timer_list_register(self) -> u64 {
        self.registers().timer_list
    }
}
