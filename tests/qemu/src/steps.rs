//! What the loop in a Linux guest prints, and whether it is right.

use anyhow::{Context, Result, ensure};
use xtask::initramfs::{self, Loop};

use crate::guests::is_log;
use crate::sequence::Sequence;

/// The steps of the loop, from the first on. They must all be there, each once, each with the right
/// hash, and the kernel must be silent.
#[derive(Clone)]
pub struct Steps {
    hashes: Loop,
    /// The hash of each step, from 1 on.
    known: Vec<String>,
    sequence: Sequence,
}

impl Default for Steps {
    fn default() -> Self {
        Self { hashes: Loop::new(), known: Vec::new(), sequence: Sequence::new(1) }
    }
}

impl Steps {
    /// Looks at a line of the guest, which may be another one.
    pub fn look_at(&mut self, line: &str) -> Result<()> {
        // A host that has fewer cores than the machine keeps one of the machine's waiting.
        let excused = line.contains("hrtimer: interrupt took");
        ensure!(!is_log(line) || excused, "the kernel complains: \"{line}\"");
        let Some((step, hash)) = initramfs::parse(line) else { return Ok(()) };
        self.sequence.look_at(step).with_context(|| format!("\"{line}\""))?;
        let expected = self.hash_of(step)?;
        ensure!(hash == expected, "the hash should be {expected}: \"{line}\"");
        Ok(())
    }

    /// Returns the hash of a step, of which all before are kept: a resume may take the loop back,
    /// and hashes can be computed forwards only.
    fn hash_of(&mut self, step: u64) -> Result<&str> {
        let index = usize::try_from(step)?.checked_sub(1).context("there is no step 0")?;
        while self.known.len() <= index {
            let hash = self.hashes.hash_at(self.known.len() as u64 + 1);
            self.known.push(hash.context("the steps go backwards")?);
        }
        Ok(&self.known[index])
    }

    /// Returns the last step.
    pub fn last(&self) -> u64 {
        self.sequence.last()
    }

    /// Returns the numbers of the steps.
    pub fn sequence(&mut self) -> &mut Sequence {
        &mut self.sequence
    }
}
