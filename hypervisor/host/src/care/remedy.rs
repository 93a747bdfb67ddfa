//! Carrying out what was decided about a guest that has stopped.
//!
//! [`help`] tries the checkpoints that a guest may go on from, one after another, and starts the
//! guest anew where none is good. It does so by [`Means`]. How that has ended is a [`Report`],
//! which the console shows.

use alloc::vec::Vec;
use core::fmt::{self, Display};

use stasis_guest::stop::Stopped;

use crate::recovery::{Limit, Remedy};

/// What can be done with a guest that has stopped.
pub trait Means {
    /// Why something failed.
    type Error: Display;

    /// Starts the guest again from its image.
    fn restart(&mut self) -> Result<(), Self::Error>;

    /// Returns the numbers of the guest's checkpoints, the newest first.
    fn checkpoints(&mut self) -> Result<Vec<u64>, Self::Error>;

    /// Resumes the guest from the checkpoint with this number.
    ///
    /// # Errors
    ///
    /// Why it was not resumed. Where it is off in the checkpoint, nothing has changed, its disks
    /// least of all: it will be started from its image, on the disks that it has.
    fn resume(&mut self, number: u64) -> Result<(), Self::Error>;

    /// Returns whether the machine lacked memory, and nothing is wrong with what was tried.
    fn lacks_memory(error: &Self::Error) -> bool;

    /// Says in the log what came in the way.
    fn warn(&mut self, setback: Setback<'_, Self::Error>);
}

/// Why a guest was not resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotResumed<E> {
    /// The store can't be read.
    Store(E),
    /// The store has no checkpoint of the guest.
    NoCheckpoint,
    /// The store has only checkpoints of the guest that come after the one it was resumed from
    /// last, or that one itself.
    NoneBefore(u64),
    /// The checkpoint is damaged, or the guest is off there, or the machine can't have it.
    Bad(u64, E),
    /// The machine lacks memory for the checkpoint, which is as good as any.
    NoMemory(u64, E),
}

impl<E: Display> Display for NotResumed<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(why) => why.fmt(out),
            Self::NoCheckpoint => out.write_str("it has no checkpoint"),
            Self::NoneBefore(number) => {
                write!(out, "it has no checkpoint before {number}, which did not help")
            }
            Self::Bad(number, why) | Self::NoMemory(number, why) => {
                write!(out, "checkpoint {number}: {why}")
            }
        }
    }
}

/// What came in the way of a resume.
#[derive(Debug)]
pub enum Setback<'a, E> {
    /// A checkpoint is no good; the one before it comes next.
    PassedOver(&'a NotResumed<E>),
    /// No checkpoint is good; the guest starts anew.
    NotResumed(&'a NotResumed<E>),
}

impl<E: Display> Display for Setback<'_, E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedOver(why) => write!(out, "is not resumed from {why}"),
            Self::NotResumed(why) => write!(out, "is not resumed: {why}"),
        }
    }
}

/// What has become of a guest that had stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending<E> {
    /// The guest stays off, as its configuration says.
    StaysOff,
    /// The guest stays off: it was helped too often.
    GivenUp(Limit),
    /// The guest stays off: it can't be started again.
    NotRestarted(E),
    /// The guest starts again.
    Restarted,
    /// The guest goes on from the checkpoint with this number.
    Resumed(u64),
    /// The guest is resumed from the checkpoint with this number when there is memory for it.
    PutOff(u64, E),
}

/// What a person hears of a guest that has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<E> {
    /// How it has stopped.
    pub how: Stopped,
    /// What has become of it.
    pub ending: Ending<E>,
}

impl<E> Report<E> {
    /// Returns whether the guest runs.
    pub fn runs(&self) -> bool {
        matches!(self.ending, Ending::Restarted | Ending::Resumed(_))
    }

    /// Returns whether the guest must be helped again, in a while.
    pub fn is_put_off(&self) -> bool {
        matches!(self.ending, Ending::PutOff(..))
    }
}

