//! Two CPUs, each with an active interrupt of its own, that change each other's, again and again:
//! whoever answers such an access has the other one stand still.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use stasis_guests::mmio::{read32, write8, write32};
use stasis_guests::psci::{self, hvc};
use stasis_guests::second::{Second, this_cpu};
use stasis_guests::{gic, println};

/// Accesses of each CPU, at least.
const COUNT: usize = 20_000;
/// INTIDs of the GIC.
const INTERRUPTS: usize = 288;
/// The SPI of the first CPU; the next one is the second's.
const FIRST: u32 = 40;

/// Whether the second CPU has made all of its accesses.
static DONE: AtomicBool = AtomicBool::new(false);

/// Makes the attack.
pub fn attack() {
    gic::init();
    quiet(0..INTERRUPTS / 32);
    if Second::on(0) != 0 {
        println!("there is one CPU only");
        return;
    }
    Second::context();
    DONE.store(false, SeqCst);
    Second::begin(on_second, 0);
    take();
    while !DONE.load(SeqCst) {
        change();
    }
    end();
    Second::answer();
    Second::off();
    while hvc(u64::from(psci::AFFINITY_INFO), [Second::MPIDR, 0, 0]) == 0 {}
}

fn on_second(_: u64) -> u64 {
    write32(gic::GICC_PMR, 0xf8);
    write32(gic::GICC_CTLR, 1);
    quiet(0..1);
    take();
    change();
    DONE.store(true, SeqCst);
    end();
    0
}

/// Ends what another attack has left behind, which would keep this CPU's interrupt away: of these
/// words of the distributor's banks (the first is the CPU's own), and what is active at the CPU
/// interface.
fn quiet(words: Range<usize>) {
    for word in words {
        for bank in [gic::GICD_ICENABLER, gic::GICD_ICPENDR, gic::GICD_ICACTIVER] {
            write32(bank + 4 * word, u32::MAX);
        }
        write32(gic::GICD_IGROUPR + 4 * word, 0);
    }
    write32(gic::GICC_APR, 0);
}

fn spi(cpu: usize) -> u32 {
    FIRST + cpu as u32
}

/// Makes this CPU's interrupt active.
fn take() {
    let (cpu, spi) = (this_cpu(), spi(this_cpu()));
    write8(gic::GICD_ITARGETSR + spi as usize, 1 << cpu);
    gic::enable(spi, 0xa0);
    gic::set_bit(gic::GICD_ISPENDR, spi);
    loop {
        let iar = read32(gic::GICC_IAR);
        match iar & 0x3ff {
            intid if intid == spi => return,
            1020.. => {}
            // SGIs that another attack has left pending.
            _ => write32(gic::GICC_EOIR, iar),
        }
    }
}

fn end() {
    write32(gic::GICC_EOIR, spi(this_cpu()));
    gic::set_bit(gic::GICD_ICENABLER, spi(this_cpu()));
}

/// Changes the other CPU's interrupt, which stays active, and looks at it.
fn change() {
    let other = 1 - this_cpu();
    let spi = spi(other);
    for n in 0..COUNT {
        match n % 4 {
            0 => write8(gic::GICD_IPRIORITYR + spi as usize, 0x80),
            1 => write8(gic::GICD_IPRIORITYR + spi as usize, 0xa0),
            2 => write8(gic::GICD_ITARGETSR + spi as usize, 1 << other),
            _ => _ = read32(gic::GICD_ISACTIVER + 4),
        }
    }
}
