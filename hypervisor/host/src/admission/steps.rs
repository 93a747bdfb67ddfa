//! The steps of a resume in their order: all guests are admitted, then the memory of all is loaded,
//! then all run. Their disks are brought back as late as can be: before the first memory in use is
//! overwritten, or else when all memory is loaded. Until then nothing has changed.
//!
//! [`resume`] decides what comes when, which shared memory is put back, and until when the command
//! may be given up. [`Steps`] carries that out: `boot` with the machine's memory and cores, the
//! tests with a list of what was done. [`Losses`] counts what a failure costs.

use alloc::vec::Vec;

use stasis_state::GuestState;

use super::{LoadFailed, Losses, Refusal, Stays, check_distinct};

/// What is done in a resume, one step at a time. [`resume`] calls it.
pub trait Steps {
    /// A guest that was admitted, with its place on the machine.
    type Guest;
    /// Why no guest was resumed.
    type Error: From<Refusal> + From<LoadFailed<Self::LoadError>>;
    /// Why the memory of a guest was not loaded.
    type LoadError;

    /// Checks a guest, and takes what it needs. No memory in use is overwritten.
    fn admit(&mut self, state: &GuestState) -> Result<Self::Guest, Self::Error>;

    /// Returns whether the guest takes the place of another one, whose memory it overwrites.
    fn is_in_place(&self, guest: &Self::Guest) -> bool;

    /// Returns the regions that the guest shares with others, in its order, while the guests named
    /// in `resumed` are resumed.
    fn regions(&self, guest: &Self::Guest, resumed: &[&str]) -> Vec<Shared>;

    /// Brings the disks of all guests back to what they were at their instants, at once. Returns
    /// for each guest whether it has such disks.
    ///
    /// # Errors
    ///
    /// Why no disk was brought back.
    fn bring_back(&mut self, guests: &[Self::Guest]) -> Result<Vec<bool>, Self::LoadError>;

    /// Makes sure that the guest in whose place this one comes never goes on, also if the resume
    /// fails: its disks, or what it shares with others, are of another time from here on.
    fn lose(&mut self, guest: &mut Self::Guest);

    /// Loads the memory of the guest that was admitted as number `index`, and of its regions those
    /// for which `puts_back` says so, in the order of [`Steps::regions`]. A person may give that up
    /// if `can_give_up`.
    fn load(
        &mut self,
        index: usize,
        guest: &mut Self::Guest,
        puts_back: &[bool],
        can_give_up: bool,
    ) -> Result<(), Self::LoadError>;

    /// Makes the guests run that are not off. Their memory is loaded.
    fn run(&mut self, guests: Vec<Self::Guest>) -> Result<(), Self::Error>;
}

/// A region of memory that a guest shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The region's name.
    pub region: &'static str,
    /// The guest that uses it and is not resumed, so that its content stays; `None` if the
    /// checkpoint's content is put back.
    pub keeper: Option<&'static str>,
}

/// Resumes guests, and returns which regions that they share with others keep their content, each
/// once.
///
/// # Errors
///
/// Why no guest was resumed. Every guest was admitted before any memory is overwritten and any disk
/// is brought back; but if a guest's memory is not loaded to its end, the guests are lost whose
/// memory was overwritten, also such that they share, or whose disks were brought back, by then.
pub fn resume<S: Steps>(
    steps: &mut S,
    states: &[&GuestState],
) -> Result<Vec<Stays<'static>>, S::Error> {
    check_distinct(states)?;
    let mut guests = Vec::new();
    for state in states {
        guests.push(steps.admit(state)?);
    }
    let resumed: Vec<&str> = states.iter().map(|state| state.guest.name_text()).collect();
    let shared: Vec<Vec<Shared>> =
        guests.iter().map(|guest| steps.regions(guest, &resumed)).collect();
    let mut losses = Losses::default();
    let mut are_back = false;
    for index in 0..guests.len() {
        let puts_back: Vec<bool> = shared[index].iter().map(|one| one.keeper.is_none()).collect();
        let in_place = steps.is_in_place(&guests[index]);
        if (in_place || puts_back.contains(&true)) && !core::mem::replace(&mut are_back, true) {
            bring_back(steps, &mut guests, &resumed, &mut losses)?;
        }
        let can_give_up = losses.begin(resumed[index], in_place, puts_back.contains(&true));
        let are_sharers: Vec<bool> =
            shared.iter().map(|other| puts_one_back(other, &shared[index])).collect();
        lose(steps, &mut guests, &resumed, &are_sharers, &mut losses);
        if let Err(why) = steps.load(index, &mut guests[index], &puts_back, can_give_up) {
            return Err(losses.after(why).into());
        }
    }
    if !are_back {
        bring_back(steps, &mut guests, &resumed, &mut losses)?;
    }
    steps.run(guests)?;
    Ok(each_once(shared.iter().flatten().filter_map(Shared::stays)))
}

/// Brings the disks of all guests, of these names, back. Notes those that are lost then.
///
/// # Errors
///
/// Why no disk was brought back.
fn bring_back<S: Steps>(
    steps: &mut S,
    guests: &mut [S::Guest],
    names: &[&str],
    losses: &mut Losses,
) -> Result<(), S::Error> {
    let have_disks = steps.bring_back(guests).map_err(|why| losses.clone().after(why))?;
    lose(steps, guests, names, &have_disks, losses);
    Ok(())
}

/// Makes those of the guests, of these names, lost that take the place of another one and for which
/// `are_lost` says so. Notes them.
fn lose<S: Steps>(
    steps: &mut S,
    guests: &mut [S::Guest],
    names: &[&str],
    are_lost: &[bool],
    losses: &mut Losses,
) {
    for ((guest, name), is_lost) in guests.iter_mut().zip(names).zip(are_lost) {
        if *is_lost && steps.is_in_place(guest) {
            steps.lose(guest);
            losses.lose(name);
        }
    }
}

/// Returns whether one of these regions is among the `others`, and is put back.
fn puts_one_back(regions: &[Shared], others: &[Shared]) -> bool {
    let is_put_back = |one: &Shared| one.keeper.is_none() && others.contains(one);
    regions.iter().any(is_put_back)
}

impl Shared {
    /// Returns what a person must know of a region whose content stays.
    fn stays(&self) -> Option<Stays<'static>> {
        Some(Stays { region: self.region, keeper: self.keeper? })
    }
}

/// Returns the same without what came before. Guests that are resumed together may share the same
/// regions.
fn each_once(all: impl Iterator<Item = Stays<'static>>) -> Vec<Stays<'static>> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

#[cfg(test)]
mod tests;
