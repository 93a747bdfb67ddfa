//! Shared interrupts that one CPU changes while they are pending or active on the other.

use crate::cpus::Cpu::{self, First, Second};
use crate::cpus::{set_targets, settle, targets};
use stasis_guests::mmio::write32;
use stasis_guests::{gic, println};

/// SPIs without devices behind them: an edge-triggered one, and two that are level-sensitive.
const EDGE: u32 = 64;
const LEVEL: u32 = 80;
const OTHER: u32 = 81;

/// Prints it.
pub fn probe() {
    write32(gic::GICD_ICFGR + EDGE as usize / 16 * 4, 0xaaaa_aaaa);
    for spi in [EDGE, LEVEL, OTHER] {
        gic::enable(spi, 0x80);
    }
    targets_are_kept();
    for spi in [EDGE, LEVEL] {
        for actor in [First, Second] {
            println!("SPI {spi}, changed by {}:", actor as u32);
            moved_while_pending(actor, spi);
            moved_while_active(actor, spi);
            cleared_while_pending(actor, spi);
            deactivated(actor, spi);
            activated(actor, spi);
            disabled(actor, spi);
            priorities(actor, spi);
        }
    }
    both();
    split();
}

fn state(spi: u32) -> impl core::fmt::Display {
    struct State(bool, bool);
    impl core::fmt::Display for State {
        fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
            f.write_str(match (self.0, self.1) {
                (false, false) => "inactive",
                (true, false) => "pending",
                (false, true) => "active",
                (true, true) => "active and pending",
            })
        }
    }
    State(gic::bit(gic::GICD_ISPENDR, spi), gic::bit(gic::GICD_ISACTIVER, spi))
}

fn give(actor: Cpu, spi: u32, to: Cpu) {
    // The other targets of the word are CPU 0's.
    let shift = spi % 4 * 8;
    let word = gic::GICD_ITARGETSR + spi as usize / 4 * 4;
    let others = actor.read(word) & !(0xff << shift);
    actor.write(word, others | to.mask() << shift);
}

fn targets_are_kept() {
    set_targets(EDGE, 2);
    println!("targets {:#x}", targets(EDGE));
    set_targets(EDGE, 0xff);
    println!("~ absent CPUs: targets {:#x}", targets(EDGE));
    set_targets(EDGE, 0);
    println!("no targets: {:#x}", targets(EDGE));
    First.set(gic::GICD_ISPENDR, EDGE);
    println!("~ untargeted: {}", state(EDGE));
    println!("untargeted: taken {} {}", First.take_nothing(), Second.take_nothing());
    set_targets(EDGE, 2);
    let iar = Second.take_within(1000);
    println!("~ untargeted: then taken {iar}");
    if iar != gic::SPURIOUS {
        Second.end(iar);
    }
    set_targets(EDGE, 1);
}

/// To `actor` first, then to the other, and back.
fn moved_while_pending(actor: Cpu, spi: u32) {
    give(actor, spi, actor);
    actor.set(gic::GICD_ISPENDR, spi);
    let other = actor.other();
    println!("  own: {} {}", actor.highest(spi), other.highest(gic::SPURIOUS));
    give(actor, spi, other);
    println!("  given away: {} {}", actor.highest(gic::SPURIOUS), other.highest(spi));
    give(actor, spi, actor);
    println!("  taken back: {} {}", actor.highest(spi), other.highest(gic::SPURIOUS));
    give(actor, spi, other);
    let iar = other.take();
    println!("  taken {iar}: {}", state(spi));
    other.end(iar);
    println!("  ended: {}", state(spi));
}

/// Active on the other, pending again, and for `actor` from now on.
fn moved_while_active(actor: Cpu, spi: u32) {
    let other = actor.other();
    give(actor, spi, other);
    actor.set(gic::GICD_ISPENDR, spi);
    let iar = other.take();
    println!("  taken {iar}: {}", state(spi));
    actor.set(gic::GICD_ISPENDR, spi);
    println!("  again: {}, taken {}", state(spi), other.take_nothing());
    give(actor, spi, actor);
    let early = actor.take_nothing();
    println!("~ moved: {}, taken {early} {}", state(spi), other.take_nothing());
    if early != gic::SPURIOUS {
        actor.end(early);
    }
    other.end(iar);
    if early == gic::SPURIOUS {
        let iar = actor.take();
        println!("~ moved: ended, taken {iar}: {}, {}", state(spi), other.take_nothing());
        actor.end(iar);
    }
    println!("  ended: {}", state(spi));
}

fn cleared_while_pending(actor: Cpu, spi: u32) {
    let other = actor.other();
    give(actor, spi, other);
    other.set(gic::GICD_ISPENDR, spi);
    println!("  pending: {}", other.highest(spi));
    actor.set(gic::GICD_ICPENDR, spi);
    println!("  cleared: {} {}", other.highest(gic::SPURIOUS), state(spi));
    println!("  taken {}", other.take_nothing());

    actor.set(gic::GICD_ISPENDR, spi);
    let iar = other.take();
    actor.set(gic::GICD_ISPENDR, spi);
    println!("  active, again: {}", state(spi));
    actor.set(gic::GICD_ICPENDR, spi);
    println!("  cleared: {}", state(spi));
    other.end(iar);
    println!("  ended: {}, taken {}", state(spi), other.take_nothing());
}

