//! A table of a GIC's state for people. Its lines of interrupts come from the records only, which
//! are complete for vCPUs that are saved or synced. Nobody waits for it: it is `#[inline]`, and so
//! built for size where it is shown, not for speed like this crate.

use core::fmt;

use crate::irq::{FIRST_SPI, SGIS};
use crate::records::Bits;
use crate::vgic::{Filled, Vgic, VirtualCpu};

/// Writes what the virtual interface of a vCPU's core was filled with, in the encoding of the
/// machine's GIC.
pub type WriteFilled = fn(Filled<'_>, &mut fmt::Formatter<'_>) -> fmt::Result;

/// Returns the name, for people, of what raises the interrupt with an INTID, if it is known.
pub type NameOf = fn(u16) -> Option<&'static str>;

/// The table of a GIC's records, and of what the virtual interfaces of its vCPUs' cores were last
/// filled with.
pub struct Table<'a> {
    vgic: &'a Vgic,
    write_filled: WriteFilled,
    name_of: NameOf,
}

impl fmt::Display for Table<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vgic.write_table(f, Some(self.write_filled), self.name_of)
    }
}

/// The table of the records alone.
impl fmt::Display for Vgic {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table(f, None, |_| None)
    }
}

impl Vgic {
    /// Returns the table of the records, with the names of the interrupts, and of the virtual
    /// interfaces, which `write_filled` writes.
    #[inline]
    pub fn table(&self, write_filled: WriteFilled, name_of: NameOf) -> Table<'_> {
        Table { vgic: self, write_filled, name_of }
    }

    /// Writes the table, and the virtual interfaces if `write_filled` can write them.
    #[inline]
    fn write_table(
        &self,
        f: &mut fmt::Formatter<'_>,
        write_filled: Option<WriteFilled>,
        name_of: NameOf,
    ) -> fmt::Result {
        let (ctlr, intids, cpus) = (*self.dist.ctlr, self.nr_irqs(), self.cpus.len());
        writeln!(f, "GICD_CTLR {ctlr:#x}, {intids} INTIDs, {cpus} CPU interfaces")?;
        for (vcpu, cpu) in self.cpus.iter().enumerate() {
            write_interface(f, vcpu, cpu)?;
            let filled = cpu.last_filled();
            if let Some(write_filled) = write_filled
                && filled.list_registers().len() != 0
            {
                write!(f, "vCPU {vcpu}: entered with ")?;
                write_filled(filled, f)?;
                writeln!(f)?;
            }
        }
        writeln!(
            f,
            "INTID vCPU group enabled pending    active     priority targets trigger source"
        )?;
        for vcpu in 0..cpus {
            for intid in 0..FIRST_SPI {
                self.write_line(f, vcpu, intid, name_of)?;
            }
        }
        (FIRST_SPI..intids).try_for_each(|intid| self.write_line(f, 0, intid, name_of))
    }

    /// Writes the line of an interrupt, unless it is as at reset.
    #[inline]
    fn write_line(
        &self,
        f: &mut fmt::Formatter<'_>,
        vcpu: usize,
        intid: u16,
        name_of: NameOf,
    ) -> fmt::Result {
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
        let trigger = if bit(Bits::Edge) { "edge" } else { "level" };
        match name_of(intid) {
            Some(name) => writeln!(f, "{trigger:7} {name}"),
            None => writeln!(f, "{trigger}"),
        }
    }
}

/// Writes the line of a vCPU's CPU interface.
#[inline]
fn write_interface(f: &mut fmt::Formatter<'_>, vcpu: usize, cpu: &VirtualCpu) -> fmt::Result {
    let state = &cpu.state;
    let [apr0, apr1, apr2, apr3] = *state.cc_apr;
    writeln!(
        f,
        "vCPU {vcpu}: GICC_CTLR {:#05x} PMR {:#04x} BPR {} ABPR {} APR {apr3:08x}_{apr2:08x}_{apr1:08x}_{apr0:08x}{}",
        *state.cc_ctlr,
        *state.cc_pmr,
        *state.cc_bpr,
        *state.cc_abpr,
        if cpu.synced { "" } else { ", running: the table may be behind" },
    )
}
