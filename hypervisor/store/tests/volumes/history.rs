//! Random histories of volumes.

use crate::common::{Random, contents, formatted, open, read};
use crate::{checkpoint, whole};
use stasis_store::volume::Source;

/// Random writes, zeros, flushes, copies, checkpoints and restarts, against a list of bytes.
#[test]
fn random_histories_of_volumes_are_as_a_list_of_bytes() {
    for seed in 0..12 {
        history(seed);
    }
}

/// A volume as it must be: what was flushed, and what is read.
#[derive(Clone)]
struct Expected {
    flushed: Vec<u8>,
    now: Vec<u8>,
}

fn history(seed: u64) {
    const BLOCKS: u64 = 1100;
    let mut random = Random::new(seed);
    let mut store = open(formatted(6000));
    let names = ["a", "b"];
    let zeros = vec![0; (BLOCKS * 4096) as usize];
    let mut expected = names.map(|name| {
        store.create_volume(name, BLOCKS * 4096, 0).unwrap();
        Expected { flushed: zeros.clone(), now: zeros.clone() }
    });
    let mut stored: Option<(u64, Vec<u8>)> = None;
    for _ in 0..200 {
        let which = random.below(2) as usize;
        let (name, one) = (names[which], &mut expected[which]);
        let offset = random.below(BLOCKS * 8) * 512;
        let len = ((random.below(40) + 1) * 512).min(BLOCKS * 4096 - offset);
        let range = offset as usize..(offset + len) as usize;
        match random.below(20) {
            0..9 => {
                let data = contents(random.below(1 << 20), len as usize);
                store.volumes_mut().write(name, offset, &data).unwrap();
                one.now[range].copy_from_slice(&data);
            }
            9..11 => {
                let len = len * (1 + random.below(200)).min((BLOCKS * 4096 - offset) / len);
                store.volumes_mut().zero(name, offset, len).unwrap();
                one.now[offset as usize..(offset + len) as usize].fill(0);
            }
            11..15 => {
                store.volumes_mut().flush(name).unwrap();
                one.flushed = one.now.clone();
            }
            15 => {
                let number = checkpoint(&mut store, &[name]);
                stored = Some((number, one.now.clone()));
                if store.list().len() > 2 {
                    store.delete(store.list()[0].number).unwrap();
                }
            }
            16 => {
                // A checkpoint is written while the volume is.
                let mut writer = store.begin("beside", 8192, 0).unwrap();
                writer.write(&[1; 4096]).unwrap();
                let data = contents(random.below(1 << 20), len as usize);
                writer.volumes_mut().write(name, offset, &data).unwrap();
                writer.volumes_mut().flush(name).unwrap();
                writer.write(&[2; 4096]).unwrap();
                let number = writer.commit().unwrap().number;
                assert!(read(&mut store, number) == [[1; 4096], [2; 4096]].concat());
                store.delete(number).unwrap();
                one.now[range].copy_from_slice(&data);
                one.flushed = one.now.clone();
            }
            17 => {
                store = open(store.into_device());
                expected.iter_mut().for_each(|one| one.now = one.flushed.clone());
            }
            18 => {
                if let Some((number, bytes)) = stored.take() {
                    store.copy_volume(Source::Instant(number, name), "then", 0).ok();
                    if store.find_volume("then").is_ok() {
                        assert!(whole(&mut store, "then") == bytes);
                        store.volumes_mut().close("then");
                        store.delete_volume("then").unwrap();
                    }
                }
            }
            _ => {
                let mut found = vec![0; len as usize];
                store.volumes_mut().read(name, offset, &mut found).unwrap();
                assert!(found == one.now[range], "seed {seed}");
            }
        }
    }
    for (name, one) in names.iter().zip(&expected) {
        assert!(whole(&mut store, name) == one.now, "seed {seed}");
    }
}
