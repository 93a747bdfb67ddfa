//! Creates, copies, deletes and brings back volumes. Each is one commit.

use super::map::Open;
use super::recovered::{self, cut};
use super::{Instant, Name, Volume, blocks_of};
use crate::block::BlockDevice;
use crate::catalog::{shown, valid_new_name};
use crate::error::{Error, VolumeFault};
use crate::layout::NAME_LEN;
use crate::store::{Result, Store};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a volume is copied from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The volume with this name, as it was when it was flushed last.
    Volume(&'a str),
    /// The volume with this name, as it was at the instant of the checkpoint with this number.
    Instant(u64, &'a str),
}

/// What becomes of a volume's content when it is brought back to an instant.
#[derive(Clone, Copy, Debug)]
pub enum Before<'u> {
    /// What the volume had become is kept as `NAME-before-NUMBER`, until somebody deletes it: a
    /// person has asked for the instant.
    Kept,
    /// What the volume had become is kept as `NAME-recovered-N`, and of these only the newest, as
    /// many as [`MOST_RECOVERED`](super::MOST_RECOVERED), besides those that are `used`: nobody has
    /// asked for the instant, and it may be asked for again and again.
    Recovered {
        /// Names of the volumes that guests have.
        used: &'u [String],
    },
}

impl<D: BlockDevice> Store<D> {
    /// Returns the volumes, in the order of their names.
    pub fn volumes(&self) -> &[Volume] {
        &self.catalog.volumes
    }

    /// Returns the volume with this name.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::NotThere`].
    pub fn find_volume(&self, name: &str) -> Result<&Volume, D> {
        let found = self.volumes().iter().find(|volume| volume.name.as_str() == name);
        found.ok_or_else(|| Error::Volume(VolumeFault::NotThere { name: shown(name) }))
    }

    /// Creates a volume of zeros, which takes no room but its entry. `created` is the time in
    /// seconds since 1970, or 0 where nobody knows it.
    ///
    /// # Errors
    ///
    /// The errors of [`begin_volume`](Self::begin_volume), and what the device says.
    pub fn create_volume(&mut self, name: &str, length: u64, created: u64) -> Result<(), D> {
        let volume = self.new_volume(name, length, created)?;
        self.add_volume(volume)
    }

    /// Begins a volume of zeros, which is there with its first flush: until then,
    /// [`Volumes`](super::Volumes) writes to it, and a loss of power leaves nothing of it.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::NameInvalid`], [`VolumeFault::Exists`], [`VolumeFault::Size`],
    /// [`Error::TooManyCheckpoints`], [`VolumeFault::NotInVersion`] before version 3;
    /// [`Error::OutOfMemory`].
    pub fn begin_volume(&mut self, name: &str, length: u64, created: u64) -> Result<(), D> {
        let volume = self.new_volume(name, length, created)?;
        self.open.try_reserve(1).map_err(|_| Error::OutOfMemory { bytes: size_of::<Open>() })?;
        self.open.push(Open::new(volume));
        Ok(())
    }

    /// Makes a volume that shares all of its blocks with another one, until one of them is written.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::NotThere`], [`VolumeFault::NoInstant`], those of
    /// [`create_volume`](Self::create_volume), and of [`Self::instants`].
    pub fn copy_volume(&mut self, from: Source, to: &str, created: u64) -> Result<(), D> {
        let volume = match from {
            Source::Volume(name) => self.find_volume(name)?.clone(),
            Source::Instant(number, name) => {
                let instant = self.instant(number, name)?;
                instant.volume(instant.name, created)
            }
        };
        let name = self.new_volume(to, volume.length, created)?.name;
        self.add_volume(Volume { name, created, ..volume })
    }