impl<E: Display> Display for Report<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.how.fmt(out)?;
        match &self.ending {
            Ending::StaysOff => Ok(()),
            Ending::GivenUp(limit) => write!(out, ", and stays off: it was helped {limit}"),
            Ending::NotRestarted(why) => write!(out, ", and stays off: {why}"),
            Ending::Restarted => out.write_str("; it starts again"),
            Ending::Resumed(number) => write!(out, "; it goes on from checkpoint {number}"),
            Ending::PutOff(number, why) => {
                write!(out, "; it waits for memory to go on from checkpoint {number}: {why}")
            }
        }
    }
}

/// Does what was decided about a guest that has stopped so. A guest that can't be resumed is
/// started again.
pub fn help<M: Means>(remedy: Remedy, how: Stopped, means: &mut M) -> Report<M::Error> {
    let ending = match remedy {
        Remedy::Stop => Ending::StaysOff,
        Remedy::GiveUp(limit) => Ending::GivenUp(limit),
        Remedy::Restart => restart(means),
        Remedy::Resume { before } => match resume(before, means) {
            Ok(number) => Ending::Resumed(number),
            // An older one would bring old disks back, and a start would throw away what there is.
            Err(NotResumed::NoMemory(number, why)) => Ending::PutOff(number, why),
            Err(why) => {
                means.warn(Setback::NotResumed(&why));
                restart(means)
            }
        },
    };
    Report { how, ending }
}

fn restart<M: Means>(means: &mut M) -> Ending<M::Error> {
    means.restart().map_or_else(Ending::NotRestarted, |()| Ending::Restarted)
}

