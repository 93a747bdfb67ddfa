//! What is saved is what is loaded.

mod common;

use common::{load, load_ram, ram, save, state};
use stasis_state::{PAGE_SIZE, warnings::warnings};

#[test]
fn a_loaded_state_is_the_saved_one_and_saves_to_the_same_bytes() {
    for nr_vcpus in [1, 2, 8] {
        let memory = ram("a..bc.d.");
        let saved = state(nr_vcpus, memory.len());
        let (file, stats) = save(&saved, &memory);
        assert_eq!((stats.pages_stored, stats.pages_zero), (4, 4));
        let checkpoint = load(&file.0).unwrap();
        assert_eq!(checkpoint.stats, stats);
        assert_eq!(checkpoint.state, saved);
        let loaded = load_ram(&file.0, &checkpoint).unwrap();
        assert!(loaded == memory);
        assert_eq!(save(&checkpoint.state, &loaded).0, file);
    }
}

#[test]
fn a_sound_state_has_no_warnings() {
    assert_eq!(warnings(&state(4, PAGE_SIZE).records()), []);
}
