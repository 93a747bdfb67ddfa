//! `stasis report` of what `stasis top --record` has written: who had which core when, which
//! windows were missed, when checkpoints were made and how long guests stood still for them.
//!
//! [`Run`] is what a page shows, [`page`] draws it. A record may have run for weeks, and its bytes
//! are hostile: it is read line by line, twice, and what is kept of it does not grow with it, but
//! for a number of guests, of cores and of events, of which more than the page lists are only
//! counted.

mod page;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::state::{Core, Vcpu, Window, of_kind};
use crate::{output, report};

/// Pieces of the time in which the page shows who had the cores.
const BINS: usize = 240;
/// Bytes of a line that is read.
const MAX_LINE: u64 = 1 << 20;
/// Rows of a list that are shown.
const MAX_LISTED: usize = 200;
/// Guests and cores that are told apart.
const MAX_NAMES: usize = 64;
/// Characters of a text that are kept, which are more than any name has.
const MAX_TEXT: usize = 128;

/// A checkpoint that was committed.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Stored {
    #[serde(skip)]
    at: f64,
    #[serde(deserialize_with = "short")]
    guest: String,
    number: u64,
    #[serde(deserialize_with = "short")]
    name: String,
    /// Microseconds that the guest stood still; `None` if it did not run.
    still_us: Option<u64>,
}

/// Windows of a guest that were missed.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Missed {
    #[serde(skip)]
    at: f64,
    #[serde(deserialize_with = "short")]
    guest: String,
    core: u32,
    missed: u64,
    late_us: u64,
}

/// A guest that does something else from then on.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Changed {
    #[serde(skip)]
    at: f64,
    #[serde(deserialize_with = "short")]
    guest: String,
    #[serde(deserialize_with = "short")]
    state: String,
}

/// Returns the beginning of a text, which may be as long as a line.
fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Reads a text of which the beginning is kept.
fn short<'d, D: Deserializer<'d>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| cut(&text))
}

/// The first of some things, and the number of all.
#[derive(Debug)]
struct Listed<T> {
    first: Vec<T>,
    count: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, one: T) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(one);
        }
    }
}

/// Numbers of microseconds, by powers of two: how many were below 1, 2, 4, 8, ...
#[derive(Debug, Default, PartialEq)]
struct Histogram([u64; 32]);

impl Histogram {
    fn add(&mut self, us: u64, count: u64) {
        let place = (u64::BITS - us.leading_zeros()) as usize;
        let place = &mut self.0[place.min(31)];
        *place = place.saturating_add(count);
    }
}

/// What a vCPU has done in all.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    seconds: f64,
    interrupts: u64,
    exits: u64,
}

/// A recorded run.
#[derive(Debug, Default)]
struct Run {
    /// Seconds since 1970 of its first and its last line.
    begin: f64,
    end: f64,
    /// Lines that are nothing of a record.
    strange: usize,
    /// The seconds that were looked at of each core.
    looked: BTreeMap<u32, Vec<f64>>,
    /// By core and guest.
    shares: BTreeMap<u32, BTreeMap<String, Vec<f64>>>,
    /// By guest and vCPU.
    totals: BTreeMap<(String, u32), Totals>,
    stored: Listed<Stored>,
    missed: Listed<Missed>,
    changed: Listed<Changed>,
    /// How long guests stood still for checkpoints, and by how much windows were late that were
    /// missed.
    still: Histogram,
    late: Histogram,
    /// Number of windows that were missed, by guest and core.
    missed_by: BTreeMap<(String, u32), u64>,
    /// The windows of each core that has had any, as they were last.
    windows: BTreeMap<u32, Vec<Window>>,
}

/// Returns whether a file is a record, by its first byte.
pub fn is_record(path: &Path) -> bool {
    let mut first = [0];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first == *b"{"
}

/// Makes the page of a record.
///
/// # Errors
///
/// The record can't be read, or has no line, or the page can't be written.
pub fn main(record: &Path, page: &Path) -> Result<()> {
    let cannot_read = || format!("cannot read {}", record.display());
    let run = Run::read(|| File::open(record).map_err(Into::into)).with_context(cannot_read)?;
    let html = page::page(&run, &record.display().to_string()).into_string();
    output::write(page, html.as_bytes())?;
    report::step(format_args!("{}: {}", page.display(), report::size(html.len() as u64)));
    Ok(())
}

/// Calls `take` with each line of a record that is an object, and its time. Returns the number of
/// the others.
fn each_line(file: impl Read, take: &mut dyn FnMut(f64, &Value)) -> Result<usize> {
    let mut reader = BufReader::new(file);
    let (mut line, mut strange) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(strange);
        }
        let value = serde_json::from_slice::<Value>(&line).unwrap_or_default();
        match value["at"].as_f64().filter(|at| (0.0..1e12).contains(at)) {
            Some(at) => take(at, &value),
            None => strange += 1,
        }
    }
}

