//! [`Port`]: what a guest sends by.

/// What a guest sends by, and gets what is typed: its UART, or its terminal, which not every guest
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The guest's number.
    pub guest: usize,
    /// Whether it is the terminal.
    pub is_terminal: bool,
}

impl Port {
    /// Returns the UART of a guest.
    pub const fn uart(guest: usize) -> Self {
        Self { guest, is_terminal: false }
    }

    /// Returns the terminal of a guest.
    pub const fn terminal(guest: usize) -> Self {
        Self { guest, is_terminal: true }
    }
}

/// Returns the guest's UART, which is meant where nothing else is said.
impl From<usize> for Port {
    fn from(guest: usize) -> Self {
        Self::uart(guest)
    }
}
