//! The map of the distributor: which register is where (IHI 0048B.b table 4-1).

/// The bytes of a register that has a bit for each interrupt.
pub(super) const BLOCK: u16 = 0x80;

/// The effect of a write to a register with a bit for each interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The bits are written.
    Write,
    /// Ones set the bits.
    Set,
    /// Ones clear the bits.
    Clear,
}

/// The register that a word belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// GICD_CTLR.
    Ctlr,
    /// GICD_TYPER.
    Typer,
    /// GICD_IIDR.
    Iidr,
    /// GICD_IGROUPR, by its number.
    Group(u8),
    /// GICD_ISENABLER, ICENABLER.
    Enable(Rule, u8),
    /// GICD_ISPENDR, ICPENDR.
    Pending(Rule, u8),
    /// GICD_ISACTIVER, ICACTIVER.
    Active(Rule, u8),
    /// GICD_IPRIORITYR, by its first INTID.
    Priority(u16),
    /// GICD_ITARGETSR, by its first INTID.
    Targets(u16),
    /// GICD_ICFGR, by its first INTID.
    Config(u16),
    /// GICD_SGIR.
    Sgir,
    /// GICD_CPENDSGIR, SPENDSGIR, by its first SGI.
    SgiPending(Rule, u16),
    /// The peripheral and component identification registers.
    Id(u8),
    /// RAZ/WI.
    Reserved,
}

impl Register {
    /// Returns the register at `offset`, which is a multiple of 4.
    #[inline(always)]
    pub(super) fn at(offset: u16) -> Self {
        let word = (offset % BLOCK / 4) as u8;
        match offset / BLOCK {
            0 => match offset {
                0x000 => Self::Ctlr,
                0x004 => Self::Typer,
                0x008 => Self::Iidr,
                _ => Self::Reserved,
            },
            1 => Self::Group(word),
            2 => Self::Enable(Rule::Set, word),
            3 => Self::Enable(Rule::Clear, word),
            4 => Self::Pending(Rule::Set, word),
            5 => Self::Pending(Rule::Clear, word),
            6 => Self::Active(Rule::Set, word),
            7 => Self::Active(Rule::Clear, word),
            8..16 => Self::Priority(offset - 0x400),
            16..24 => Self::Targets(offset - 0x800),
            24..26 => Self::Config((offset - 0xc00) * 4),
            _ => match offset {
                0xf00 => Self::Sgir,
                0xf10..0xf20 => Self::SgiPending(Rule::Clear, offset - 0xf10),
                0xf20..0xf30 => Self::SgiPending(Rule::Set, offset - 0xf20),
                0xfd0..0x1000 => Self::Id(((offset - 0xfd0) / 4) as u8),
                _ => Self::Reserved,
            },
        }
    }
}

/// The identification registers: ICPIDR4 to 7, 0 to 3, ICCIDR0 to 3, as QEMU has them.
pub(super) const ID: [u8; 12] =
    [0x04, 0x00, 0x00, 0x00, 0x90, 0xb4, 0x2b, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