    /// Checks, before volumes are [taken](Self::take_instants) to be [copied](Self::copy_taken)
    /// with this suffix, all that is known before.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyCheckpoints`], [`VolumeFault::NotThere`], [`VolumeFault::WritesLost`],
    /// [`VolumeFault::NameInvalid`].
    pub fn check_copies(&mut self, volumes: &[&str], suffix: &str) -> Result<(), D> {
        self.check_room_for(volumes.len())?;
        let mut all = self.catalog.volumes.clone();
        for name in volumes {
            self.check_not_lost(name)?;
            let volume = self.find_volume(name)?.clone();
            let name = self.new_name(&all, name, suffix)?;
            insert(&mut all, Volume { name, ..volume });
        }
        Ok(())
    }

    /// Makes a volume of each one that was [taken](Self::take_instants), all of them in one commit:
    /// they share their blocks with what they were taken of until one of them is written. Each is
    /// called as the volume that it was taken of, with `-` and `suffix` behind, and if there is
    /// such a volume, a number; of a long name, the end is left out. Returns the names, in the
    /// order of `taken`.
    ///
    /// # Errors
    ///
    /// The errors of [`create_volume`](Self::create_volume). There is none of the volumes then.
    pub fn copy_taken(
        &mut self,
        taken: &[Instant],
        suffix: &str,
        created: u64,
    ) -> Result<Vec<Name>, D> {
        self.check_room_for(taken.len())?;
        let mut catalog = self.catalog.clone();
        let mut names = Vec::new();
        for one in taken {
            let name = self.new_name(&catalog.volumes, &one.name, suffix)?;
            insert(&mut catalog.volumes, one.volume(name, created));
            names.push(name);
        }
        self.write_catalog(catalog)?;
        Ok(names)
    }

    /// Deletes a volume, for good. Whoever uses it must see to it that nobody does this.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::NotThere`], and what the device says.
    pub fn delete_volume(&mut self, name: &str) -> Result<(), D> {
        let name = self.find_volume(name)?.name;
        let mut catalog = self.catalog.clone();
        catalog.volumes.retain(|volume| volume.name != name);
        self.write_catalog(catalog)?;
        self.volumes_mut().close(&name);
        Ok(())
    }

    /// Makes the volumes of these checkpoints' guests what they were at its instant, all of them in
    /// one commit. No two of the guests have a volume in common. What a volume had become since is
    /// kept as a volume of its own, unless it is the same: `before` says how. Of a volume that has
    /// lost writes, or whose late writes are refused twice, that is what its last flush has made
    /// it. Nobody may be using the volumes, which are closed.
    ///
    /// Returns for each volume whose content was kept its name, and the name under which it is
    /// kept.
    ///
    /// # Errors
    ///
    /// The errors of [`instants`](Self::instants) and [`Volumes::flush`](super::Volumes::flush);
    /// [`Error::TooManyCheckpoints`], and what the device says. All volumes are as they were then.
    pub fn bring_back(&mut self, numbers: &[u64], before: Before) -> Result<Vec<(Name, Name)>, D> {
        // A flush that has failed is no reason against a resume: what is lost, the guest gives up.
        self.note_lost();
        let mut instants = Vec::new();
        for number in numbers {
            instants.extend(self.instants(*number)?.into_iter().map(|one| (*number, one)));
        }
        for (_, one) in &instants {
            // What nobody uses is as it was flushed last.
            let is_lost = self.lost.contains(&one.name);
            if !is_lost && self.open.iter().any(|open| open.volume.name == one.name) {
                let mut volumes = self.volumes_mut();
                // Late writes that are refused twice are given up, too: a disk that goes on with
                // that would never let the guest be resumed.
                if volumes.flush(&one.name).is_err() && !volumes.refuses_late(&one.name) {
                    volumes.flush(&one.name)?;
                }
            }
        }
        let mut catalog = self.catalog.clone();
        let mut kept = Vec::new();
        for (number, one) in &instants {
            let at = catalog.volumes.binary_search_by_key(&one.name, |volume| volume.name);
            let left = at.ok().map(|at| catalog.volumes.remove(at));
            let created = left.as_ref().map_or(0, |left| left.created);
            insert(&mut catalog.volumes, one.volume(one.name, created));
            let Some(left) = left else { continue };
            if (left.root, left.length) != (one.root, one.length) {
                let name = match before {
                    Before::Kept => {
                        self.new_name(&catalog.volumes, &one.name, &recovered::before(*number))?
                    }
                    Before::Recovered { used } => {
                        let is_used = |name: &str| {
                            used.iter().any(|one| one == name)
                                || self.open.iter().any(|open| open.volume.name.as_str() == name)
                        };
                        let name = recovered::make_room(&mut catalog.volumes, &one.name, &is_used);
                        valid_new_name(&name).ok_or(VolumeFault::NameInvalid { name })?
                    }
                };
                kept.push((one.name, name));
                insert(&mut catalog.volumes, Volume { name, ..left });
            }
        }
        if catalog.volumes != self.catalog.volumes {
            self.write_catalog(catalog)?;
        }
        instants.iter().for_each(|(_, one)| self.volumes_mut().close(&one.name));
        Ok(kept)
    }

