//! What a store must hold after each thing that was done to it, or was not done whole.

use crate::common::{contents, read};
use stasis_store::{BlockDevice, Store};
use std::collections::BTreeMap;

/// What a store holds: the contents of each checkpoint by its number.
pub type State = BTreeMap<u64, Vec<u8>>;

/// A store under test beside what it must hold.
pub struct Model {
    /// What the open store says that it holds.
    pub current: State,
    /// What the store may hold after a loss of power: `current`, and what commits that failed had
    /// tried.
    pub possible: Vec<State>,
    pub highest_number: u64,
    /// Makes what a checkpoint has.
    pub contents: fn(u64, usize) -> Vec<u8>,
}

impl Model {
    pub fn new() -> Self {
        Self { current: State::new(), possible: vec![State::new()], highest_number: 0, contents }
    }

    /// Returns a store that was opened, and holds this.
    pub fn holding(current: State) -> Self {
        let highest_number = current.keys().last().copied().unwrap_or(0);
        Self { possible: vec![current.clone()], current, highest_number, contents }
    }

    pub fn attempted(&mut self, state: State, succeeded: bool) {
        if succeeded {
            self.possible = vec![state.clone()];
            self.current = state;
        } else {
            self.possible.push(state);
        }
    }

    pub fn add<D: BlockDevice>(&mut self, store: &mut Store<D>, reserved: usize, len: usize) {
        let number = store.next_number();
        let Ok(mut writer) = store.begin("it", reserved as u64, 0) else {
            return;
        };
        // Now no slot holds what failed.
        self.possible = vec![self.current.clone()];
        assert!(number > self.highest_number, "number {number} reused");
        let data = (self.contents)(number, len.min(reserved));
        for piece in data.chunks(9000) {
            if writer.write(piece).is_err() {
                assert!(writer.commit().is_err());
                return;
            }
        }
        let mut state = self.current.clone();
        state.insert(number, data);
        let succeeded = writer.commit().is_ok();
        if succeeded {
            self.highest_number = number;
        }
        self.attempted(state, succeeded);
    }

    /// Adds several at once: all are there or none.
    pub fn add_set<D: BlockDevice>(&mut self, store: &mut Store<D>, lengths: &[usize]) {
        let mut state = self.current.clone();
        let first = store.next_number();
        for (index, &len) in lengths.iter().enumerate() {
            let Ok(mut writer) = store.begin("set/it", len as u64, 0) else {
                store.discard_staged();
                return;
            };
            self.possible = vec![self.current.clone()];
            let number = first + index as u64;
            assert!(number > self.highest_number + index as u64, "number {number} reused");
            let data = (self.contents)(number, len);
            let written = writer.write(&data).is_ok();
            state.insert(number, data);
            if index + 1 == lengths.len() {
                let succeeded = writer.commit().is_ok();
                if !succeeded {
                    store.discard_staged();
                }
                if succeeded {
                    self.highest_number = number;
                }
                return self.attempted(state, succeeded);
            }
            if writer.stage().is_err() || !written {
                store.discard_staged();
                return;
            }
        }
    }

    /// Adds a checkpoint that shares most of the `nth`, and has `len` bytes of its own; `replaced`
    /// goes for it.
    pub fn add_later<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        nth: usize,
        len: usize,
        replaced: Option<usize>,
    ) {
        let Some(of) = self.nth(nth).filter(|_| store.has_maps()) else { return };
        let replaced = replaced.and_then(|nth| self.nth(nth));
        let number = store.next_number();
        store.replace(replaced.as_slice()).unwrap();
        let Ok(mut writer) = store.begin_open("later", 0) else {
            return store.discard_staged();
        };
        self.possible = vec![self.current.clone()];
        assert!(number > self.highest_number, "number {number} reused");
        let (own, shared) = ((self.contents)(number, len), &self.current[&of]);
        let whole = shared.len() / 4096;
        let (from, to) = (whole / 4, whole - whole / 4);
        let written = writer.write(&[1; 4096]).is_ok()
            && writer.share(of, from as u64..to as u64).is_ok()
            && writer.write(&own).is_ok()
            && writer.rewrite(0, &[2; 64]).is_ok();
        if !written {
            assert!(writer.commit().is_err());
            return store.discard_staged();
        }
        let mut state = self.current.clone();
        let header = [[2; 64].as_slice(), &[1; 4032]].concat();
        state.insert(number, [&header, &shared[from * 4096..to * 4096], &own].concat());
        replaced.map(|number| state.remove(&number));
        let succeeded = writer.commit().is_ok();
        if !succeeded {
            store.discard_staged();
        }
        if succeeded {
            self.highest_number = number;
        }
        self.attempted(state, succeeded);
    }

    pub fn nth(&self, nth: usize) -> Option<u64> {
        self.current.keys().nth(nth % self.current.len().max(1)).copied()
    }

    pub fn delete<D: BlockDevice>(&mut self, store: &mut Store<D>, nth: usize) {
        let Some(number) = self.nth(nth) else { return };
        let mut state = self.current.clone();
        state.remove(&number);
        let succeeded = store.delete(number).is_ok();
        self.attempted(state, succeeded);
    }

    /// Checks that what was found is possible, and notes it as what the store holds from now on.
    pub fn reopened<D: BlockDevice>(&mut self, store: &mut Store<D>) {
        let found = state(store);
        assert!(self.possible.contains(&found), "found {:?}", found.keys());
        // What a commit that failed had tried may be there, and then its number is taken.
        let found_number = found.keys().last().copied().unwrap_or(0);
        self.highest_number = self.highest_number.max(found_number);
        self.possible = vec![found.clone()];
        self.current = found;
    }
}

/// Returns what a store holds.
pub fn state<D: BlockDevice>(store: &mut Store<D>) -> State {
    let numbers: Vec<u64> = store.list().iter().map(|c| c.number).collect();
    let read = |number| (number, read(store, number));
    numbers.into_iter().map(read).collect()
}
