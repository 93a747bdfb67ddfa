//! Reads, writes and flushes of any length, as requests of at most [`MAX_TRANSFER`] bytes, up to
//! [`DEPTH`] at a time.

use super::{DEPTH, Error, MAX_TRANSFER, Request, SECTOR, VirtioBlk};
use crate::time::Wait;
use virtio_drivers::transport::Transport;

impl<T: Transport> VirtioBlk<T> {
    /// Reads whole sectors, from number `sector` on, into `buf`. Waits for the disk by `wait`.
    ///
    /// # Errors
    ///
    /// The errors of [`read_with`](Self::read_with).
    pub fn read(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        mut buf: &mut [u8],
    ) -> Result<(), Error> {
        self.read_with(wait, sector, buf.len(), &mut |piece| {
            let (now, later) = core::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        })
    }

    /// Reads `len` bytes, whole sectors, and passes them to `take` in pieces of the driver's
    /// buffers, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] and [`Error::BeyondEnd`], before the disk is asked; what the first request
    /// of this read that failed has failed with. What a write has failed with that was begun
    /// before, [`end_requests`](Self::end_requests) returns as if nothing had been read.
    pub fn read_with(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.check_range(Request::Read(sector, len / SECTOR), sector, len)?;
        // Whoever reads need not be the one that writes. A disk that was given up says so again.
        let _ = self.settle(wait);
        let of_writes = self.failed.take();
        let done = self.read_pieces(wait, sector, len, take);
        // After a failure, the device may have further requests.
        let ended = self.end_requests(wait);
        self.failed = of_writes;
        done.and(ended)
    }

    /// Reads pieces, each of them in the buffer behind that of the piece before, and passes them to
    /// `take`. All buffers are the driver's.
    fn read_pieces(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut ahead = transfers(sector, len);
        for (n, (first, len)) in ahead.by_ref().take(DEPTH).enumerate() {
            self.submit(wait, n, Request::Read(first, len / SECTOR))?;
        }
        let mut n = 0;
        for (_, len) in transfers(sector, len) {
            while !self.requests.is_free(n) {
                self.end_one(wait)?;
            }
            self.failed.map_or(Ok(()), Err)?;
            take(self.requests.data(n, len));
            if let Some((first, len)) = ahead.next() {
                self.submit(wait, n, Request::Read(first, len / SECTOR))?;
            }
            n = (n + 1) % DEPTH;
        }
        Ok(())
    }

    /// Writes whole sectors, from number `sector` on. Waits for the disk by `wait`. What was
    /// written lasts after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Length`] and [`Error::BeyondEnd`], before the disk is asked;
    /// what the first request that failed has failed with, also one of a write that was begun
    /// before.
    pub fn write(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        mut data: &[u8],
    ) -> Result<(), Error> {
        self.settle(wait)?;
        let begun = self.begin_write_while(wait, sector, data.len(), &mut |piece| {
            let (now, later) = data.split_at(piece.len());
            piece.copy_from_slice(now);
            data = later;
            true
        });
        let ended = self.end_requests(wait);
        begun.and(ended)
    }

    /// Begins to write `len` bytes, whole sectors, which `fill` puts into pieces of the driver's
    /// buffers, in their order, for as long as it returns true. They are written when
    /// [`end_requests`](Self::end_requests) has returned. Waits only while the device has [`DEPTH`]
    /// requests. Returns whether `fill` has made all pieces: one that it has refused is not
    /// written, nor is any behind it.
    ///
    /// # Errors
    ///
    /// The errors of [`write`](Self::write); also that of a write which was begun before, until
    /// [`end_requests`](Self::end_requests) has returned it.
    pub fn begin_write_while(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, Error> {
        let request = Request::Write(sector, len / SECTOR);
        if self.read_only {
            return Err(Error::ReadOnly(request));
        }
        self.check_range(request, sector, len)?;
        for (first, len) in transfers(sector, len) {
            let n = loop {
                match self.requests.free() {
                    Some(n) => break n,
                    None => self.end_one(wait)?,
                }
            };
            self.failed.map_or(Ok(()), Err)?;
            if !fill(self.requests.data(n, len)) {
                return Ok(false);
            }
            self.submit(wait, n, Request::Write(first, len / SECTOR))?;
        }
        Ok(true)
    }

    /// Waits for all requests that were begun, and forgets their errors.
    ///
    /// # Errors
    ///
    /// What the first of them that failed has failed with; that the disk was given up.
    pub fn end_requests(&mut self, wait: &mut dyn Wait) -> Result<(), Error> {
        let settled = self.settle(wait);
        self.failed = None;
        settled
    }

    /// Makes what was written last. A device that does not offer a flush has no cache.
    ///
    /// # Errors
    ///
    /// What the flush has failed with, or a write that was begun before.
    pub fn flush(&mut self, wait: &mut dyn Wait) -> Result<(), Error> {
        self.settle(wait)?;
        if self.has_cache && !self.read_only {
            self.submit(wait, 0, Request::Flush)?;
            self.end_requests(wait)?;
        }
        Ok(())
    }

    fn check_range(&self, request: Request, sector: u64, len: usize) -> Result<(), Error> {
        if !len.is_multiple_of(SECTOR) {
            return Err(Error::Length { len });
        }
        match sector.checked_add((len / SECTOR) as u64) {
            Some(end) if end <= self.capacity => Ok(()),
            _ => Err(Error::BeyondEnd { request, capacity: self.capacity }),
        }
    }
}

/// Returns the requests that `len` bytes from `sector` on take: the first sector of each, and its
/// bytes.
fn transfers(sector: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let count = len.div_ceil(MAX_TRANSFER);
    (0..count).map(move |n| {
        let offset = n * MAX_TRANSFER;
        (sector + (offset / SECTOR) as u64, MAX_TRANSFER.min(len - offset))
    })
}
