//! What has changed for a vCPU since its list registers were filled: nothing, one interrupt, or
//! more than that.

/// What has changed for a vCPU since its list registers were filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nothing has changed. The list registers hold what they must.
    Nothing,
    /// The interrupt with this INTID has changed, and nothing else: it is in a list register, or it
    /// has come to a queue of pending ones.
    One(u16),
    /// More than one interrupt may have changed, or what decides about all of them.
    Anything,
}

impl Changed {
    /// Adds a change of the interrupt `intid`, which is in one of the vCPU's list registers, or has
    /// come to one of its queues of pending ones.
    #[inline]
    pub(crate) fn add(&mut self, intid: u16) {
        *self = match *self {
            Self::Nothing => Self::One(intid),
            Self::One(same) if same == intid => Self::One(intid),
            _ => Self::Anything,
        };
    }
}
