//! The GIC's registers, by byte, halfword and word.

use crate::interrupts;
use stasis_guests::gic::*;
use stasis_guests::mmio::{read8, read16, read32, write8, write16, write32};
use stasis_guests::println;

/// An SPI without a device behind it.
const SPI: u32 = 70;

/// Prints it.
pub fn probe() {
    reset_values();
    unused();
    bit_banks();
    bytes();
    sgis();
    cpu_interface();
    an_spi();
}

fn reset_values() {
    println!("GICD_CTLR {:#x}", read32(GICD_CTLR));
    println!("GICD_TYPER {:#x} IIDR {:#x}", read32(GICD_TYPER), read32(GICD_IIDR));
    println!(
        "GICD_TYPER by byte {:x} {:x} {:x} {:x} by half {:x} {:x}",
        read8(GICD_TYPER),
        read8(GICD_TYPER + 1),
        read8(GICD_TYPER + 2),
        read8(GICD_TYPER + 3),
        read16(GICD_TYPER),
        read16(GICD_TYPER + 2)
    );
    for (name, bank, words) in [
        ("IGROUPR", GICD_IGROUPR, 9),
        ("ISENABLER", GICD_ISENABLER, 9),
        ("ISPENDR", GICD_ISPENDR, 9),
        ("ISACTIVER", GICD_ISACTIVER, 9),
        ("IPRIORITYR", GICD_IPRIORITYR, 72),
        ("ITARGETSR", GICD_ITARGETSR, 72),
        ("ICFGR", GICD_ICFGR, 18),
        ("SPENDSGIR", GICD_SPENDSGIR, 4),
    ] {
        let mut sum = 0u32;
        for word in 0..words {
            sum = sum.rotate_left(1) ^ read32(bank + word * 4);
        }
        println!("{name} first {:#x} second {:#x} all {sum:#x}", read32(bank), read32(bank + 4));
    }
    println!(
        "PIDR2 {:#x} CIDR {:x} {:x} {:x} {:x}",
        read32(GICD + 0xfe8),
        read32(GICD + 0xff0),
        read32(GICD + 0xff4),
        read32(GICD + 0xff8),
        read32(GICD + 0xffc)
    );
}

/// Reserved registers, and those of INTIDs that are not implemented.
fn unused() {
    for offset in [
        0x00c, 0x040, 0x07c, 0x124, 0x17c, 0x2a4, 0x3fc, 0x520, 0x920, 0xc48, 0xd00, 0xe00, 0xf04,
        0xf30, 0xfc0,
    ] {
        write32(GICD + offset, !0);
        println!("GICD + {offset:#x}: {:#x}", read32(GICD + offset));
    }
}

fn bit_banks() {
    write32(GICD_ISENABLER + 8, !0);
    println!("ISENABLER2 set {:#x}", read32(GICD_ISENABLER + 8));
    write32(GICD_ICENABLER + 8, 0xffff_0000);
    println!(
        "ISENABLER2 cleared in part {:#x} {:#x}",
        read32(GICD_ISENABLER + 8),
        read32(GICD_ICENABLER + 8)
    );
    write8(GICD_ICENABLER + 8, 0x0f);
    println!("ISENABLER2 cleared by byte {:#x}", read32(GICD_ISENABLER + 8));
    write16(GICD_ISENABLER + 10, 0x8001);
    println!(
        "ISENABLER2 set by half {:#x} {:#x}",
        read32(GICD_ISENABLER + 8),
        read16(GICD_ISENABLER + 10)
    );
    write32(GICD_ICENABLER + 8, !0);

    write32(GICD_ICENABLER, 0xffff);
    println!("ISENABLER0 keeps its SGIs {:#x}", read32(GICD_ISENABLER));
    // A KVM has disabled them.
    write32(GICD_ISENABLER, 0xffff);

    set_bit(GICD_ISPENDR, SPI);
    println!("ISPENDR2 {:#x} ICPENDR2 {:#x}", read32(GICD_ISPENDR + 8), read32(GICD_ICPENDR + 8));
    set_bit(GICD_ICPENDR, SPI);
    println!("ISPENDR2 cleared {:#x}", read32(GICD_ISPENDR + 8));
    set_bit(GICD_ISACTIVER, SPI);
    println!(
        "ISACTIVER2 {:#x} ICACTIVER2 {:#x}",
        read32(GICD_ISACTIVER + 8),
        read32(GICD_ICACTIVER + 8)
    );
    set_bit(GICD_ICACTIVER, SPI);
    println!("ISACTIVER2 cleared {:#x}", read32(GICD_ISACTIVER + 8));

    write32(GICD_IGROUPR + 8, 0xf0);
    println!("IGROUPR2 {:#x}", read32(GICD_IGROUPR + 8));
    write32(GICD_IGROUPR + 8, 0);

    write32(GICD_ICFGR + 16, !0);
    println!("ICFGR4 {:#x}", read32(GICD_ICFGR + 16));
    write8(GICD_ICFGR + 17, 0);
    println!("ICFGR4 by byte {:#x}", read32(GICD_ICFGR + 16));
    write32(GICD_ICFGR + 16, 0);
    write32(GICD_ICFGR, 0);
    println!("ICFGR0 {:#x}", read32(GICD_ICFGR));
}

