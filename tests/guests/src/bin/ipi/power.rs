//! PSCI with two CPUs: on, off, on again, suspended.

use crate::cpus::Cpu::{First, Second as Other};
use crate::cpus::settle;
use stasis_guests::psci::{AFFINITY_INFO, CPU_ON, CPU_SUSPEND, hvc};
use stasis_guests::second::Second;
use stasis_guests::{gic, msr, println, timer};

const OFF: i32 = 1;

fn affinity_info(mpidr: u64, level: u64) -> i32 {
    hvc(u64::from(AFFINITY_INFO), [mpidr, level, 0]) as i32
}

/// Starts the second CPU for all that follows.
pub fn on() {
    println!("AFFINITY_INFO: {} {}", affinity_info(0, 0), affinity_info(1, 0));
    println!("of an absent CPU: {} {}", affinity_info(2, 0), affinity_info(1 << 8, 0));
    println!("CPU_ON of this CPU: {}", hvc(u64::from(CPU_ON), [0, 0x4000_0000, 0]) as i32);
    println!("of an absent one: {}", hvc(u64::from(CPU_ON), [2, 0x4000_0000, 0]) as i32);
    println!("CPU_ON: {}", Second::on(0x1234_5678_9abc));
    println!("context {:#x}", Second::context());
    println!("AFFINITY_INFO: {}, again: {}", affinity_info(1, 0), Second::on(0));
}

/// Prints the rest.
pub fn probe() {
    off_and_on();
    suspend();
    timers();
}

fn wait_until_off() -> i32 {
    for _ in 0..1000 {
        if affinity_info(1, 0) == OFF {
            return OFF;
        }
        settle();
    }
    affinity_info(1, 0)
}

/// What is sent to a CPU that is off waits for it.
fn off_and_on() {
    const SGI: u32 = 7;
    const SPI: u32 = 64;
    for round in 0..3 {
        Second::off();
        println!("CPU_OFF: AFFINITY_INFO {}", wait_until_off());
        First.write(gic::GICD_SGIR, 2 << 16 | SGI);
        crate::cpus::set_targets(SPI, 2);
        First.set(gic::GICD_ISPENDR, SPI);
        println!("off: pending {}", gic::bit(gic::GICD_ISPENDR, SPI));
        println!("CPU_ON: {}, context {:#x}", Second::on(round), Second::context());
        println!(
            "on: GICC_CTLR {:#x} PMR {:#x} BPR {}",
            Other.read(gic::GICC_CTLR),
            Other.read(gic::GICC_PMR),
            Other.read(gic::GICC_BPR)
        );
        for _ in 0..2 {
            let iar = Other.take();
            println!("taken {iar:#x}");
            Other.end(iar);
        }
    }
}

fn standby(_: u64) -> u64 {
    hvc(u64::from(CPU_SUSPEND), [0; 3])
}

/// CPU_SUSPEND, ended by an SGI and by the CPU's own timer.
fn suspend() {
    for _ in 0..3 {
        Second::begin(standby, 0);
        settle();
        First.write(gic::GICD_SGIR, 2 << 16 | 4);
        println!("CPU_SUSPEND: {}", Second::answer() as i32);
        let iar = Other.take();
        println!("taken {iar:#x}");
        Other.end(iar);
    }
}

/// Each has a timer of its own.
fn timers() {
    for cpu in [First, Other] {
        cpu.set(gic::GICD_ISENABLER, timer::VIRTUAL);
        cpu.call(
            |_| {
                msr!("CNTV_CVAL_EL0", 0);
                msr!("CNTV_CTL_EL0", timer::ENABLE);
                0
            },
            0,
        );
        let iar = cpu.take();
        println!(
            "timer of {}: taken {iar}, by the other {}",
            cpu as u32,
            cpu.other().take_nothing()
        );
        println!(
            "active: {:#x} {:#x}",
            First.read(gic::GICD_ISACTIVER),
            Other.read(gic::GICD_ISACTIVER)
        );
        cpu.call(
            |_| {
                msr!("CNTV_CTL_EL0", 0);
                0
            },
            0,
        );
        cpu.end(iar);
        cpu.set(gic::GICD_ICENABLER, timer::VIRTUAL);
    }
}
