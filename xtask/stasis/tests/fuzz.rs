//! The fuzz targets of `tests/fuzz` over all that reads files, with bounded random bytes and
//! mutated good ones; and how much memory reading takes.

#[path = "../../../tests/fuzz/src/boot.rs"]
mod boot;
#[path = "../../../tests/fuzz/src/checkpoint.rs"]
mod checkpoint;
#[path = "../../../tests/fuzz/src/partition.rs"]
mod partition;
#[path = "../../../tests/fuzz/src/store.rs"]
mod store;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what this thread has allocated.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(NOW.get()));
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the most that was allocated at once while `work` ran, beyond what there was before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

/// Xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most);
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Returns good bytes with a few things wrong.
    fn mutated(&mut self, good: &[u8]) -> Vec<u8> {
        const EDGES: [u32; 8] =
            [0, 1, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX - 7, u32::MAX, 0x1_0000];
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 | 3 => {
                    // Where fields are, often.
                    let at = at & !3;
                    let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].copy_from_slice(&edge[..end - at]);
                }
                4 => bytes.truncate(at.max(1)),
                5 => {
                    let end = bytes.len().min(at + self.below(128));
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ => {
                    let end = bytes.len().min(at + self.below(128));
                    bytes.drain(at..end);
                    if bytes.is_empty() {
                        bytes.push(0);
                    }
                }
            }
        }
        bytes
    }
}

/// Random bytes, then mutated good ones.
fn each(rounds: usize, good: &[Vec<u8>], mut run: impl FnMut(&[u8])) {
    let mut random = Random(0x5741_5349_5300_0001);
    for _ in 0..rounds / 4 {
        run(&random.bytes(4096));
    }
    for good in good {
        run(good);
        for _ in 0..rounds / good.len().div_ceil(65_536).max(1) {
            run(&random.mutated(good));
        }
    }
}

fn golden(name: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/");
    std::fs::read(format!("{root}{name}")).unwrap()
}

fn checkpoints() -> Vec<Vec<u8>> {
    ["1.0/one-vcpu.stasis", "1.0/four-vcpus.stasis"].map(golden).into()
}

/// Room for a buffer and all vCPUs that there can be, whatever the file says.
const CONSTANT: usize = 512 << 10;

#[test]
fn reading_a_checkpoint_never_panics_and_takes_no_more_memory_than_its_file() {
    let (mut good, mut most) = (0, 0);
    each(600, &checkpoints(), |bytes| {
        let signed = checkpoint::sign(bytes);
        for bytes in [bytes, &signed] {
            let taken = peak(|| good += usize::from(checkpoint::read(bytes).is_some()));
            most = most.max(taken);
            assert!(taken <= CONSTANT + bytes.len(), "{taken} bytes for a file of {}", bytes.len());
        }
        checkpoint::run(bytes);
        checkpoint::read_with_memory(&signed);
    });
    // The checksums that are made right let some of the mutated files through.
    assert!(good > 100, "only {good}");
    assert!(most > 64 << 10, "the allocator does not count: {most}");
}

#[test]
fn a_file_that_announces_far_too_much_is_refused_without_memory_for_it() {
    let mut file = golden("1.0/one-vcpu.stasis");
    for (at, len) in [(4, 4), (12, 4), (32, 8), (52, 4)] {
        for byte in [0x7f, 0xff] {
            let good = file[at..at + len].to_vec();
            file[at..at + len].fill(byte);
            for bytes in [file.clone(), checkpoint::sign(&file)] {
                let taken =
                    peak(|| assert!(checkpoint::read(&bytes).is_none_or(|ram| ram < 1 << 40)));
                assert!(taken <= CONSTANT + bytes.len(), "{taken} bytes, for offset {at}");
            }
            file[at..at + len].copy_from_slice(&good);
        }
    }
}

#[test]
fn opening_a_store_never_panics_and_what_opens_can_be_used() {
    each(3000, &[store::seed(&store::sound_disk())], store::run);
}

#[test]
fn finding_a_partition_never_panics_and_finds_none_beyond_the_disk() {
    each(1500, &[partition::seed()], partition::run);
}

#[test]
fn reading_an_archive_or_its_configuration_never_panics() {
    use stasis_guest::shared::SharedRegion;
    use stasis_host::config::{self, Configuration, CoreConfig, GuestConfig, WindowConfig};
    let guest = GuestConfig {
        initrd: Some("initrd".into()),
        cmdline: "console=ttyAMA0".into(),
        vcpus: 2,
        cores: vec![1, 2],
        weight: 200,
        counter_frequency: Some(62_500_000),
        ..GuestConfig::new("counter", "counter", 64 << 20)
    };
    let other = GuestConfig { name: "other".into(), cores: Vec::new(), ..guest.clone() };
    let window = WindowConfig { guest: "counter".into(), at_us: 0, length_us: 1000 };
    let core = CoreConfig { number: 1, frame_us: 2000, windows: vec![window] };
    let guests = vec!["counter".into(), "other".into()];
    let shared = vec![SharedRegion { name: "ring".into(), size: 1 << 20, guests }];
    let configuration = Configuration {
        guests: vec![guest, other],
        cores: vec![core],
        shared,
        ..Default::default()
    };
    let configuration = config::compile(&configuration).unwrap();
    let files = [("stasis.dtb", &configuration[..]), ("counter", &[1; 300]), ("initrd", b"x")];
    let archive = stasis_tool::archive::pack_raw(&configuration, &files[1..]).unwrap();
    each(4000, std::slice::from_ref(&archive), |bytes| {
        let taken = peak(|| boot::archive(bytes));
        assert!(taken <= CONSTANT, "{taken} bytes for an archive of {}", bytes.len());
    });
    each(4000, &[configuration], |bytes| {
        let taken = peak(|| boot::configuration(bytes));
        assert!(taken <= CONSTANT + 64 * bytes.len(), "{taken} bytes for {}", bytes.len());
    });
    each(40, &[archive], boot::image);
}
