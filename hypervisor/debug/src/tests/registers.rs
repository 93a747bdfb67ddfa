//! Registers by gdb's numbers.

use gdbstub::arch::{RegId, Registers};

use stasis_state::register::Record;
use stasis_state::vcpu::SystemRegisters;

use super::Model;
use crate::machine::Machine;
use crate::registers::{General, Number};

const SP: usize = 31;
const CPSR: usize = 33;
const SP_EL0: usize = 68;
const SCTLR: usize = 76;
const CNTV_CTL: usize = 95;

fn number(raw: usize) -> Number {
    Number::from_raw_id(raw).unwrap().0
}

fn write(model: &mut Model, raw: usize, bytes: &[u8]) -> bool {
    (&mut &mut *model).with(0, |mut records| number(raw).write(&mut records, bytes)).unwrap()
}

fn read(model: &mut Model, raw: usize) -> u64 {
    let value = (&mut &mut *model).with(0, |records| number(raw).read(&records).unwrap()).unwrap();
    u64::from_le_bytes(*value.first_chunk().unwrap())
}

#[test]
fn sp_is_the_stack_pointer_that_pstate_selects() {
    let mut model = Model::new();
    *model.vcpus[0].system.sp_el0 = 1;
    *model.vcpus[0].system.sp_el1 = 2;
    for (mode, expected) in [(0b0101, 2), (0b0100, 1), (0b0000, 1)] {
        *model.vcpus[0].core.pstate = mode;
        assert_eq!(read(&mut model, SP), expected);
    }
    assert_eq!(read(&mut model, SP_EL0), 1);
}

#[test]
fn a_pstate_that_no_guest_has_is_refused() {
    let mut model = Model::new();
    for wrong in [0b1001u32, 0b1101, 0b0001, 0b1_0000, 1 << 27 | 0b0101] {
        assert!(!write(&mut model, CPSR, &wrong.to_le_bytes()), "{wrong:#x}");
    }
    assert!(write(&mut model, CPSR, &0x6000_03c4u32.to_le_bytes()));
    assert_eq!(*model.vcpus[0].core.pstate, 0x6000_03c4);
}

#[test]
fn a_register_that_el2_emulates_is_read_only() {
    let mut model = Model::new();
    assert!(write(&mut model, SCTLR, &5u64.to_le_bytes()));
    assert_eq!(*model.vcpus[0].system.sctlr_el1, 5);
    assert!(!write(&mut model, CNTV_CTL, &1u64.to_le_bytes()));
    assert!(!write(&mut model, SCTLR, &[0; 4]), "too short");
}

#[test]
fn what_is_read_at_once_can_be_written_at_once() {
    let mut model = Model::new();
    model.vcpus[0].core.x[30] = 30;
    model.vcpus[0].fp.v[31] = [1, 2];
    *model.vcpus[0].fp.fpcr = 3;
    let mut general = General::default();
    (&mut &mut model).with(0, |records| general.read(&records));
    assert_eq!(general.pc(), super::RAM);
    let mut other = Model::new();
    assert_eq!((&mut &mut other).with(0, |mut records| general.write(&mut records)), Some(true));
    assert_eq!(other.vcpus[0].core, model.vcpus[0].core);
    assert_eq!(other.vcpus[0].fp, model.vcpus[0].fp);
}

#[test]
fn there_is_no_register_behind_the_last() {
    let end = SP_EL0 + SystemRegisters::REGISTERS.len();
    for raw in [end, end + 1, usize::MAX] {
        assert_eq!(Number::from_raw_id(raw), None, "{raw}");
    }
    assert!(Number::from_raw_id(end - 1).is_some());
}
