//! [`Content`]: what a file has in it that is made of others, such as a boot archive. The others are read when it is written.
//!
//! A kernel and an initramfs may have some hundred MiB. No more than a piece of [`BUFFER`] bytes of
//! them is in memory at a time.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::files::read;

/// Bytes of a file that are in memory at a time.
const BUFFER: usize = 1 << 16;

/// The contents of a file, as a sequence of pieces.
#[derive(Debug, Default)]
pub struct Content {
    pieces: Vec<Piece>,
    len: u64,
}

/// A piece of a content.
#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// Zeros, so many bytes.
    Zeros(u64),
    /// The first `len` bytes of a file of the host.
    File {
        file: File,
        path: PathBuf,
        len: u64,
    },
}

impl Content {
    /// Returns the content of a file, which stays open until it is read. Reads what has no length,
    /// such as a pipe. An error names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot_read = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(cannot_read)?;
        let metadata = file.metadata().with_context(cannot_read)?;
        if !metadata.is_file() {
            return Ok(read(path)?.into());
        }
        let mut content = Self::default();
        content.push(Piece::File { file, path: path.to_owned(), len: metadata.len() });
        Ok(content)
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds another content behind this one.
    pub fn append(&mut self, other: Self) {
        other.pieces.into_iter().for_each(|piece| self.push(piece));
    }

    /// Adds bytes behind those that there are.
    pub fn append_bytes(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => {
                last.extend_from_slice(bytes);
                self.len += bytes.len() as u64;
            }
            _ => self.push(Piece::Bytes(bytes.to_vec())),
        }
    }

    /// Adds zeros until there are `len` bytes. Adds none if there are more already.
    pub fn pad_to(&mut self, len: u64) {
        if len > self.len {
            self.push(Piece::Zeros(len - self.len));
        }
    }

    fn push(&mut self, piece: Piece) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    /// Writes all bytes. An error names the file that cannot be read; an error of `out` is as `out`
    /// has it.
    pub fn write_to(&self, out: &mut impl Write) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        for piece in &self.pieces {
            let mut at = 0;
            while at < piece.len() {
                let count = buffer.len().min((piece.len() - at).try_into().unwrap_or(usize::MAX));
                piece.read_at(at, &mut buffer[..count])?;
                out.write_all(&buffer[..count])?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Reads the bytes that begin at the offset `at`. Fails if they are not all there.
    pub fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> Result<()> {
        for piece in &self.pieces {
            if at < piece.len() && !buffer.is_empty() {
                let count = buffer.len().min((piece.len() - at).try_into().unwrap_or(usize::MAX));
                let (first, rest) = buffer.split_at_mut(count);
                piece.read_at(at, first)?;
                (at, buffer) = (piece.len(), rest);
            }
            at -= piece.len().min(at);
        }
        ensure!(buffer.is_empty(), "{} bytes are lacking at its end", buffer.len());
        Ok(())
    }

    /// Writes a file that has nothing but these bytes. An error names the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let cannot_write = || format!("cannot write {}", path.display());
        let mut file = File::create(path).with_context(cannot_write)?;
        self.write_to(&mut file).with_context(cannot_write)
    }

    /// Returns all bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) | Self::File { len, .. } => *len,
        }
    }

    /// Reads bytes of the piece. The caller asks for none behind its end.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Self::Bytes(bytes) => buffer.copy_from_slice(&bytes[at as usize..][..buffer.len()]),
            Self::Zeros(_) => buffer.fill(0),
            Self::File { file, path, .. } => file
                .read_exact_at(buffer, at)
                .with_context(|| format!("cannot read {}", path.display()))?,
        }
        Ok(())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { pieces: vec![Piece::Bytes(bytes)], len }
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        std::fs::write(&path, "file").unwrap();
        let mut content = Content::from("ab");
        content.append_bytes(b"c");
        content.append(Content::open(&path).unwrap());
        content.pad_to(9);
        content.pad_to(3);
        content.append_bytes(b"end");
        let all = b"abcfile\0\0end";
        assert_eq!((content.len(), &content.to_bytes().unwrap()[..]), (12, &all[..]));
        for range in [0..12, 0..3, 1..4, 2..8, 3..7, 5..12, 9..12, 4..4, 12..12] {
            let mut bytes = vec![0xff; range.len()];
            content.read_at(range.start as u64, &mut bytes).unwrap();
            assert_eq!(bytes, all[range]);
        }
        assert!(content.read_at(10, &mut [0; 3]).is_err());
    }

    #[test]
    fn a_file_that_was_cut_short_meanwhile_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        std::fs::write(&path, [1; 100]).unwrap();
        let content = Content::open(&path).unwrap();
        std::fs::write(&path, [1; 10]).unwrap();
        let error = format!("{:#}", content.to_bytes().unwrap_err());
        assert!(error.starts_with(&format!("cannot read {}", path.display())), "{error}");
    }
}
