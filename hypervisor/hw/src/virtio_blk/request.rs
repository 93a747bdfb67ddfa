//! Requests to the disk, and the errors of the disk.

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
    /// Returns the header that the device reads (5.2.6): type, reserved, sector.
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

impl Error {
    /// Returns the request that has failed with this error, if it is that of a request that the
    /// disk had.
    pub fn request(&self) -> Option<Request> {
        match self {
            Self::Failed { request, .. }
            | Self::TimedOut { request, .. }
            | Self::Confused { request, .. } => Some(*request),
            _ => None,
        }
    }
}

/// Status of a request that failed, in words (5.2.6).
struct Status(u8);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("an I/O error, so the medium may be bad there"),
            2 => f.write_str("it does not support that"),
            other => write!(f, "unknown status {other}"),
        }
    }
}

/// Reason why the disk can't be used, or did not do what it was asked.
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
        /// Address of the device's registers.
        address: usize,
        /// Features that the driver accepts.
        features: u64,
    },
    /// The device's blocks are not of 512 bytes.
    #[error("the disk at {address:#x} has blocks of {found} bytes; only 512 are supported")]
    BlockSize {
        /// Address of the device's registers.
        address: usize,
        /// Size of the device's blocks in bytes.
        found: u32,
    },
    /// The queue or the configuration space is not as it must be.
    #[error("the disk at {address:#x} can't be set up: {error}")]
    Setup {
        /// Address of the device's registers.
        address: usize,
        /// Error of `virtio-drivers`.
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
        /// Number of sectors of the disk.
        capacity: u64,
    },
    /// A buffer that is not a whole number of sectors.
    #[error("{len} bytes are not a whole number of sectors")]
    Length {
        /// Length of the buffer in bytes.
        len: usize,
    },
    /// The device says that the request failed.
    #[error("the disk failed a {request}: {}", Status(*.status))]
    Failed {
        /// The request.
        request: Request,
        /// Status of the request: VIRTIO_BLK_S_IOERR is 1, VIRTIO_BLK_S_UNSUPP is 2.
        status: u8,
    },
    /// The device did not answer in time.
    #[error("the disk did not answer a {request} in {ms} ms: it is out of use from now on")]
    TimedOut {
        /// The request.
        request: Request,
        /// Limit in milliseconds.
        ms: u64,
    },
    /// The device answered something else than it was asked for.
    #[error("the disk confused a {request}: {error}")]
    Confused {
        /// The request.
        request: Request,
        /// Error of `virtio-drivers`.
        error: virtio_drivers::Error,
    },
    /// The device was given up.
    #[error("the disk is out of use since it did not answer a {since}")]
    GivenUp {
        /// The request that the device did not answer.
        since: Request,
    },
}
