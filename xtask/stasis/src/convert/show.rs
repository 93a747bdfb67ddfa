//! A virtual GIC in words.

use std::fmt::{self, Write};

use stasis_convert::qemu::VirtState;
use stasis_convert::{Bits, Interrupt, Vgic};

/// The columns of [`row`].
const HEADER: &str =
    "INTID VCPU  ENABLED  LATCHED  LINE   EDGE  ACTIVE ON PRIORITY  GROUP  TARGETS  SOURCES\n";

/// Returns a virtual GIC as text, with its interrupts that are enabled, pending or active.
pub fn show(vgic: &Vgic) -> Result<String, fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "GICD_CTLR {:#x}, GICD_IIDR {:#010x}",
        *vgic.distributor.ctlr, *vgic.distributor.iidr
    )?;
    for (index, cpu) in vgic.cpus.iter().enumerate() {
        write!(text, "vCPU {index}: GICC_CTLR {:#x}, PMR {:#04x}, ", *cpu.cc_ctlr, *cpu.cc_pmr)?;
        write!(text, "BPR {}, ABPR {}, APR", *cpu.cc_bpr, *cpu.cc_abpr)?;
        for word in cpu.cc_apr.iter() {
            write!(text, " {word:08x}")?;
        }
        writeln!(text)?;
    }
    let rows = vgic.interrupts().filter(|&interrupt| in_use(vgic, interrupt));
    let rows: Vec<_> = rows.map(|interrupt| row(vgic, interrupt)).collect();
    if !rows.is_empty() {
        text += HEADER;
    }
    for row in rows {
        writeln!(text, "{}", row.trim_end())?;
    }
    Ok(text)
}

/// Returns whether the guest uses the interrupt in any way.
fn in_use(vgic: &Vgic, interrupt: Interrupt) -> bool {
    let sgi_sent = match interrupt {
        Interrupt::Private { vcpu, intid } => {
            vgic.cpus[vcpu].sgi_src.get(intid).is_some_and(|&sources| sources != 0)
        }
        Interrupt::Shared { .. } => false,
    };
    // SGIs are always enabled.
    sgi_sent
        || vgic.bit(Bits::Enable, interrupt) && !interrupt.is_sgi()
        || [Bits::Latch, Bits::Level, Bits::Active].iter().any(|&bits| vgic.bit(bits, interrupt))
}

fn row(vgic: &Vgic, interrupt: Interrupt) -> String {
    let bit = |bits| if vgic.bit(bits, interrupt) { "yes" } else { "-" };
    let holder = vgic.holder(interrupt).map_or("-".to_owned(), |vcpu| format!("vCPU {vcpu}"));
    let (vcpu, targets, sources) = match interrupt {
        Interrupt::Shared { intid } => {
            (String::new(), format!("{:#04x}", vgic.targets(intid)), None)
        }
        Interrupt::Private { vcpu, intid } => {
            (vcpu.to_string(), String::new(), vgic.cpus[vcpu].sgi_src.get(intid))
        }
    };
    let sources = sources.map_or(String::new(), |mask| format!("{mask:#04x}"));
    format!(
        "{:<6}{vcpu:<6}{:<9}{:<9}{:<7}{:<6}{holder:<10}{:#04x}      {:<7}{targets:<9}{sources}",
        interrupt.intid(),
        bit(Bits::Enable),
        bit(Bits::Latch),
        if vgic.bit(Bits::Level, interrupt) { "high" } else { "low" },
        bit(Bits::Edge),
        vgic.priority(interrupt),
        u8::from(vgic.bit(Bits::Group, interrupt)),
    )
}

/// Returns the registers of GICH as text, of the first `cpus` CPUs.
pub fn show_gich(virt: &VirtState, cpus: usize) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for cpu in 0..cpus {
        write!(text, "CPU {cpu}: GICH_HCR {:#010x}, ", virt.h_hcr[cpu].get())?;
        write!(text, "MISR {:#x}, APR {:#010x}", virt.h_misr[cpu].get(), virt.h_apr[cpu].get())?;
        for (n, lr) in virt.h_lr.iter().enumerate().filter(|(_, lr)| lr[cpu].get() != 0) {
            write!(text, ", LR{n} {:#010x}", lr[cpu].get())?;
        }
        writeln!(text)?;
        write!(text, "    GICV_CTLR {:#x}, ", virt.cpu_ctlr[cpu].get())?;
        write!(text, "PMR {:#04x}, ", virt.priority_mask[cpu].get())?;
        writeln!(text, "BPR {}, ABPR {}", virt.bpr[cpu], virt.abpr[cpu])?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interrupts_that_are_in_use_are_shown() {
        let mut vgic = Vgic::new(288, 2);
        assert!(!show(&vgic).unwrap().contains("INTID"));
        let spi = Interrupt::Shared { intid: 33 };
        vgic.set_bit(Bits::Enable, spi, true);
        vgic.set_priority(spi, 0xa0);
        vgic.set_priority(Interrupt::Shared { intid: 34 }, 0xa0);
        vgic.set_holder(33, Some(1));
        vgic.distributor.spi_targets[1] = 1;
        vgic.cpus[1].sgi_src[4] = 2;
        let text = show(&vgic).unwrap();
        let rows: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(
            rows,
            [
                "4     1     yes      -        low    yes   -         0x00      0               0x02",
                "33          yes      -        low    -     vCPU 1    0xa0      0      0x01",
            ]
        );
    }
}
