//! The state of one interrupt, private or shared, as a copy of what the records say. Fold and fill
//! work on the copy; [`records`](crate::records) reads it from the records and writes it back.

use stasis_state::vgic::{NO_CPU, PRIVATE_INTIDS};

use crate::waiting::Kind;

/// Number of SGIs, which are INTIDs 0 to 15.
pub(crate) const SGIS: u16 = 16;
/// The first SPI.
pub(crate) const FIRST_SPI: u16 = PRIVATE_INTIDS as u16;

/// Why an interrupt in a list register was pending. The cause leaves the records when the list
/// register is filled, and comes back if the guest has not acknowledged the interrupt. So nothing
/// is lost when the same interrupt is sent again meanwhile, whichever of the two came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The interrupt was not pending, or only by its line, which stays in the records.
    None,
    /// The interrupt was latched.
    Latch,
    /// The interrupt is an SGI from this vCPU.
    Source(u8),
}

/// A copy of what the records say of one interrupt: the words that have a bit for it, and its
/// bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Irq {
    /// The interrupt's bit in each of the words.
    pub(crate) bit: u32,
    pub(crate) group: u32,
    pub(crate) enable: u32,
    pub(crate) latch: u32,
    pub(crate) level: u32,
    pub(crate) active: u32,
    pub(crate) edge: u32,
    /// The vCPUs that an SGI is pending from; 0 for all other interrupts.
    pub(crate) sources: u8,
    /// The vCPU that sent an SGI that is active; else 0.
    pub(crate) active_source: u8,
    /// The vCPU that holds the interrupt, if it is active.
    pub(crate) holder: u8,
    /// The vCPUs that the interrupt may be offered to.
    pub(crate) targets: u8,
    pub(crate) priority: u8,
}

impl Irq {
    /// Returns GICD_ISPENDR's bit: the latch, or the line of a level-sensitive interrupt, or a
    /// source.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.sources != 0 || (self.latch | self.level & !self.edge) & self.bit != 0
    }

    /// Returns whether the interrupt is enabled.
    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enable & self.bit != 0
    }

    /// Returns whether the interrupt is of group 1.
    #[inline]
    pub(crate) fn is_group1(&self) -> bool {
        self.group & self.bit != 0
    }

    /// Returns the queue that the interrupt waits in while it is pending.
    #[inline]
    pub(crate) fn group(&self) -> Kind {
        if self.is_group1() { Kind::Group1 } else { Kind::Group0 }
    }

    /// Returns whether the pending latch is set.
    #[inline]
    pub(crate) fn is_latched(&self) -> bool {
        self.latch & self.bit != 0
    }

    /// Returns whether the interrupt is level-sensitive, and its line is high.
    #[inline]
    pub(crate) fn is_asserted(&self) -> bool {
        self.level & !self.edge & self.bit != 0
    }

    /// Returns whether a vCPU holds the interrupt active.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active & self.bit != 0
    }

    /// Returns whether the interrupt is edge-triggered.
    #[inline]
    pub(crate) fn is_edge(&self) -> bool {
        self.edge & self.bit != 0
    }

    /// Returns the vCPU that is offered the interrupt: of several targets the first, so that there
    /// is only ever one (the 1-N model, IHI 0048B.b 1.4.2). Which of them it is, is the GIC's
    /// choice.
    #[inline]
    pub(crate) fn target(&self) -> Option<usize> {
        (self.targets != 0).then_some(self.targets.trailing_zeros() as usize)
    }

    /// Sets the pending latch.
    #[inline]
    pub(crate) fn latch(&mut self) {
        self.latch |= self.bit;
    }

    /// Clears the pending latch, and returns why the interrupt was pending: by the latch if that
    /// was set, else by its line.
    #[inline]
    pub(crate) fn take_latch(&mut self) -> Cause {
        let cause = if self.is_latched() { Cause::Latch } else { Cause::None };
        self.latch &= !self.bit;
        cause
    }

    /// Lowers the line.
    #[inline]
    pub(crate) fn lower(&mut self) {
        self.level &= !self.bit;
    }

    /// Makes the interrupt active, held by `vcpu`; an SGI came from `source`.
    #[inline]
    pub(crate) fn activate(&mut self, vcpu: usize, source: u8) {
        self.active |= self.bit;
        self.holder = vcpu as u8;
        self.active_source = source;
    }

    /// Makes the interrupt inactive: nobody holds it any more.
    #[inline]
    pub(crate) fn deactivate(&mut self) {
        self.active &= !self.bit;
        self.holder = NO_CPU;
        self.active_source = 0;
    }
}

/// Returns the numbers of the bits that are set, ascending.
#[inline]
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}
