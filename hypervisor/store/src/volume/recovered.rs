//! What automatic resumes leave of volumes: `NAME-recovered-N`, of which the newest are kept.
//!
//! Nobody else gets a volume by such a name: the catalog does not say who has made a volume, so the
//! name must. N is one of 1 to 9999, and begins again behind that.

use super::Volume;
use crate::catalog::Which;
use crate::crc32c::crc32c;
use crate::layout::NAME_LEN;
use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The most volumes that automatic resumes keep of what one volume had become.
pub const MOST_RECOVERED: usize = 3;

/// What stands between a volume's name and the number.
const MARK: &str = "-recovered-";
/// What stands between a volume's name and a checkpoint's number, where a person has resumed that.
const BEFORE: &str = "before-";
/// The highest number.
const LAST: u16 = 9999;
/// Bytes of a name that leave room for the mark and the number.
const ROOM: usize = NAME_LEN - MARK.len() - 4;
/// Bytes of `~` and a checksum.
const CHECKSUM: usize = 9;

/// Returns the number of a volume that an automatic resume has kept of the one with this stem.
fn number(name: &str, stem: &str) -> Option<u16> {
    let digits = name.strip_prefix(stem)?.strip_prefix(MARK)?;
    let number = digits.parse().ok().filter(|number| (1..=LAST).contains(number))?;
    // One text for one number.
    (number.to_string() == digits).then_some(number)
}

/// What a resume has set aside of a volume, as the name says under which it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAside<'n> {
    /// The volume's name. Of a long one, the end is left out.
    pub volume: &'n str,
    /// The number of the checkpoint that was resumed; `None` if no person did that, for then the
    /// name does not say it.
    pub checkpoint: Option<u64>,
}

impl SetAside<'_> {
    /// Returns whether this was set aside of the volume called `name`. Of one whose name was cut,
    /// when a person has resumed the checkpoint, the beginning alone tells.
    pub fn is_of(&self, name: &str) -> bool {
        match self.checkpoint {
            Some(_) => name.starts_with(self.volume),
            None => stem(name) == self.volume,
        }
    }
}

/// Returns what was set aside under this name; `None` if no resume makes such a name. A person can
/// make one of those that tell a checkpoint, too.
pub fn set_aside(name: &str) -> Option<SetAside<'_>> {
    if is_one(name) {
        return name.rfind(MARK).map(|at| SetAside { volume: &name[..at], checkpoint: None });
    }
    let (volume, rest) = name.rsplit_once(&format!("-{BEFORE}"))?;
    // A number behind it tells several apart.
    let (number, again) = rest.split_once('-').unwrap_or((rest, "0"));
    let of = |text| if let Which::Number(number) = Which::from(text) { Some(number) } else { None };
    let checkpoint = of(again).and_then(|_| of(number))?;
    Some(SetAside { volume, checkpoint: Some(checkpoint) })
}

/// Returns the suffix of what a volume had become when a person has resumed this checkpoint.
pub(super) fn before(checkpoint: u64) -> String {
    format!("{BEFORE}{checkpoint}")
}

/// Returns whether a volume of this name is one that an automatic resume has kept.
pub(super) fn is_one(name: &str) -> bool {
    name.rfind(MARK).is_some_and(|at| number(name, &name[..at]).is_some())
}

/// Returns what the names of all that is kept of the volume `name` begin with: all of it, or for a
/// long one its beginning and a checksum of all of it, as two may begin alike.
fn stem(name: &str) -> String {
    match name.len() <= ROOM {
        true => name.to_string(),
        false => format!("{}~{:08x}", cut(name, ROOM - CHECKSUM), crc32c(name.as_bytes())),
    }
}

/// Returns as much of the beginning of `name` as fits in `room` bytes.
pub(super) fn cut(name: &str, room: usize) -> &str {
    let kept = (0..=room.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    &name[..kept.unwrap_or(0)]
}

/// Removes the oldest volumes that automatic resumes have kept of the volume `name`, until one more
/// is not too much. Those that are used stay. Returns the name of the next one, which is new.
pub(super) fn make_room(
    volumes: &mut Vec<Volume>,
    name: &str,
    is_used: &dyn Fn(&str) -> bool,
) -> String {
    let stem = stem(name);
    let kept = volumes.iter().filter_map(|volume| number(&volume.name, &stem));
    // A heap's sorting is a tenth of the code of a slice's.
    let mut kept: Vec<u16> = BinaryHeap::from_iter(kept).into_sorted_vec();
    // Where the numbers have begun again, the high ones are the older.
    let has_wrapped =
        kept.first().zip(kept.last()).is_some_and(|(low, high)| high - low > LAST / 2);
    if has_wrapped {
        let old = kept.iter().filter(|number| **number <= LAST / 2).count();
        kept.rotate_left(old);
    }
    let gone = &kept[..(kept.len() + 1).saturating_sub(MOST_RECOVERED)];
    volumes.retain(|volume| {
        let is_gone = number(&volume.name, &stem).is_some_and(|number| gone.contains(&number));
        !is_gone || is_used(&volume.name)
    });
    let newest = kept.last().copied().unwrap_or(0);
    let following =
        (newest..LAST).chain(0..newest).map(|before| format!("{stem}{MARK}{}", before + 1));
    let mut new = following
        .filter(|name| volumes.iter().all(|volume| volume.name.as_str() != name) && !is_used(name));
    // A catalog has no room for so many.
    new.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_resume_has_set_aside() {
        let of = |volume, checkpoint| Some(SetAside { volume, checkpoint });
        for (name, expected) in [
            ("root-before-3", of("root", Some(3))),
            ("root-before-3-2", of("root", Some(3))),
            ("a-before-1-before-20", of("a-before-1", Some(20))),
            ("root-recovered-7", of("root", None)),
            ("root", None),
            ("root-before-", None),
            ("root-before-now", None),
            ("root-before-+5", None),
            ("root-before-5-", None),
            ("root-before-3-x", None),
            ("root-twin", None),
        ] {
            assert_eq!(set_aside(name), expected, "{name}");
        }
    }

    #[test]
    fn what_was_set_aside_is_known_by_its_volumes_name_however_long_that_is() {
        let long = "a-volume-with-a-long-name";
        let recovered = make_room(&mut Vec::new(), long, &|_| false);
        for (kept, name, is_of) in [
            ("root-before-3", "root", true),
            ("root-before-3", "other", false),
            ("root-recovered-7", "root", true),
            ("root-recovered-7", "rootfs", false),
            (&recovered, long, true),
            (&recovered, "a-volume-with-a-long-nose", false),
        ] {
            assert_eq!(set_aside(kept).unwrap().is_of(name), is_of, "{kept} of {name}");
        }
    }
}