/// ICACTIVER of what the other is handling.
fn deactivated(actor: Cpu, spi: u32) {
    let other = actor.other();
    give(actor, spi, other);
    actor.set(gic::GICD_ISPENDR, spi);
    let iar = other.take();
    println!("  taken {iar}: {}, RPR {:#x}", state(spi), other.read(gic::GICC_RPR));
    actor.set(gic::GICD_ICACTIVER, spi);
    settle();
    println!("  deactivated: {}, RPR {:#x}", state(spi), other.read(gic::GICC_RPR));
    other.end(iar);
    println!("  ended: {}, RPR {:#x}", state(spi), other.read(gic::GICC_RPR));
    actor.set(gic::GICD_ISPENDR, spi);
    let iar = other.take();
    println!("  taken {iar}");
    other.end(iar);
}

/// ISACTIVER keeps it from coming.
fn activated(actor: Cpu, spi: u32) {
    let other = actor.other();
    give(actor, spi, other);
    actor.set(gic::GICD_ISPENDR, spi);
    println!("  pending: {}", other.highest(spi));
    actor.set(gic::GICD_ISACTIVER, spi);
    println!("  activated: {} {}", other.highest(gic::SPURIOUS), state(spi));
    println!("  taken {}", other.take_nothing());
    actor.set(gic::GICD_ICACTIVER, spi);
    let iar = other.take();
    println!("  deactivated, taken {iar}: {}", state(spi));
    other.end(iar);
    println!("  ended: {}", state(spi));
}

/// ICENABLER, and the whole distributor's.
fn disabled(actor: Cpu, spi: u32) {
    let other = actor.other();
    give(actor, spi, other);
    actor.set(gic::GICD_ISPENDR, spi);
    println!("  pending: {}", other.highest(spi));
    actor.set(gic::GICD_ICENABLER, spi);
    println!("  disabled: {} {}", other.highest(gic::SPURIOUS), state(spi));
    actor.set(gic::GICD_ISENABLER, spi);
    println!("  enabled: {}", other.highest(spi));
    actor.write(gic::GICD_CTLR, 0);
    println!("  all disabled: {} {}", other.highest(gic::SPURIOUS), state(spi));
    actor.write(gic::GICD_CTLR, 1);
    let iar = other.take();
    actor.set(gic::GICD_ICENABLER, spi);
    println!("  taken {iar}, disabled: {}", state(spi));
    other.end(iar);
    println!("  ended: {}", state(spi));
    actor.set(gic::GICD_ISENABLER, spi);
}

/// Two that are pending on the other: the better one first, as it is at the time.
fn priorities(actor: Cpu, spi: u32) {
    let other = actor.other();
    for (spi, priority) in [(spi, 0x80), (OTHER, 0x90)] {
        give(actor, spi, other);
        gic::set_priority(spi, priority);
        actor.set(gic::GICD_ISPENDR, spi);
    }
    println!("  best: {}", other.highest(spi));
    gic::set_priority(OTHER, 0x40);
    println!("  best: {}", other.highest(OTHER));
    for _ in 0..2 {
        let iar = other.take();
        println!("  taken {iar}, RPR {:#x}", other.read(gic::GICC_RPR));
        other.end(iar);
    }
    gic::set_priority(OTHER, 0x80);
}

/// For both: one takes it.
fn both() {
    for spi in [EDGE, LEVEL] {
        set_targets(spi, 3);
        First.set(gic::GICD_ISPENDR, spi);
        settle();
        println!(
            "~ both targets: pending {} {}",
            First.read(gic::GICC_HPPIR),
            Second.read(gic::GICC_HPPIR)
        );
        let iar = First.take();
        let again = Second.take_nothing();
        println!("both targets: taken {iar}");
        println!("~ both targets: by the other {again}");
        First.end(iar);
        if again != gic::SPURIOUS {
            Second.end(again);
        }
        println!(
            "both targets: ended, {}, {} {}",
            state(spi),
            First.take_nothing(),
            Second.take_nothing()
        );
    }
}

/// EOImode 1 on the second CPU: it drops its priority, and deactivates later.
fn split() {
    Second.write(gic::GICC_CTLR, 1 | gic::CTLR_EOIMODE);
    give(First, EDGE, Second);
    First.set(gic::GICD_ISPENDR, EDGE);
    let iar = Second.take();
    println!("split: taken {iar}, {}, RPR {:#x}", state(EDGE), Second.read(gic::GICC_RPR));
    Second.end(iar);
    println!("split: dropped, {}, RPR {:#x}", state(EDGE), Second.read(gic::GICC_RPR));
    First.set(gic::GICD_ISPENDR, EDGE);
    println!("split: again, {}, taken {}", state(EDGE), Second.take_nothing());
    Second.write(gic::GICC_DIR, iar);
    let iar = Second.take();
    println!("split: deactivated, taken {iar}");
    Second.end(iar);
    // The other CPU deactivates it from afar.
    First.set(gic::GICD_ICACTIVER, EDGE);
    println!("split: {}", state(EDGE));
    Second.write(gic::GICC_CTLR, 1);
}
