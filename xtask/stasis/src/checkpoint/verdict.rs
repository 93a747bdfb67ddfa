//! [`Verdict`]: what is said of a checkpoint after a look at every byte of it: good, damaged, or only too new.

use std::fmt;

use anyhow::{Error, Result, anyhow};
use stasis_state::LoadError;
use stasis_state::reader::Skipped;

use super::source::{Opened, check};

/// The result of a look at every byte of a checkpoint.
pub enum Verdict {
    /// The checkpoint is whole, except for what this version has skipped.
    Good(Skipped),
    /// The checkpoint is of a newer format, and may be whole.
    TooNew(stasis_state::Error),
    /// The checkpoint breaks a rule of the format.
    Damaged(stasis_state::Error),
    /// The checkpoint could not be read.
    Unreadable(Error),
}

impl Verdict {
    /// Reads every byte of a checkpoint that was opened, and returns the verdict.
    pub fn of(opened: Result<Opened<'_>>) -> Self {
        let checked = opened.map_err(LoadError::Source).and_then(|mut opened| check(&mut opened));
        match checked {
            Ok(checkpoint) => Self::Good(checkpoint.skipped),
            Err(LoadError::Format(error)) if error.is_of_newer() => Self::TooNew(error),
            Err(LoadError::Format(error)) => Self::Damaged(error),
            Err(LoadError::Source(error) | LoadError::Refused(error)) => Self::Unreadable(error),
        }
    }

    /// Returns what was skipped of a good checkpoint.
    ///
    /// # Errors
    ///
    /// What is wrong with any other one, with `subject` as its name.
    pub fn blame(self, subject: impl fmt::Display) -> Result<Skipped> {
        match self {
            Self::Good(skipped) => Ok(skipped),
            bad => Err(anyhow!("{subject} is {bad}")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(skipped) if skipped.is_empty() => f.write_str("good"),
            Self::Good(skipped) => write!(f, "good, but for {skipped}"),
            Self::TooNew(error) => write!(f, "too new to be checked, not damaged: {error}"),
            Self::Damaged(error) => write!(f, "damaged: {error}"),
            Self::Unreadable(error) => write!(f, "unreadable: {error:#}"),
        }
    }
}

/// A count of verdicts, for the last line.
#[derive(Default)]
pub struct Tally {
    all: usize,
    too_new: usize,
    bad: usize,
}

impl Tally {
    /// Counts a verdict.
    pub fn add(&mut self, verdict: &Verdict) {
        self.all += 1;
        match verdict {
            Verdict::Good(_) => {}
            Verdict::TooNew(_) => self.too_new += 1,
            Verdict::Damaged(_) | Verdict::Unreadable(_) => self.bad += 1,
        }
    }

    /// Returns an error unless all verdicts were good.
    pub fn result(self) -> Result<()> {
        let Self { all, too_new, bad } = self;
        let newer =
            format!("{too_new} of {all} checkpoints are of a newer format, and were not checked");
        let damaged = format!("{bad} of {all} checkpoints are damaged");
        match (bad, too_new) {
            (0, 0) => Ok(()),
            (0, _) => Err(anyhow!(newer)),
            (_, 0) => Err(anyhow!(damaged)),
            _ => Err(anyhow!("{damaged}; {newer}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use stasis_state::header::Header;
    use stasis_state::routines::crc32c;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/1.0/four-vcpus.stasis");

    /// The golden file, changed, with the header's length and CRC made right.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = GOLDEN.to_vec();
        change(&mut bytes);
        let length = bytes.len() as u64;
        bytes[32..40].copy_from_slice(&length.to_le_bytes());
        bytes[Header::CRC_OFFSET..Header::LEN].fill(0);
        let crc = crc32c(0, &bytes[..Header::LEN]);
        bytes[Header::CRC_OFFSET..Header::LEN].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Verdict {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Verdict::of(Opened::of(&file))
    }

    fn verdict(change: impl FnOnce(&mut Vec<u8>)) -> String {
        of(&changed(change)).to_string()
    }

    #[test]
    fn newer_is_not_damaged_and_good_says_what_it_is_without() {
        assert_eq!(verdict(|_| ()), "good");
        let newer = verdict(|bytes| bytes[8] = 2);
        assert!(
            newer.starts_with("too new to be checked, not damaged: written by format 2.0; "),
            "{newer}"
        );
        let features = verdict(|bytes| bytes[20] = 1);
        assert!(
            features.starts_with("too new to be checked, not damaged: needs features"),
            "{features}"
        );
        let damaged = verdict(|bytes| bytes[Header::LEN + 20] ^= 1);
        assert!(damaged.starts_with("damaged: record 0 (GUEST): CRC is "), "{damaged}");
        let skipped = verdict(|bytes| {
            let mut record = [0x77, 0x87, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0].to_vec();
            let body = [1; 8];
            let crc = crc32c(crc32c(0, &record), &body);
            record.extend(crc.to_le_bytes());
            record.extend(body);
            bytes.splice(Header::LEN..Header::LEN, record);
        });
        assert_eq!(skipped, "good, but for 1 record that this version does not know");
    }

    #[test]
    fn the_last_line_tells_damaged_ones_from_newer_ones() {
        let mut tally = Tally::default();
        tally.add(&of(&changed(|_| ())));
        tally.add(&of(&changed(|bytes| bytes[8] = 2)));
        assert_eq!(
            tally.result().unwrap_err().to_string(),
            "1 of 2 checkpoints are of a newer format, and were not checked"
        );
        let mut tally = Tally::default();
        tally.add(&of(&[]));
        tally.add(&of(&changed(|bytes| bytes[8] = 2)));
        let both = tally.result().unwrap_err().to_string();
        assert!(both.starts_with("1 of 2 checkpoints are damaged; 1 of 2"), "{both}");
    }
}
