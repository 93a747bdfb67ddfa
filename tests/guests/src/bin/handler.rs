//! Stays inside its interrupt handlers, at marked points, until it receives a byte.
//!
//! At a point it prints what the GIC shows, then `in handler <name>` or, outside of any handler,
//! `in main <name>`, and waits for a byte with the state just as it is; then it prints all of it
//! again and goes on. So a test can checkpoint it with interrupts active, priorities raised, and
//! others pending behind them; what it prints must not depend on whether that was done. It uses no
//! clock: its timers are set to times that have long passed.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write8, write32};
use stasis_guests::sysreg::{mask_irqs, unmask_irqs};
use stasis_guests::{gic, mrs, msr, println, timer, uart};

stasis_guests::entry!(main, irq);

/// SPIs without a device behind them: 64 and on.
const SPI: u32 = 64;

/// What the handler does, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Scene {
    /// One interrupt active, a worse one and a timer pending behind it, then two better ones nested
    /// inside.
    Nested,
    /// EOImode 1: the priority is dropped, the interrupt stays active, and is pending again.
    Split,
    /// Seven handlers inside each other: more active interrupts than list registers.
    Deep,
    /// EOImode 1: six interrupts left active by handlers that have returned.
    LeftActive,
    /// Ten interrupts pending at once, for a CPU that lets none in.
    Crowd,
    /// The virtual timer's interrupt, active while its line is still up.
    Timer,
    /// The timer's interrupt with EOImode 1, deactivated late.
    TimerSplit,
    /// The physical timer's.
    PhysicalTimer,
    /// A level-triggered SPI, made pending by GICD_ISPENDR, and again while it is active.
    Level,
}

static SCENE: AtomicU32 = AtomicU32::new(0);
static DEPTH: AtomicU32 = AtomicU32::new(0);
static AGAIN: AtomicBool = AtomicBool::new(false);

fn play(scene: Scene, name: &str) {
    AGAIN.store(false, Relaxed);
    println!("scene {name}");
    SCENE.store(scene as u32, Relaxed);
}

/// Returns whether this is the first call in the scene.
fn first_time() -> bool {
    !AGAIN.swap(true, Relaxed)
}

fn playing(scene: Scene) -> bool {
    SCENE.load(Relaxed) == scene as u32
}

fn report() {
    println!(
        "  RPR {:#04x} HPPIR {} APR {:#010x} CTLR {:#x} PMR {:#x} BPR {}",
        read32(gic::GICC_RPR),
        read32(gic::GICC_HPPIR),
        gic::active_priorities(),
        read32(gic::GICC_CTLR),
        read32(gic::GICC_PMR),
        read32(gic::GICC_BPR)
    );
    println!(
        "  ISACTIVER {:08x} {:08x} {:08x} ISPENDR {:08x} {:08x} {:08x}",
        read32(gic::GICD_ISACTIVER),
        read32(gic::GICD_ISACTIVER + 4),
        read32(gic::GICD_ISACTIVER + 8),
        read32(gic::GICD_ISPENDR),
        read32(gic::GICD_ISPENDR + 4),
        read32(gic::GICD_ISPENDR + 8)
    );
    println!(
        "  SPENDSGIR {:08x} {:08x} {:08x} {:08x} CNTV_CTL {} CNTP_CTL {} DAIF {:#x}",
        read32(gic::GICD_SPENDSGIR),
        read32(gic::GICD_SPENDSGIR + 4),
        read32(gic::GICD_SPENDSGIR + 8),
        read32(gic::GICD_SPENDSGIR + 12),
        mrs!("CNTV_CTL_EL0"),
        mrs!("CNTP_CTL_EL0"),
        mrs!("DAIF")
    );
}

/// A point at which a test may checkpoint.
fn point(name: &str) {
    report();
    let place = if DEPTH.load(Relaxed) == 0 { "main" } else { "handler" };
    println!("in {place} {name}");
    let byte = uart::get();
    println!("received {byte:#x}");
    report();
}