    /// Flushes all volumes that have something to flush. Returns those that were not flushed, also
    /// those that have lost writes, and why.
    pub fn flush_volumes(&mut self) -> Vec<(Name, Error<D::Error>)> {
        let names = self.unflushed_volumes();
        let flush = |name: Name| self.volumes_mut().flush(&name).err().map(|error| (name, error));
        names.into_iter().filter_map(flush).collect()
    }

    /// Returns a volume of zeros that can be created.
    fn new_volume(&mut self, name: &str, length: u64, created: u64) -> Result<Volume, D> {
        let invalid = || Error::Volume(VolumeFault::NameInvalid { name: shown(name) });
        let name =
            valid_new_name(name).filter(|name| !recovered::is_one(name)).ok_or_else(invalid)?;
        let is_it = |open: &Open| open.volume.name == name;
        if self.find_volume(&name).is_ok() || self.open.iter().any(is_it) {
            return Err(VolumeFault::Exists { name: name.to_string() }.into());
        }
        if blocks_of(length).is_none() {
            return Err(VolumeFault::Size { name: name.to_string(), length }.into());
        }
        if !self.has_maps() {
            return Err(VolumeFault::NotInVersion { version: self.version() }.into());
        }
        self.check_room_for(1)?;
        self.settle()?;
        self.finish_upgrade()?;
        Ok(Volume { name, length, created, root: None })
    }

    /// Returns a name that no volume has, of those in `volumes` and those in use: `name`, `-` and
    /// `suffix`, and if it must be, a number. Of a long `name`, the end is left out.
    fn new_name(&self, volumes: &[Volume], name: &str, suffix: &str) -> Result<Name, D> {
        let text = |again: usize| -> String {
            let suffix = match again {
                1 => format!("-{suffix}"),
                _ => format!("-{suffix}-{again}"),
            };
            format!("{}{suffix}", cut(name, NAME_LEN.saturating_sub(suffix.len())))
        };
        let is_new = |text: &String| {
            volumes.iter().all(|other| other.name.as_str() != text)
                && self.open.iter().all(|open| open.volume.name.as_str() != text)
        };
        let most = volumes.len() + self.open.len() + 1;
        let found = (1..=most).map(text).find(is_new).unwrap_or_default();
        let name = valid_new_name(&found).filter(|name| !recovered::is_one(name));
        name.ok_or_else(|| Error::Volume(VolumeFault::NameInvalid { name: shown(&found) }))
    }

    fn add_volume(&mut self, volume: Volume) -> Result<(), D> {
        let mut catalog = self.catalog.clone();
        insert(&mut catalog.volumes, volume);
        self.write_catalog(catalog)
    }
}

/// Inserts a volume in the order of names.
fn insert(volumes: &mut Vec<Volume>, volume: Volume) {
    let at = volumes.partition_point(|other| other.name < volume.name);
    volumes.insert(at, volume);
}