impl Run {
    /// Reads a record, which `open` opens at its beginning.
    fn read<R: Read>(open: impl Fn() -> Result<R>) -> Result<Self> {
        let mut run = Self { begin: f64::MAX, ..Self::default() };
        run.strange = each_line(open()?, &mut |at, value| {
            let begin = at - seconds_of(&value["rows"]);
            (run.begin, run.end) = (run.begin.min(begin), run.end.max(at));
        })?;
        ensure!(run.end > run.begin, "it is no record of `stasis top --record` with a table in it");
        each_line(open()?, &mut |at, value| {
            if let Some(rows) = value["rows"].as_array() {
                run.table(at, rows);
            }
            if let Some(rows) = value["windows"].as_array() {
                run.windows(of_kind(rows));
            }
            run.event(at, &value["event"]);
        })?;
        Ok(run)
    }

    /// Adds the table that has come at this time.
    fn table(&mut self, at: f64, rows: &[Value]) {
        let span = (at - seconds_of(&Value::from(rows.to_vec())), at);
        let vcpus: Vec<Vcpu> = of_kind(rows);
        for Core { core, .. } in of_kind::<Core>(rows) {
            if self.looked.len() < MAX_NAMES || self.looked.contains_key(&core) {
                let looked = self.looked.entry(core).or_insert_with(|| vec![0.0; BINS]);
                spread((self.begin, self.end), span, 1.0, looked);
            }
        }
        for vcpu in vcpus {
            self.vcpu(span, vcpu);
        }
    }

    /// Notes the windows that all cores have from now on.
    fn windows(&mut self, windows: Vec<Window>) {
        for of_core in windows.chunk_by(|a, b| a.core == b.core) {
            let core = of_core[0].core;
            if self.windows.len() < MAX_NAMES || self.windows.contains_key(&core) {
                let kept = of_core.iter().take(MAX_NAMES);
                let kept = kept.map(|one| Window { guest: cut(&one.guest), ..one.clone() });
                self.windows.insert(core, kept.collect());
            }
        }
    }

    fn vcpu(&mut self, span: (f64, f64), vcpu: Vcpu) {
        let Vcpu { guest, vcpu: index, core, share, .. } = vcpu;
        let (guest, share) = (cut(&guest), share.clamp(0.0, 1.0));
        if self.looked.contains_key(&core) {
            let guests = self.shares.entry(core).or_default();
            if guests.len() < MAX_NAMES || guests.contains_key(&guest) {
                let bins = guests.entry(guest.clone()).or_insert_with(|| vec![0.0; BINS]);
                spread((self.begin, self.end), span, share, bins);
            }
        }
        let key = (guest, index);
        if self.totals.len() < MAX_NAMES || self.totals.contains_key(&key) {
            let totals = self.totals.entry(key).or_default();
            totals.seconds += share * (span.1 - span.0);
            totals.interrupts = totals.interrupts.saturating_add(vcpu.interrupts);
            let exits = [vcpu.irq, vcpu.mmio, vcpu.sysreg, vcpu.call, vcpu.wait, vcpu.fault];
            totals.exits = exits.into_iter().fold(totals.exits, u64::saturating_add);
        }
    }

    fn event(&mut self, at: f64, event: &Value) {
        match event["event"].as_str() {
            Some("checkpoint") => {
                let Ok(stored) = Stored::deserialize(event) else { return };
                stored.still_us.into_iter().for_each(|us| self.still.add(us, 1));
                self.stored.push(Stored { at, ..stored });
            }
            Some("window") => {
                let Ok(missed) = Missed::deserialize(event) else { return };
                self.late.add(missed.late_us, 1);
                let key = (missed.guest.clone(), missed.core);
                if self.missed_by.len() < MAX_NAMES || self.missed_by.contains_key(&key) {
                    let count = self.missed_by.entry(key).or_default();
                    *count = count.saturating_add(missed.missed);
                }
                self.missed.push(Missed { at, ..missed });
            }
            Some("guest") => {
                let Ok(changed) = Changed::deserialize(event) else { return };
                self.changed.push(Changed { at, ..changed });
            }
            _ => {}
        }
    }

