//! [`Way`]: how guests are resumed.

/// How guests are resumed.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Whether their counter may have any frequency.
    pub any_speed: bool,
    /// Whether all of their memory is loaded and checked before they run.
    pub whole: bool,
    /// What becomes of their disks.
    pub disks: Disks,
}

/// What becomes of the disks of guests that are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// The disks are as they were at the instant, and what they had become is kept until a person
    /// deletes it.
    BroughtBack,
    /// The disks are as they were at the instant, and of what they had become, the newest is kept:
    /// the machine does this by itself.
    Recovered,
    /// The disks stay as they are.
    Stay,
}
