//! GICD_SGIR with all its filters, from both CPUs; sources; banked registers.

use crate::cpus::Cpu::{self, First, Second};
use stasis_guests::{gic, println};

const SGI: u32 = 5;
/// The filters of GICD_SGIR, 4.3.15, and a mask.
const FILTERS: [(&str, u32); 12] = [
    ("list, empty", 0),
    ("list, first", 1 << 16),
    ("list, second", 2 << 16),
    ("list, both", 3 << 16),
    ("list, absent CPUs", 0xfc << 16),
    ("list, all", 0xff << 16),
    ("all but self", 1 << 24),
    ("all but self, with a list", 1 << 24 | 0xff << 16),
    ("self", 2 << 24),
    ("self, with a list", 2 << 24 | 0xff << 16),
    ("reserved", 3 << 24),
    ("reserved, with a list", 3 << 24 | 0xff << 16),
];

/// Prints it.
pub fn probe() {
    banks();
    for from in [First, Second] {
        for (name, filter) in FILTERS {
            from.write(gic::GICD_SGIR, filter | SGI);
            println!("SGIR {name}, from {}: {}", from as u32, pending());
            for cpu in [First, Second] {
                cpu.write(gic::GICD_CPENDSGIR + 4, !0);
            }
        }
    }
    println!("cleared: {}", pending());
    sources(First);
    sources(Second);
    by_bytes();
}

/// Returns what both see of the SGI.
fn pending() -> impl core::fmt::Display {
    struct Pending([(u32, u32); 2]);
    impl core::fmt::Display for Pending {
        fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
            for (cpu, (pending, sources)) in self.0.iter().enumerate() {
                write!(f, " CPU {cpu} ISPENDR0 {pending:#x} SPENDSGIR1 {sources:#x}")?;
            }
            Ok(())
        }
    }
    Pending(
        [First, Second]
            .map(|cpu| (cpu.read(gic::GICD_ISPENDR) & 0xffff, cpu.read(gic::GICD_SPENDSGIR + 4))),
    )
}

/// Registers that each CPU has of its own.
fn banks() {
    println!("TYPER {:#x}", First.read(gic::GICD_TYPER));
    Second.set(gic::GICD_ISENABLER, 27);
    Second.write(gic::GICD_IPRIORITYR + 24, 0x1020_3040);
    Second.write(gic::GICC_PMR, 0xc0);
    for cpu in [First, Second] {
        println!(
            "CPU {}: ISENABLER0 {:#x} IPRIORITYR6 {:#x} ITARGETSR0 {:#x} PMR {:#x} IGROUPR0 {:#x}",
            cpu as u32,
            cpu.read(gic::GICD_ISENABLER),
            cpu.read(gic::GICD_IPRIORITYR + 24),
            cpu.read(gic::GICD_ITARGETSR),
            cpu.read(gic::GICC_PMR),
            cpu.read(gic::GICD_IGROUPR)
        );
    }
    Second.write(gic::GICC_PMR, 0xf8);
    Second.set(gic::GICD_ICENABLER, 27);
}

/// One SGI from both: each is delivered, with its source; also while it is active.
fn sources(to: Cpu) {
    let name = to as u32;
    for from in [Second, First] {
        from.write(gic::GICD_SGIR, to.mask() << 16 | SGI);
    }
    let first = to.take();
    println!("to {name}: taken {first:#x}, {}", pending());
    for from in [First, Second] {
        from.write(gic::GICD_SGIR, to.mask() << 16 | SGI);
    }
    println!("to {name}: sent again, {}", pending());
    println!("to {name}: while it is active {:#x}", to.take_nothing());
    to.end(first);
    for _ in 0..2 {
        let next = to.take();
        println!("to {name}: taken {next:#x}, {}", pending());
        to.end(next);
    }
    println!("to {name}: then {:#x}", to.take_nothing());
}

/// Sources that are set and cleared one by one.
fn by_bytes() {
    Second.write(gic::GICD_SPENDSGIR + 4, 0x0100);
    println!("~ by word: {}", pending());
    Second.write(gic::GICD_CPENDSGIR + 4, !0);
    println!("cleared: {}", pending());
    for (bank, sources) in [(gic::GICD_SPENDSGIR, 3), (gic::GICD_CPENDSGIR, 1)] {
        Second.write_byte(bank + SGI as usize, sources);
        println!("by byte: {}", pending());
    }
    let iar = Second.take();
    println!("taken {iar:#x}");
    Second.end(iar);
}
