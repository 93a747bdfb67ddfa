//! More interrupts than there is time for.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::random::Random;
use stasis_guests::sysreg::{mask_irqs, unmask_irqs};
use stasis_guests::{gic, msr, println, timer};

static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Interrupts after which the timers are silenced.
const ENOUGH: u32 = 20_000;
/// INTIDs of the GIC.
const INTERRUPTS: usize = 288;

/// Never silences what interrupts, until there were enough.
pub fn irq() {
    let iar = read32(gic::GICC_IAR);
    TAKEN.fetch_add(1, Relaxed);
    if TAKEN.load(Relaxed) > ENOUGH {
        msr!("CNTV_CTL_EL0", 0);
        msr!("CNTP_CTL_EL0", 0);
    }
    // The wrong ones, before the right one.
    write32(gic::GICC_DIR, 1020);
    write32(gic::GICC_EOIR, iar);
}

/// Lets interrupts in until there were enough; `raise` lowers the line and raises it again.
///
/// The line stays up all the time, so that should need to be done once. But QEMU looks at a
/// physical line no more when a GICV has deactivated its interrupt (`gic_complete_irq`), until it
/// changes.
fn storm(name: &str, raise: impl Fn()) {
    println!("storm: {name}");
    TAKEN.store(0, Relaxed);
    unmask_irqs();
    while TAKEN.load(Relaxed) <= ENOUGH {
        raise();
    }
    mask_irqs();
    msr!("CNTV_CTL_EL0", 0);
    msr!("CNTP_CTL_EL0", 0);
}

/// Makes the attack.
pub fn attack() {
    gic::init();
    forget_what_is_active();
    gic::enable(timer::VIRTUAL, 0xa0);
    gic::enable(timer::PHYSICAL, 0xa0);
    msr!("CNTV_CVAL_EL0", 0);
    msr!("CNTP_CVAL_EL0", 0);
    storm("virtual timer", || {
        msr!("CNTV_CTL_EL0", 0);
        msr!("CNTV_CTL_EL0", timer::ENABLE);
    });
    storm("physical timer", || {
        msr!("CNTP_CTL_EL0", 0);
        msr!("CNTP_CTL_EL0", timer::ENABLE);
    });
    software();
    garbage_to_gicc();
}

/// Makes all interrupts inactive: what [`garbage_to_gicc`] acknowledged and never ended would keep
/// every interrupt of another round away.
fn forget_what_is_active() {
    write32(gic::GICC_APR, 0);
    for register in 0..INTERRUPTS / 32 {
        write32(gic::GICD_ICACTIVER + 4 * register, u32::MAX);
    }
}

/// SGIs and SPIs, sent and cleared without a plan, some of them taken.
fn software() {
    println!("storm: software interrupts");
    let mut random = Random(0xdead_beef);
    for round in 0..5000 {
        let random = random.next();
        let intid = (random >> 32) as u32 % INTERRUPTS as u32;
        write32(gic::GICD_SGIR, random as u32 & 0x03ff_000f);
        // Not the UART, which has nothing to interrupt for but would be asked about.
        if intid > 40 {
            gic::enable(intid, (random >> 8) as u8);
            gic::set_bit(gic::GICD_ISPENDR, intid);
            let bank =
                [gic::GICD_ICPENDR, gic::GICD_ICENABLER, gic::GICD_ISACTIVER, gic::GICD_ICACTIVER];
            gic::set_bit(bank[(random >> 48) as usize % 4], intid);
        }
        if round % 16 == 0 {
            unmask_irqs();
            core::hint::spin_loop();
            mask_irqs();
        }
    }
}

/// EOIs and DIRs of what is not active; acknowledgements that nobody ends.
fn garbage_to_gicc() {
    println!("storm: acknowledgements");
    let mut random = Random(0xfeed);
    for mode in [1, 1 | gic::CTLR_EOIMODE, 0x3ff, 0] {
        write32(gic::GICC_CTLR, mode);
        for _ in 0..500 {
            let random = random.next();
            write32(gic::GICC_EOIR, random as u32 & 0x1fff);
            write32(gic::GICC_DIR, (random >> 32) as u32 & 0x1fff);
            write32(gic::GICC_PMR, (random >> 16) as u32);
            gic::send_to_self((random >> 60) as u32);
            let _ = read32(gic::GICC_IAR);
        }
    }
}
