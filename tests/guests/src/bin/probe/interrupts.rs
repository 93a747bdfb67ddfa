//! Takes interrupts, notes them, and silences where they come from.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::{mask_irqs, unmask_irqs, wfi};
use stasis_guests::{gic, gpio, msr, rtc, timer, uart};

/// What IAR said of the interrupts that were taken, round and round.
static TAKEN: [AtomicU32; 8] = [const { AtomicU32::new(gic::SPURIOUS) }; 8];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// INTID of the UART's interrupt.
pub const UART: u32 = 33;

/// The guest's IRQ handler.
pub fn irq() {
    let iar = read32(gic::GICC_IAR);
    if iar & 0x3ff == gic::SPURIOUS {
        return;
    }
    match iar & 0x3ff {
        timer::VIRTUAL => msr!("CNTV_CTL_EL0", timer::ENABLE | timer::IMASK),
        timer::PHYSICAL => msr!("CNTP_CTL_EL0", timer::ENABLE | timer::IMASK),
        // The bytes stay in the FIFO.
        UART => write32(uart::IMSC, 0),
        rtc::INTID => write32(rtc::ICR, 1),
        // The level stays.
        gpio::INTID => write32(gpio::IE, 0),
        _ => {}
    }
    let count = COUNT.fetch_add(1, Relaxed) as usize;
    TAKEN[count % TAKEN.len()].store(iar, Relaxed);
    write32(gic::GICC_EOIR, iar);
}

/// Sleeps until an interrupt has been taken: what IAR said of the first.
pub fn wait() -> u32 {
    let before = COUNT.load(Relaxed);
    while COUNT.load(Relaxed) == before {
        // Masked, so that the interrupt cannot come between the look and the sleep.
        wfi();
        let_in();
    }
    taken(before)
}

/// Returns what IAR said of the `n`th interrupt that was taken, of the last eight.
pub fn taken(n: u32) -> u32 {
    TAKEN[n as usize % TAKEN.len()].load(Relaxed)
}

/// Returns how many interrupts have been taken.
pub fn count() -> u32 {
    COUNT.load(Relaxed)
}

/// Lets pending interrupts in: how many were taken.
pub fn let_in() -> u32 {
    let before = COUNT.load(Relaxed);
    unmask_irqs();
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    mask_irqs();
    COUNT.load(Relaxed) - before
}
