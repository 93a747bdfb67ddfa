//! What the disk is asked for, and why it was not done.

use core::fmt;

/// A request to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads this many sectors from this one on.
    Read(u64, usize),
    /// Writes this many sectors from this one on.
    Write(u64, usize),
    /// Makes what was written last.
    Flush,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(sector, count) => write!(f, "read of {count} sectors from {sector}"),
            Self::Write(sector, count) => write!(f, "write of {count} sectors from {sector}"),
            Self::Flush => write!(f, "flush"),
        }
    }
}

impl Request {
    /// The header that the device reads (5.2.6): type, reserved, sector.
    pub(super) fn header(self) -> [u8; 16] {
        let (kind, sector) = match self {
            Self::Read(sector, _) => (0u32, sector),
            Self::Write(sector, _) => (1, sector),
            Self::Flush => (4, 0),
        };
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        header
    }
}

/// Why the disk can't be used, or did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the slots holds a block device.
    #[error("none of the machine's {slots} virtio slots holds a disk")]
    NoDisk {
        /// Number of slots looked into.
        slots: usize,
    },
    /// The device did not agree to what the driver accepts.
    #[error("the disk at {address:#x} does not accept features {features:#x}")]
    Features {
        /// Where it is.
        address: usize,
        /// What it was asked for.
        features: u64,
    },
    /// The device has blocks that are no sectors.
    #[error("the disk at {address:#x} has blocks of {found} bytes; only 512 are supported")]
    BlockSize {
        /// Where it is.
        address: usize,
        /// Its block size.
        found: u32,
    },
    /// The queue or the configuration space is not as it must be.
    #[error("the disk at {address:#x} can't be set up: {error}")]
    Setup {
        /// Where it is.
        address: usize,
        /// What `virtio-drivers` says.
        error: virtio_drivers::Error,
    },
    /// A write to a read-only device.
    #[error("the disk is read-only: {0} refused")]
    ReadOnly(Request),
    /// A request beyond the device.
    #[error("{request} goes beyond the disk's {capacity}")]
    BeyondEnd {
        /// The request.
        request: Request,
        /// Sectors of the disk.
        capacity: u64,
    },
    /// A buffer that is not a whole number of sectors.
    #[error("{len} bytes are not a whole number of sectors")]
    Length {
        /// Its length.
        len: usize,
    },
    /// The device says that it failed.
    #[error("the disk failed a {request} (status {status})")]
    Failed {
        /// The request.
        request: Request,
        /// VIRTIO_BLK_S_IOERR is 1, VIRTIO_BLK_S_UNSUPP is 2.
        status: u8,
    },
    /// The device did not answer in time.
    #[error("the disk did not answer a {request} in {ms} ms: it is out of use from now on")]
    TimedOut {
        /// The request.
        request: Request,
        /// The limit.
        ms: u64,
    },
    /// The device answered something else than it was asked.
    #[error("the disk confused a {request}: {error}")]
    Confused {
        /// The request.
        request: Request,
        /// What `virtio-drivers` says.
        error: virtio_drivers::Error,
    },
    /// The device was given up.
    #[error("the disk is out of use since it did not answer a {since}")]
    GivenUp {
        /// The request that it did not answer.
        since: Request,
    },
}
