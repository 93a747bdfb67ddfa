//! The accesses to the control registers of the virtual interface (GICH) in each round of an
//! operation. On hardware, each of them costs as much as dozens of instructions. QEMU logs them as
//! trace events.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Cost, ROUNDS};

/// The trace events of QEMU that [`Log::parse`] reads.
pub const EVENTS: [&str; 4] =
    ["gic_hyp_read", "gic_hyp_write", "gic_cpu_read", "arm_gt_cntvoff_write"];

/// Number of accesses of an operation to GICH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accesses {
    /// Reads in a round.
    pub reads: Cost,
    /// Writes in a round.
    pub writes: Cost,
}

/// What the log of a run has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Reads and writes of each round, in the order of the rounds.
    rounds: Vec<(u64, u64)>,
    /// The machine's count at which the count of the guest that was measured was 0: the last value
    /// that was written to CNTVOFF_EL2 before the first round.
    pub guest_begins: u64,
}

impl Log {
    /// Returns what QEMU has logged. A guest reads GICC_IIDR only at the beginning and at the end
    /// of a round.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        let mut round = None;
        for line in text.lines() {
            let (event, rest) = line.split_once(' ').unwrap_or((line, ""));
            match event {
                "gic_hyp_read" => round = round.map(|(reads, writes)| (reads + 1, writes)),
                "gic_hyp_write" => round = round.map(|(reads, writes)| (reads, writes + 1)),
                "gic_cpu_read" if is_edge(rest) => match round.take() {
                    Some(counts) => log.rounds.push(counts),
                    None => round = Some((0, 0)),
                },
                "arm_gt_cntvoff_write" if log.rounds.is_empty() => {
                    log.guest_begins = hex(rest).unwrap_or(log.guest_begins);
                }
                _ => {}
            }
        }
        log
    }

    /// Returns the accesses of each of `count` operations.
    ///
    /// # Errors
    ///
    /// If the log does not have [`ROUNDS`] rounds of each.
    pub fn by_operation(&self, count: usize) -> Result<Vec<Accesses>> {
        let rounds = ROUNDS as usize;
        ensure!(
            self.rounds.len() == count * rounds,
            "{count} operations have {rounds} rounds each, and QEMU has logged {} rounds",
            self.rounds.len()
        );
        let accesses = self.rounds.chunks_exact(rounds).map(|rounds| Accesses {
            reads: Cost::of(rounds.iter().map(|(reads, _)| *reads)),
            writes: Cost::of(rounds.iter().map(|(_, writes)| *writes)),
        });
        Ok(accesses.collect())
    }
}

/// Returns whether a logged read, such as `vcpu 1 iface read at 0x000000fc: 0x0002043b`, is of
/// GICC_IIDR (IHI 0048B.b 4.4.15) of a virtual CPU interface.
fn is_edge(read: &str) -> bool {
    read.starts_with("vcpu") && read.contains("at 0x000000fc:")
}

/// Returns the last word of a line, a hexadecimal number.
fn hex(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_whitespace().last()?.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: &str = "gic_cpu_read vcpu 1 iface read at 0x000000fc: 0x0002043b\n";

    #[test]
    fn accesses_between_the_edges_of_a_round_count() {
        let access = "gic_hyp_read hyp read at 0x00000100: 0x1a000000\n";
        let write = "gic_hyp_write hyp write at 0x00000100: 0x1a000000\n";
        let others = "gic_cpu_read vcpu 1 iface read at 0x0000000c: 0x00000000\n\
                      gic_cpu_read cpu 0 iface read at 0x000000fc: 0x00000000\n";
        let text =
            format!("{access}{EDGE}{access}{others}{write}{access}{EDGE}{write}{EDGE}{EDGE}");
        assert_eq!(Log::parse(&text).rounds, [(2, 1), (0, 0)]);
    }

    #[test]
    fn a_guest_begins_where_its_offset_says_before_it_measures() {
        let offset = |value| format!("arm_gt_cntvoff_write gt_cntvoff_write: value {value}\n");
        let text = [offset("0x7"), offset("0x1a63a8e"), EDGE.repeat(2), offset("0x9")].concat();
        assert_eq!(Log::parse(&text).guest_begins, 0x1a6_3a8e);
    }

    #[test]
    fn a_round_that_is_missing_is_told() {
        let log = Log { rounds: vec![(1, 2); 64], guest_begins: 0 };
        let cost = |n| Cost { min: n, median: n };
        assert_eq!(log.by_operation(1).unwrap(), [Accesses { reads: cost(1), writes: cost(2) }]);
        let error = log.by_operation(2).unwrap_err().to_string();
        assert!(error.contains("logged 64 rounds"), "{error}");
    }
}