    /// Returns the names of all guests that had a core or a window, in the order of the alphabet.
    fn guests(&self) -> Vec<&str> {
        let had = self.shares.values().flat_map(BTreeMap::keys);
        let windows = self.windows.values().flatten().map(|window| &window.guest);
        let mut names: Vec<&str> = had.chain(windows).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Returns the seconds that a table is about; 0 if it is none.
fn seconds_of(rows: &Value) -> f64 {
    rows[0]["milliseconds"].as_u64().map_or(0.0, |millis| millis.min(3_600_000) as f64 / 1000.0)
}

/// Adds the seconds of `span`, times `share`, to the pieces of the time `whole` that they lie in.
fn spread(whole: (f64, f64), span: (f64, f64), share: f64, bins: &mut [f64]) {
    let piece = (whole.1 - whole.0) / bins.len() as f64;
    let place = |at: f64| ((at - whole.0) / piece).max(0.0);
    let (from, to) = (place(span.0), place(span.1).min(bins.len() as f64));
    for (index, bin) in bins.iter_mut().enumerate().skip(from as usize) {
        let overlap = to.min((index + 1) as f64) - from.max(index as f64);
        if overlap <= 0.0 {
            break;
        }
        *bin += overlap * piece * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"at":100.0,"rows":[{"milliseconds":1000},{"core":0,"share":0.5,"vcpus":2},{"guest":"a","vcpu":0,"core":0,"share":0.5,"switches":1,"interrupts":2,"irq":3,"mmio":4,"sysreg":5,"call":6,"wait":7,"fault":8}]}
nonsense
{"at":100.5,"event":{"event":"window","guest":"a","core":0,"missed":3,"late_us":700}}
{"at":100.6,"event":{"event":"checkpoint","guest":"a","number":1,"name":"m","still_us":5}}
{"at":100.7,"windows":[{"core":0,"frame_us":10000,"guest":"a","at_us":0,"length_us":2000,"missed":3,"late_us":700}]}
{"at":100.8,"windows":[]}
{"at":101.0,"event":{"event":"guest","guest":"a","state":"off","was":"running"}}
{"at":109.0,"event":{"event":"checkpoint","guest":"a"}}
"#;

    #[test]
    fn a_record_is_who_had_which_core_when() {
        let run = Run::read(|| Ok(RECORD.as_bytes())).unwrap();
        assert_eq!((run.begin, run.end, run.strange), (99.0, 109.0, 1));
        let share = &run.shares[&0]["a"];
        assert!((share.iter().sum::<f64>() - 0.5).abs() < 1e-9, "half of a second");
        assert!(share[0] > 0.0 && share[23] > 0.0 && share[24] == 0.0, "in the first of ten");
        assert_eq!(run.totals[&("a".into(), 0)].exits, 33);
        assert_eq!((run.stored.count, run.missed_by[&("a".into(), 0)]), (1, 3));
        assert_eq!((run.still.0[3], run.late.0[10], run.changed.count), (1, 1, 1));
        // A core that has no windows any more is shown with those that it had.
        assert_eq!((run.windows.len(), run.windows[&0][0].late_us), (1, Some(700)));
    }

    #[test]
    fn a_record_of_nothing_or_of_nonsense_is_none() {
        for bytes in ["", "{}\n", "{\"at\":1}\n", "{\"at\":1e300,\"rows\":[]}\n", "\n\n\u{0}"] {
            assert!(Run::read(|| Ok(bytes.as_bytes())).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_record() {
        let lines: String = (0..2000)
            .map(|n| format!("{{\"at\":{n},\"rows\":[{{\"milliseconds\":1000}},{{\"core\":{n},\"share\":2,\"vcpus\":1}}],\"event\":{{\"event\":\"window\",\"guest\":\"g{n}\",\"core\":0,\"missed\":18446744073709551615,\"late_us\":18446744073709551615}}}}\n"))
            .collect();
        let run = Run::read(|| Ok(lines.as_bytes())).unwrap();
        assert_eq!((run.looked.len(), run.missed_by.len()), (MAX_NAMES, MAX_NAMES));
        assert_eq!((run.missed.first.len(), run.missed.count), (MAX_LISTED, 2000));
    }

    #[test]
    fn rows_of_vcpus_on_ever_other_cores_and_long_names_take_no_room() {
        let name = "g".repeat(5000);
        let counts = "\"switches\":1,\"interrupts\":2,\"irq\":3,\"mmio\":4,\"sysreg\":5,\"call\":6,\"wait\":7,\"fault\":8";
        let lines: String = (0..200)
            .map(|n| format!("{{\"at\":{n},\"rows\":[{{\"milliseconds\":1000}},{{\"core\":0,\"share\":1,\"vcpus\":1}},{{\"guest\":\"{n}{name}\",\"vcpu\":0,\"core\":{n},\"share\":1,{counts}}}],\"event\":{{\"event\":\"guest\",\"guest\":\"{name}\",\"state\":\"{name}\"}}}}\n"))
            .collect();
        let run = Run::read(|| Ok(lines.as_bytes())).unwrap();
        assert_eq!((run.shares.len(), run.totals.len()), (1, MAX_NAMES));
        let kept = run.totals.keys().map(|(guest, _)| guest);
        let kept = kept.chain(run.changed.first.iter().flat_map(|one| [&one.guest, &one.state]));
        assert!(kept.into_iter().all(|text| text.len() == MAX_TEXT));
    }
}
