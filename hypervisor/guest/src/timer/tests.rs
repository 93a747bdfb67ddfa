use proptest::prelude::*;
use stasis_state::timer::ISTATUS;

use super::*;

fn physical(ctl: u64, cval: u64) -> SystemRegisters {
    let mut system = SystemRegisters::default();
    *system.cntp_ctl_el0 = ctl;
    *system.cntp_cval_el0 = cval;
    system
}

fn read(system: &SystemRegisters, register: PhysicalRegister, now: u64) -> u64 {
    read_physical(system, register, now)
}

#[test]
fn a_timer_fires_when_the_counter_reaches_its_value() {
    let system = physical(ENABLE, 1000);
    let timer = Timer::physical_timer(&system);
    assert!(!timer.line(999));
    assert!(timer.line(1000));
    assert!(timer.line(u64::MAX));
    assert_eq!(read(&system, PhysicalRegister::Control, 999), ENABLE);
    assert_eq!(read(&system, PhysicalRegister::Control, 1000), ENABLE | ISTATUS);
}

#[test]
fn a_masked_timer_has_a_status_but_no_line() {
    let system = physical(ENABLE | IMASK, 1000);
    assert!(!Timer::physical_timer(&system).line(2000));
    assert_eq!(read(&system, PhysicalRegister::Control, 2000), ENABLE | IMASK | ISTATUS);
}

#[test]
fn a_disabled_timer_has_neither() {
    let system = physical(0, 1000);
    assert!(!Timer::physical_timer(&system).line(2000));
    assert_eq!(read(&system, PhysicalRegister::Control, 2000), 0);
}

#[test]
fn only_enable_and_mask_of_the_control_register_are_written() {
    let mut system = physical(0, 1000);
    write_physical(&mut system, PhysicalRegister::Control, u64::MAX, 0);
    assert_eq!(*system.cntp_ctl_el0, ENABLE | IMASK);
}

#[test]
fn the_timer_value_is_a_signed_distance() {
    let mut system = physical(ENABLE, 0);
    write_physical(&mut system, PhysicalRegister::TimerValue, 500, 1000);
    assert_eq!(*system.cntp_cval_el0, 1500);
    assert_eq!(read(&system, PhysicalRegister::TimerValue, 1400), 100);
    assert_eq!(read(&system, PhysicalRegister::TimerValue, 1501), 0xffff_ffff);

    // Bits above 31 do not count.
    write_physical(&mut system, PhysicalRegister::TimerValue, 0xabcd_ffff_ffff, 1000);
    assert_eq!(*system.cntp_cval_el0, 999);
    assert!(Timer::physical_timer(&system).line(1000));
}

#[test]
fn a_timer_value_set_before_time_began_wraps() {
    let mut system = physical(ENABLE, 0);
    write_physical(&mut system, PhysicalRegister::TimerValue, 0x8000_0000, 10);
    assert_eq!(*system.cntp_cval_el0, 10_u64.wrapping_sub(1 << 31));
    assert_eq!(read(&system, PhysicalRegister::TimerValue, 10), 0x8000_0000);
}

#[test]
fn there_is_a_deadline_only_for_a_line_that_will_rise() {
    let deadline = |ctl| Timer::physical_timer(&physical(ctl, 1000)).deadline(10);
    assert_eq!(deadline(ENABLE), Some(1000));
    assert_eq!(deadline(ENABLE | IMASK), None);
    assert_eq!(deadline(0), None);
    assert_eq!(Timer::physical_timer(&physical(ENABLE, 1000)).deadline(1000), None);
}

#[test]
fn settling_brings_the_status_of_both_timers_up_to_date() {
    let mut system = physical(ENABLE, 1000);
    *system.cntv_ctl_el0 = ENABLE | ISTATUS;
    *system.cntv_cval_el0 = 3000;
    settle(&mut system, 2000);
    assert_eq!(*system.cntp_ctl_el0, ENABLE | ISTATUS);
    assert_eq!(*system.cntv_ctl_el0, ENABLE);
    let settled = system.clone();
    settle(&mut system, 2000);
    assert_eq!(system, settled);
}

proptest! {
    #[test]
    fn the_line_rises_at_the_deadline_and_not_before(ctl in 0_u64..8, cval: u64, now: u64) {
        let timer = Timer { ctl, cval };
        if let Some(deadline) = timer.deadline(now) {
            prop_assert!(!timer.line(now) && !timer.line(deadline - 1) && timer.line(deadline));
        }
    }

    #[test]
    fn a_timer_value_reads_back_as_written(value: u32, now: u64) {
        let mut system = SystemRegisters::default();
        write_physical(&mut system, PhysicalRegister::TimerValue, value.into(), now);
        prop_assert_eq!(read_physical(&system, PhysicalRegister::TimerValue, now), value.into());
    }
}