fn bytes() {
    write8(GICD_IPRIORITYR + 71, 0x88);
    write8(GICD_IPRIORITYR + 69, 0x40);
    println!(
        "IPRIORITYR17 by byte {:#x} {:#x}",
        read32(GICD_IPRIORITYR + 68),
        read8(GICD_IPRIORITYR + 71)
    );
    write16(GICD_IPRIORITYR + 70, 0x1020);
    println!(
        "IPRIORITYR17 by half {:#x} {:#x}",
        read32(GICD_IPRIORITYR + 68),
        read16(GICD_IPRIORITYR + 70)
    );
    write32(GICD_IPRIORITYR + 68, 0x1828_3848);
    println!("IPRIORITYR17 by word {:#x}", read32(GICD_IPRIORITYR + 68));
    write32(GICD_IPRIORITYR + 68, !0);
    println!("~ priority bits {:#x}", read32(GICD_IPRIORITYR + 68));
    write32(GICD_IPRIORITYR + 68, 0);
    // One CPU: targets are RAZ/WI, IHI 0048B.b 4.3.12.
    write8(GICD_ITARGETSR + 70, 0xff);
    println!(
        "ITARGETSR of SGI 0: {:#x}, of SPI {SPI}: {:#x}",
        read8(GICD_ITARGETSR),
        read8(GICD_ITARGETSR + 70)
    );
}

/// Software interrupts that are sent, looked at, cleared, and taken.
fn sgis() {
    write32(GICD_CTLR, 1);
    const FILTERS: [(&str, u32); 5] = [
        ("list, self", 1 << 16),
        ("list, absent CPUs", 0xfe << 16),
        ("list, empty", 0),
        ("all but self", 1 << 24 | 0xff << 16),
        ("self", 2 << 24),
    ];
    for (name, filter) in FILTERS {
        write32(GICD_SGIR, filter | 5);
        println!(
            "SGIR {name}: ISPENDR0 {:#x} SPENDSGIR1 {:#x}",
            read32(GICD_ISPENDR),
            read32(GICD_SPENDSGIR + 4)
        );
        write32(GICD_CPENDSGIR + 4, !0);
    }
    println!("SGIR reads {:#x}", read32(GICD_SGIR));
    write8(GICD_SPENDSGIR + 6, 1);
    println!(
        "SPENDSGIR by byte: ISPENDR0 {:#x} SPENDSGIR1 {:#x}",
        read32(GICD_ISPENDR),
        read32(GICD_SPENDSGIR + 4)
    );
    write32(GICD_ICPENDR, 1 << 6);
    println!("ICPENDR of an SGI is ignored: {:#x}", read32(GICD_ISPENDR));
    write8(GICD_CPENDSGIR + 6, 1);
    println!("CPENDSGIR by byte: {:#x}", read32(GICD_ISPENDR));

    init();
    for sgi in [3, 4, 5] {
        set_priority(sgi, (0x20 * (6 - sgi)) as u8);
        send_to_self(sgi);
    }
    let first = interrupts::count();
    println!("SGIs taken: {}", interrupts::let_in());
    for n in first..interrupts::count() {
        println!("SGI {}", interrupts::taken(n));
    }
}

fn cpu_interface() {
    write32(GICC_CTLR, 0);
    println!(
        "GICC_CTLR {:#x} RPR {:#x} HPPIR {}",
        read32(GICC_CTLR),
        read32(GICC_RPR),
        read32(GICC_HPPIR)
    );
    println!("GICC_IAR, nothing pending: {}", read32(GICC_IAR));
    write32(GICC_EOIR, SPURIOUS);
    write32(GICC_CTLR, 0x201);
    println!("GICC_CTLR {:#x}", read32(GICC_CTLR));
    write32(GICC_CTLR, 1);
    write32(GICC_PMR, 0x48);
    write32(GICC_BPR, 5);
    write32(GICC_ABPR, 6);
    println!(
        "GICC_PMR {:#x} BPR {} ABPR {}",
        read32(GICC_PMR),
        read32(GICC_BPR),
        read32(GICC_ABPR)
    );
    write32(GICC_PMR, 0xff);
    write32(GICC_BPR, 0);
    write32(GICC_ABPR, 0);
    println!(
        "~ GICC PMR {:#x} BPR {} ABPR {}",
        read32(GICC_PMR),
        read32(GICC_BPR),
        read32(GICC_ABPR)
    );
    println!("~ GICC IIDR {:#x}", read32(GICC_IIDR));
    init();
}

fn an_spi() {
    set_bit(GICD_ISPENDR, SPI);
    println!("disabled: HPPIR {}", read32(GICC_HPPIR));
    enable(SPI, 0x90);
    println!("enabled: HPPIR {}", read32(GICC_HPPIR));
    write32(GICC_PMR, 0x90);
    println!("masked by PMR: HPPIR {} taken {}", read32(GICC_HPPIR), interrupts::let_in());
    write32(GICC_PMR, 0xf8);
    write32(GICD_CTLR, 0);
    println!("distributor off: taken {}", interrupts::let_in());
    write32(GICD_CTLR, 1);
    // On a KVM none comes.
    let came = interrupts::count();
    let spi = if interrupts::let_in() == 1 { interrupts::taken(came) } else { SPURIOUS };
    println!("distributor on: SPI {spi}");
    println!(
        "gone: ISPENDR2 {:#x} ISACTIVER2 {:#x}",
        read32(GICD_ISPENDR + 8),
        read32(GICD_ISACTIVER + 8)
    );
    set_bit(GICD_ICENABLER, SPI);
    set_bit(GICD_ICPENDR, SPI);
}
