//! Accesses to addresses that nothing answers: external aborts, and life goes on behind them.

use core::arch::asm;
use stasis_guests::exception::{Fault, catch, catch_call};
use stasis_guests::mmio::{read8, read16, read32, write8, write16, write32};
use stasis_guests::{gic, println, runtime, uart};

/// The second flash bank.
const FLASH: usize = 0x0400_0000;
/// Between the devices.
const HOLE: usize = 0x0b00_0000;
/// Behind any RAM that this guest is given.
const BEHIND_RAM: usize = 0x1_0000_0000;

fn print(what: &str, fault: Option<Fault>) {
    match fault {
        Some(fault) => println!("{what}: ESR {:#x} FAR {:#x}", fault.esr, fault.far),
        None => println!("{what}: no fault"),
    }
}

/// The level of the walk, the low two bits, is the hypervisor's guess.
fn print_walk(what: &str, fault: Option<Fault>) {
    print(what, fault.map(|fault| Fault { esr: fault.esr & !3, ..fault }));
}

/// Prints it.
pub fn probe() {
    for (name, address) in
        [("hole", HOLE), ("UART + 4 KiB", 0x0900_1000), ("hole, unaligned", HOLE + 0x7ff)]
    {
        print(
            name,
            catch(|| {
                let _ = read8(address);
            }),
        );
    }
    print(
        "read, half",
        catch(|| {
            let _ = read16(HOLE);
        }),
    );
    print(
        "read, word",
        catch(|| {
            let _ = read32(HOLE + 4);
        }),
    );
    print("write, byte", catch(|| write8(HOLE + 1, 1)));
    print("write, half", catch(|| write16(HOLE + 2, 1)));
    print("write, word", catch(|| write32(HOLE, 1)));
    println!("an empty flash: {:#x} {:#x}", read32(FLASH), read8(FLASH + 0x3ff_ffff));
    unusual();
    print(
        "~ alignment, of a device",
        catch(|| {
            let _ = read32(uart::UART + 2);
        }),
    );
    print(
        "~ alignment, where nothing is",
        catch(|| {
            let _ = read32(HOLE + 2);
        }),
    );
    print("jump to a hole", catch_call(HOLE));
    print("jump behind RAM", catch_call(BEHIND_RAM));
    let twice = catch(|| write32(HOLE, 1)).zip(catch(|| write32(HOLE, 1)));
    println!(
        "twice the same: {}",
        twice.is_some_and(|(one, two)| one.esr == two.esr && one.far == two.far)
    );
    walk();
}

/// Forms whose syndrome says less.
fn unusual() {
    let hole = HOLE;
    // SAFETY: Nothing is there; registers are clobbered as declared.
    print(
        "pair",
        catch(|| unsafe { asm!("ldp {}, {}, [{2}]", out(reg) _, out(reg) _, in(reg) hole) }),
    );
    // SAFETY: As above.
    print("vector", catch(|| unsafe { asm!("ldr q0, [{}]", in(reg) hole, out("v0") _) }));
    // SAFETY: As above.
    print(
        "writeback",
        catch(|| unsafe { asm!("ldr {0:w}, [{1}], #4", out(reg) _, inout(reg) hole => _) }),
    );
    let (mut base, mut value) = (gic::GICD_IPRIORITYR + 64, 0_u64);
    let fault = catch(|| {
        // SAFETY: Priorities of SPIs that are not enabled; registers are clobbered as declared.
        unsafe {
            asm!(
                "str {written:w}, [{base}], #8",
                "ldr {read:w}, [{base}, #-8]!",
                written = in(reg) 0x5060_7080,
                read = inout(reg) value,
                base = inout(reg) base,
            );
        }
    });
    base -= gic::GICD_IPRIORITYR;
    match fault {
        // On a KVM.
        Some(_) => print("writeback, of a device", fault),
        None => println!("writeback, of a device: {value:#x} at {base}"),
    }
    let behind = BEHIND_RAM;
    // SAFETY: As above.
    print("read behind RAM", catch(|| unsafe { asm!("ldr {}, [{}]", out(reg) _, in(reg) behind) }));
    // SAFETY: As above.
    print("write behind RAM", catch(|| unsafe { asm!("str xzr, [{}]", in(reg) behind) }));
}

/// A translation table where there is nothing.
fn walk() {
    const TTBR1_WALKS: u64 = 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;
    const EPD1: u64 = 1 << 23;
    let high = 0xffff_ff80_0000_1000_u64;
    // SAFETY: Rust's memory is translated by TTBR0; what TTBR1 translates is used here alone.
    unsafe {
        asm!("msr ttbr1_el1, {}", "msr tcr_el1, {}", "isb", in(reg) BEHIND_RAM, in(reg) runtime::TCR & !EPD1 | TTBR1_WALKS);
    }
    let fault = catch(|| {
        // SAFETY: There is nothing.
        unsafe { asm!("ldr {}, [{}]", out(reg) _, in(reg) high) }
    });
    print_walk("walk behind RAM", fault);
    print_walk("walk behind RAM, to execute", catch_call(high as usize));
    // SAFETY: As it was.
    unsafe {
        asm!("msr tcr_el1, {}", "msr ttbr1_el1, xzr", "tlbi vmalle1", "dsb nsh", "isb", in(reg) runtime::TCR);
    }
}