/// Resumes a guest from its newest checkpoint that is good, of those before a number if there is
/// one. Returns its number.
fn resume<M: Means>(before: Option<u64>, means: &mut M) -> Result<u64, NotResumed<M::Error>> {
    let mut numbers = means.checkpoints().map_err(NotResumed::Store)?;
    numbers.retain(|number| before.is_none_or(|before| *number < before));
    let mut why = before.map_or(NotResumed::NoCheckpoint, NotResumed::NoneBefore);
    for number in numbers {
        why = match means.resume(number) {
            Ok(()) => return Ok(number),
            Err(error) if M::lacks_memory(&error) => {
                return Err(NotResumed::NoMemory(number, error));
            }
            Err(error) => NotResumed::Bad(number, error),
        };
        means.warn(Setback::PassedOver(&why));
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::LIMITS;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    /// A guest's checkpoints, and what happens when it is resumed from each.
    #[derive(Default)]
    struct Fake {
        checkpoints: Vec<(u64, Result<(), &'static str>)>,
        store: Option<&'static str>,
        image: Option<&'static str>,
        resumed_from: Vec<u64>,
        starts: usize,
        log: Vec<String>,
    }

    impl Means for Fake {
        type Error = &'static str;

        fn restart(&mut self) -> Result<(), &'static str> {
            self.starts += 1;
            self.image.map_or(Ok(()), Err)
        }

        fn checkpoints(&mut self) -> Result<Vec<u64>, &'static str> {
            let numbers = self.checkpoints.iter().map(|(number, _)| *number).collect();
            self.store.map_or(Ok(numbers), Err)
        }

        fn resume(&mut self, number: u64) -> Result<(), &'static str> {
            self.resumed_from.push(number);
            self.checkpoints.iter().find(|(other, _)| *other == number).unwrap().1
        }

        fn lacks_memory(error: &&'static str) -> bool {
            *error == "no memory"
        }

        fn warn(&mut self, setback: Setback<'_, &'static str>) {
            self.log.push(setback.to_string());
        }
    }

    fn helped(remedy: Remedy, fake: &mut Fake) -> String {
        help(remedy, Stopped::Reset, fake).to_string()
    }

    const RESUME: Remedy = Remedy::Resume { before: None };

    #[test]
    fn a_guest_that_is_to_stay_off_is_left_alone() {
        let mut fake = Fake::default();
        assert_eq!(helped(Remedy::Stop, &mut fake), "has reset its machine");
        assert_eq!(
            helped(Remedy::GiveUp(LIMITS[0]), &mut fake),
            format!("has reset its machine, and stays off: it was helped {}", LIMITS[0])
        );
        assert_eq!((fake.starts, fake.resumed_from), (0, vec![]));
    }

    #[test]
    fn a_guest_starts_again_or_stays_off_if_it_can_not() {
        let mut fake = Fake::default();
        assert_eq!(helped(Remedy::Restart, &mut fake), "has reset its machine; it starts again");
        let mut fake = Fake { image: Some("no image"), ..Fake::default() };
        let report = help(Remedy::Restart, Stopped::Reset, &mut fake);
        assert_eq!(report.to_string(), "has reset its machine, and stays off: no image");
        assert!(!report.runs());
    }

    #[test]
    fn a_guest_goes_on_from_its_newest_checkpoint() {
        let mut fake = Fake { checkpoints: vec![(7, Ok(())), (4, Ok(()))], ..Fake::default() };
        let report = help(RESUME, Stopped::Reset, &mut fake);
        assert_eq!(report.to_string(), "has reset its machine; it goes on from checkpoint 7");
        assert!(report.runs());
        assert_eq!((fake.resumed_from, fake.log.len(), fake.starts), (vec![7], 0, 0));
    }

    #[test]
    fn checkpoints_that_are_damaged_or_of_a_guest_that_is_off_are_passed_over() {
        let mut fake = Fake {
            checkpoints: vec![(7, Err("bad CRC")), (5, Err("the guest is off there")), (4, Ok(()))],
            ..Fake::default()
        };
        let said = helped(RESUME, &mut fake);
        assert_eq!(said, "has reset its machine; it goes on from checkpoint 4");
        let log = [
            "is not resumed from checkpoint 7: bad CRC",
            "is not resumed from checkpoint 5: the guest is off there",
        ];
        assert_eq!((fake.log, fake.starts), (log.map(String::from).to_vec(), 0));
    }

    #[test]
    fn a_checkpoint_for_which_memory_is_lacking_is_not_passed_over() {
        let checkpoints = vec![(7, Err("bad CRC")), (5, Err("no memory")), (4, Ok(()))];
        let mut fake = Fake { checkpoints, ..Fake::default() };
        let report = help(RESUME, Stopped::Reset, &mut fake);
        assert!(report.is_put_off() && !report.runs());
        assert_eq!(
            report.to_string(),
            "has reset its machine; it waits for memory to go on from checkpoint 5: no memory"
        );
        assert_eq!((fake.resumed_from, fake.starts), (vec![7, 5], 0));
        assert_eq!(fake.log, ["is not resumed from checkpoint 7: bad CRC"]);
    }

    #[test]
    fn checkpoints_that_did_not_help_and_later_ones_are_not_tried_again() {
        let mut fake =
            Fake { checkpoints: vec![(7, Ok(())), (5, Ok(())), (4, Ok(()))], ..Fake::default() };
        let report = help(Remedy::Resume { before: Some(5) }, Stopped::Reset, &mut fake);
        assert_eq!(report.ending, Ending::Resumed(4));
        assert_eq!(fake.resumed_from, [4]);
        let report = help(Remedy::Resume { before: Some(4) }, Stopped::Reset, &mut fake);
        assert_eq!(report.ending, Ending::Restarted);
        assert_eq!(fake.log, ["is not resumed: it has no checkpoint before 4, which did not help"]);
    }

    #[test]
    fn a_guest_that_no_checkpoint_helps_starts_again() {
        for (mut fake, expected) in [
            (Fake::default(), "is not resumed: it has no checkpoint"),
            (Fake { store: Some("no disk"), ..Fake::default() }, "is not resumed: no disk"),
            (
                Fake { checkpoints: vec![(3, Err("bad CRC"))], ..Fake::default() },
                "is not resumed: checkpoint 3: bad CRC",
            ),
        ] {
            assert_eq!(helped(RESUME, &mut fake), "has reset its machine; it starts again");
            assert_eq!((fake.log.last().unwrap().as_str(), fake.starts), (expected, 1));
        }
    }
}
