//! SGIs between two CPUs, by both, without an end: first to CPUs that take none, then to CPUs that
//! do nothing else.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::psci::{self, hvc};
use stasis_guests::random::Random;
use stasis_guests::second::Second;
use stasis_guests::sysreg::{mask_irqs, unmask_irqs};
use stasis_guests::{gic, println};

/// SGIs that each of the two sends to whom it likes, in each part.
const COUNT: usize = 10_000;

/// Whether the second CPU has sent all of its SGIs.
static FLOODED: AtomicBool = AtomicBool::new(false);

/// Makes the attack.
pub fn attack() {
    gic::init();
    let second = Second::on(0) == 0;
    if second {
        Second::context();
    } else {
        println!("there is one CPU only");
    }
    for taken in [false, true] {
        FLOODED.store(!second, SeqCst);
        if second {
            Second::begin(on_second, taken.into());
        }
        // Until the other one has sent all, so that both do it at once.
        loop {
            flood(0x5eed1, taken);
            if FLOODED.load(SeqCst) {
                break;
            }
        }
        if second {
            Second::answer();
        }
    }
    if second {
        Second::off();
        while hvc(u64::from(psci::AFFINITY_INFO), [Second::MPIDR, 0, 0]) == 0 {}
    }
    drain();
}

fn on_second(taken: u64) -> u64 {
    flood(0x5eed2, taken != 0);
    FLOODED.store(true, SeqCst);
    0
}

/// Sends SGIs to the listed CPUs, absent ones among them, to all others, to itself, and with a
/// reserved filter; what comes meanwhile is `taken`, or stays pending.
fn flood(seed: u64, taken: bool) {
    let mut random = Random(seed);
    // The CPU interface is each CPU's own.
    write32(gic::GICC_PMR, 0xf8);
    write32(gic::GICC_CTLR, 1);
    if taken {
        unmask_irqs();
    }
    for _ in 0..COUNT {
        write32(gic::GICD_SGIR, random.next() as u32 & 0x03ff_800f);
    }
    mask_irqs();
}

/// Takes what has come.
fn drain() {
    loop {
        let iar = read32(gic::GICC_IAR);
        if iar & 0x3ff == gic::SPURIOUS {
            return;
        }
        write32(gic::GICC_EOIR, iar);
    }
}