/// Lets pending interrupts of better priority in, here and now.
fn let_in() {
    unmask_irqs();
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    mask_irqs();
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    let intid = iar & 0x3ff;
    let depth = DEPTH.fetch_add(1, Relaxed);
    println!("taken {intid} cpu {} depth {depth} RPR {:#04x}", iar >> 10, read32(gic::GICC_RPR));
    if intid == gic::SPURIOUS {
        DEPTH.fetch_sub(1, Relaxed);
        return;
    }
    let mut dropped = false;
    match intid {
        1 if playing(Scene::Nested) => {
            gic::send_to_self(3);
            msr!("CNTV_CVAL_EL0", 0);
            msr!("CNTV_CTL_EL0", timer::ENABLE);
            point("with worse ones pending");
            gic::send_to_self(2);
            let_in();
            point("after a nested one");
        }
        2 if playing(Scene::Nested) => {
            gic::set_bit(gic::GICD_ISPENDR, SPI);
            point("nested, with a better one pending");
            let_in();
        }
        SPI if playing(Scene::Nested) => point("nested twice"),
        1 if playing(Scene::Split) && first_time() => {
            gic::send_to_self(1);
            point("active and pending");
            write32(gic::GICC_EOIR, iar);
            dropped = true;
            point("active, priority dropped");
            gic::send_to_self(3);
            let_in();
        }
        1..=7 if playing(Scene::Deep) => {
            if intid == 7 {
                point("seven deep");
            } else {
                gic::send_to_self(intid + 1);
                let_in();
            }
            if intid == 4 {
                point("four deep again");
            }
        }
        timer::VIRTUAL if playing(Scene::Timer) => {
            point("timer active, line up");
            msr!("CNTV_CTL_EL0", timer::ENABLE | timer::IMASK);
            point("timer active, line down");
            msr!("CNTV_CTL_EL0", 0);
        }
        timer::VIRTUAL if playing(Scene::TimerSplit) => {
            write32(gic::GICC_EOIR, iar);
            dropped = true;
            point("timer active, priority dropped");
        }
        timer::PHYSICAL => {
            point("physical timer active");
            msr!("CNTP_CTL_EL0", 0);
        }
        timer::VIRTUAL => msr!("CNTV_CTL_EL0", 0),
        SPI if playing(Scene::Level) && first_time() => {
            gic::set_bit(gic::GICD_ISPENDR, SPI);
            point("level, active and pending");
        }
        _ => {}
    }
    if !dropped {
        write32(gic::GICC_EOIR, iar);
    }
    println!("left {intid} depth {depth}");
    DEPTH.fetch_sub(1, Relaxed);
}

fn eoi_mode(split: bool) {
    write32(gic::GICC_CTLR, 1 | if split { gic::CTLR_EOIMODE } else { 0 });
}

fn main() {
    gic::init();
    println!("handler: idle RPR {:#x}", read32(gic::GICC_RPR));
    for sgi in 0..16 {
        gic::enable(sgi, 0xf0);
    }
    for spi in SPI..SPI + 16 {
        write8(gic::GICD_ITARGETSR + spi as usize, 1);
    }
    // All edge-triggered, by GICD_ICFGR4.
    write32(gic::GICD_ICFGR + 16, 0xaaaa_aaaa);
    gic::enable(timer::VIRTUAL, 0xa0);
    gic::enable(timer::PHYSICAL, 0xb0);

    nested();
    split();
    deep();
    left_active();
    crowd();
    timers();
    level();
    println!("end");
    report();
}

fn nested() {
    play(Scene::Nested, "nested");
    gic::set_priority(1, 0x80);
    gic::set_priority(2, 0x40);
    gic::set_priority(3, 0xc0);
    gic::enable(SPI, 0x20);
    gic::send_to_self(1);
    let_in();
    report();
}

fn split() {
    play(Scene::Split, "split");
    eoi_mode(true);
    gic::send_to_self(1);
    let_in();
    point("two left active");
    write32(gic::GICC_DIR, 1);
    let_in();
    report();
    write32(gic::GICC_DIR, 3);
    write32(gic::GICC_DIR, 1);
    report();
    eoi_mode(false);
}

fn deep() {
    play(Scene::Deep, "deep");
    for sgi in 1..8 {
        gic::set_priority(sgi, 0xf0 - 0x20 * sgi as u8);
    }
    gic::send_to_self(1);
    let_in();
    report();
}

fn left_active() {
    play(Scene::LeftActive, "left active");
    eoi_mode(true);
    for sgi in 8..14 {
        gic::send_to_self(sgi);
        let_in();
    }
    gic::send_to_self(9);
    gic::send_to_self(14);
    point("six left active");
    for sgi in [11, 8, 13, 9, 12, 10] {
        write32(gic::GICC_DIR, sgi);
        println!("deactivated {sgi}");
        report();
    }
    let_in();
    write32(gic::GICC_DIR, 9);
    write32(gic::GICC_DIR, 14);
    report();
    eoi_mode(false);
}

fn crowd() {
    play(Scene::Crowd, "crowd");
    for spi in SPI..SPI + 10 {
        gic::enable(spi, (0xe0 - ((spi - SPI) * 7 % 10) * 0x10) as u8);
        gic::set_bit(gic::GICD_ISPENDR, spi);
    }
    point("ten pending");
    write32(gic::GICC_PMR, 0x80);
    let_in();
    point("those below PMR left");
    gic::set_bit(gic::GICD_ICPENDR, SPI);
    write32(gic::GICC_PMR, 0xf8);
    let_in();
    report();
}

fn timers() {
    play(Scene::Timer, "timer");
    msr!("CNTV_CVAL_EL0", 0);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    point("timer pending");
    let_in();
    report();

    play(Scene::TimerSplit, "timer, split");
    eoi_mode(true);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    let_in();
    point("timer left active");
    msr!("CNTV_CTL_EL0", 0);
    write32(gic::GICC_DIR, timer::VIRTUAL);
    let_in();
    report();
    eoi_mode(false);

    play(Scene::PhysicalTimer, "physical timer");
    msr!("CNTP_CVAL_EL0", 0);
    msr!("CNTP_CTL_EL0", timer::ENABLE);
    point("physical timer pending");
    let_in();
    report();
}

fn level() {
    play(Scene::Level, "level");
    write32(gic::GICD_ICFGR + 16, 0);
    gic::set_priority(SPI, 0x60);
    gic::set_bit(gic::GICD_ISPENDR, SPI);
    let_in();
    report();
}
