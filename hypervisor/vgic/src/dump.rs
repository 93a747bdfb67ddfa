//! A table of a GIC's state for people. It looks at the records only, which are complete for vCPUs
//! that are saved or synced. Nobody waits for it: it is `#[inline]`, and so built for size where it is shown, not for speed like this crate.

use core::fmt;

use crate::irq::{Bits, FIRST_SPI, SGIS};
use crate::vgic::Vgic;

impl fmt::Display for Vgic {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "GICD_CTLR {:#x}, {} INTIDs, {} CPU interfaces",
            *self.dist.ctlr,
            self.nr_irqs(),
            self.cpus.len()
        )?;
        for (vcpu, cpu) in self.cpus.iter().enumerate() {
            let state = &cpu.state;
            let apr = &*state.cc_apr;
            writeln!(
                f,
                "vCPU {vcpu}: GICC_CTLR {:#05x} PMR {:#04x} BPR {} ABPR {} APR {:08x}_{:08x}_{:08x}_{:08x}{}",
                *state.cc_ctlr,
                *state.cc_pmr,
                *state.cc_bpr,
                *state.cc_abpr,
                apr[3],
                apr[2],
                apr[1],
                apr[0],
                if cpu.synced { "" } else { ", running: the table may be behind" },
            )?;
            let filled = cpu.last_filled();
            if !filled.list_registers.is_empty() {
                write!(f, "vCPU {vcpu}: entered with GICH_HCR {:#04x}, LR", filled.hcr)?;
                filled.list_registers.iter().try_for_each(|value| write!(f, " {value:08x}"))?;
                writeln!(f)?;
            }
        }
        writeln!(f, "INTID vCPU group enabled pending    active     priority targets trigger")?;
        for vcpu in 0..self.cpus.len() {
            for intid in 0..FIRST_SPI {
                self.fmt_line(f, vcpu, intid)?;
            }
        }
        (FIRST_SPI..self.nr_irqs()).try_for_each(|intid| self.fmt_line(f, 0, intid))
    }
}

impl Vgic {
    /// One interrupt, unless it is as at reset.
    #[inline]
    fn fmt_line(&self, f: &mut fmt::Formatter<'_>, vcpu: usize, intid: u16) -> fmt::Result {
        let bit = |bits| self.bit(bits, vcpu, intid);
        let enabled = bit(Bits::Enable);
        let uses_it = enabled && intid >= SGIS || bit(Bits::Latch) || bit(Bits::Level);
        if !(uses_it || bit(Bits::Active) || self.is_pending(vcpu, intid)) {
            return Ok(());
        }
        write!(f, "{intid:5} ")?;
        if intid < FIRST_SPI {
            write!(f, "{vcpu:4} ")?;
        } else {
            write!(f, "   - ")?;
        }
        let yes_no = if enabled { "yes" } else { "no" };
        write!(f, "{:5} {yes_no:7} ", u8::from(bit(Bits::Group)))?;
        if intid < SGIS {
            let sources = self.cpus[vcpu].state.sgi_src[usize::from(intid)];
            write!(f, "from {sources:#04x}  ")?;
        } else {
            let pending = match (bit(Bits::Latch), bit(Bits::Level)) {
                (false, false) => "-",
                (true, false) => "latch",
                (false, true) => "line",
                (true, true) => "latch+line",
            };
            write!(f, "{pending:10} ")?;
        }
        match self.holder(vcpu, intid) {
            None => write!(f, "-          ")?,
            Some(_) if intid < SGIS => {
                let source = self.cpus[vcpu].state.sgi_active_src[usize::from(intid)];
                write!(f, "from {source:<5} ")?;
            }
            Some(holder) => write!(f, "on vCPU {holder:<2} ")?,
        }
        write!(f, "{:#04x}     ", self.priority(vcpu, intid))?;
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => write!(f, "{:#04x}    ", self.dist.spi_targets[usize::from(spi)])?,
            None => write!(f, "self    ")?,
        }
        writeln!(f, "{}", if bit(Bits::Edge) { "edge" } else { "level" })
    }
}
