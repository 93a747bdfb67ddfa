//! What is behind a guest's disk: [`Volume`].

/// Why a volume did not do what it was asked for. The guest gets an I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// There is no room for what was written.
    #[error("there is no room")]
    NoRoom,
    /// The volume can't be read or written.
    #[error("the volume cannot be read or written")]
    Io,
}

/// Blocks of a guest's disk. Offsets and lengths are in bytes, multiples of 512, and within the
/// volume: the device has checked them.
///
/// # Errors
///
/// [`VolumeError`]. Of a write that failed, any part may have been written.
pub trait Volume {
    /// Reads `len` bytes from `offset` on, and hands them to `take` in pieces, in their order, for
    /// as long as it returns true.
    fn read(
        &mut self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError>;

    /// Writes `len` bytes from `offset` on, which `fill` puts into the pieces that it is given, in
    /// their order, for as long as it returns true: what it has refused is as it was, and so is all
    /// behind it. They may be lost by a loss of power until [`Volume::flush`] returns.
    fn write(
        &mut self,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError>;

    /// Makes all that was written before survive a loss of power.
    fn flush(&mut self) -> Result<(), VolumeError>;

    /// Drops the content of `len` bytes: each sector reads as it was, or as zeros.
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), VolumeError>;

    /// Makes `len` bytes zeros.
    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError>;
}
