//! [`State`]: what is known of a machine, from the rows of its answers and from its events.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;

/// Tables of which a core's share is remembered.
const HISTORY: usize = 120;

/// Events that are remembered.
const EVENTS: usize = 100;

/// What a core has done.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Core {
    pub(super) core: u32,
    pub(super) share: f64,
    pub(super) vcpus: u32,
}

/// What a vCPU has done.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Vcpu {
    pub(super) guest: String,
    pub(super) vcpu: u32,
    pub(super) core: u32,
    pub(super) share: f64,
    pub(super) switches: u64,
    pub(super) interrupts: u64,
    pub(super) irq: u64,
    pub(super) mmio: u64,
    pub(super) sysreg: u64,
    pub(super) call: u64,
    pub(super) wait: u64,
    pub(super) fault: u64,
}

/// What a guest is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) memory: u64,
    pub(super) own: u64,
    pub(super) shared: u64,
    pub(super) to_load: u64,
    /// Bytes that were written since the last checkpoint; an older Stasis does not say.
    pub(super) changed: Option<u64>,
}

/// A window of a guest's on a core.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Window {
    pub(super) core: u32,
    pub(super) frame_us: u64,
    pub(super) guest: String,
    pub(super) at_us: u64,
    pub(super) length_us: u64,
    pub(super) missed: u64,
    pub(super) late_us: Option<u64>,
}

/// What is known of a machine.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The machine in words.
    pub(super) machine: String,
    /// Milliseconds that the last table is about.
    pub(super) millis: u64,
    /// The last table's cores.
    pub(super) cores: Vec<Core>,
    /// The last table's vCPUs.
    pub(super) vcpus: Vec<Vcpu>,
    /// The guests.
    pub(super) guests: Vec<Guest>,
    /// The windows.
    pub(super) windows: Vec<Window>,
    /// The shares of each core in the tables until now, in thousandths, the oldest first.
    pub(super) history: BTreeMap<u32, VecDeque<u64>>,
    /// The last events in words, the oldest first.
    pub(super) events: VecDeque<String>,
    /// The rows of the table that comes, and the bytes of a line that is not whole.
    coming: Vec<Value>,
    begun: Vec<u8>,
    /// Number of the rows that had come at the last look.
    seen: usize,
    /// Rows and the begun line of the list of guests that comes, and of that of windows.
    listed: Vec<Value>,
    begun_list: Vec<u8>,
    divided: Vec<Value>,
    begun_windows: Vec<u8>,
    /// The rows of the windows that were known last.
    last_windows: Value,
}

/// Adds the whole lines of what has come to `rows`, as JSON.
fn add_lines(begun: &mut Vec<u8>, bytes: &[u8], rows: &mut Vec<Value>) {
    begun.extend_from_slice(bytes);
    while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = begun.drain(..=end).collect();
        rows.extend(serde_json::from_slice::<Value>(&line));
    }
}

/// Returns the rows that are of this kind.
pub(super) fn of_kind<T: for<'d> Deserialize<'d>>(rows: &[Value]) -> Vec<T> {
    rows.iter().filter_map(|row| T::deserialize(row).ok()).collect()
}

impl State {
    /// Returns what is known of a machine at first: what it is, in words.
    pub(super) fn new(machine: &str) -> Self {
        Self { machine: machine.to_owned(), ..Self::default() }
    }

    /// Takes a part of the tables.
    pub(super) fn tables(&mut self, bytes: &[u8]) {
        add_lines(&mut self.begun, bytes, &mut self.coming);
    }

    /// Forgets the rows of a table that was begun, and may have no end.
    pub(super) fn drop_begun(&mut self) {
        self.begun.clear();
        self.coming.clear();
    }

    /// Makes the table that has come whole the last one, for who looks from time to time. Returns
    /// its rows; `None` if none has come, or more of it may come: a table has no end, so it is
    /// whole if another one has begun behind it, or nothing has come since the last look.
    pub(super) fn settle(&mut self) -> Option<Value> {
        let is_quiet = self.begun.is_empty() && self.seen == self.coming.len();
        self.seen = self.coming.len();
        let is_first = |row: &Value| row["milliseconds"].is_u64();
        let last = self.coming.iter().rposition(is_first)?;
        let before = self.coming[..last].iter().rposition(is_first);
        let (first, end) = match (is_quiet, before) {
            (true, _) => (last, self.coming.len()),
            (false, Some(before)) => (before, last),
            (false, None) => return None,
        };
        let behind = self.coming.split_off(end);
        let rows = self.coming.split_off(first);
        self.seen = behind.len();
        self.coming = behind;
        self.millis = rows[0]["milliseconds"].as_u64().unwrap_or(0);
        self.vcpus = of_kind(&rows);
        self.cores = of_kind(&rows[..rows.len() - self.vcpus.len()]);
        for core in &self.cores {
            let history = self.history.entry(core.core).or_default();
            history.push_back((core.share * 1000.0) as u64);
            history.drain(..history.len().saturating_sub(HISTORY));
        }
        Some(Value::Array(rows))
    }

    /// Takes a part of the list of guests.
    pub(super) fn list(&mut self, bytes: &[u8]) {
        add_lines(&mut self.begun_list, bytes, &mut self.listed);
    }

    /// Makes the list that has come the guests if it `is_whole`, and forgets it otherwise. Returns
    /// its rows.
    pub(super) fn end_list(&mut self, is_whole: bool) -> Option<Value> {
        self.begun_list.clear();
        let rows = std::mem::take(&mut self.listed);
        is_whole.then(|| {
            self.guests = of_kind(&rows);
            Value::Array(rows)
        })
    }

    /// Takes a part of the list of windows.
    pub(super) fn window_list(&mut self, bytes: &[u8]) {
        add_lines(&mut self.begun_windows, bytes, &mut self.divided);
    }

    /// Makes the list that has come the windows if it `is_whole`, and forgets it otherwise. Returns
    /// its rows, if they are not those of before.
    pub(super) fn end_windows(&mut self, is_whole: bool) -> Option<Value> {
        self.begun_windows.clear();
        let rows = std::mem::take(&mut self.divided);
        if !is_whole {
            return None;
        }
        self.windows = of_kind(&rows);
        let (rows, had_none) = (Value::Array(rows), self.last_windows.is_null());
        let is_news = self.last_windows != rows && !(had_none && self.windows.is_empty());
        is_news.then(|| {
            self.last_windows = rows.clone();
            rows
        })
    }

    /// Takes an event, and returns it as JSON.
    pub(super) fn event(&mut self, event: &str) -> Value {
        let value: Value = serde_json::from_str(event).unwrap_or_default();
        let of = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let words = match value["event"].as_str() {
            Some("guest") => format!("{}: {}", of("guest"), of("state")),
            Some("checkpoint") => {
                let still = value["still_us"].as_u64();
                let still = still.map_or(String::new(), |us| format!(", it stood still {us} us"));
                format!("{}: checkpoint {} \"{}\"{still}", of("guest"), value["number"], of("name"))
            }
            Some("window") => format!(
                "{}: {} windows missed on core {}, the last by {} us",
                of("guest"),
                value["missed"],
                value["core"],
                value["late_us"]
            ),
            Some("notice") => format!("{}: {}", of("guest"), of("text")),
            _ => event.to_owned(),
        };
        self.events.push_back(words);
        self.events.drain(..self.events.len().saturating_sub(EVENTS));
        value
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const TABLE: &str = "{\"milliseconds\":1000}\n{\"core\":0,\"share\":0.250,\"vcpus\":1}\n\
        {\"guest\":\"linux\",\"vcpu\":0,\"core\":0,\"share\":0.250,\"switches\":1,\"interrupts\":2,\"irq\":3,\
        \"mmio\":4,\"sysreg\":5,\"call\":6,\"wait\":7,\"fault\":8}\n";

    /// Returns a machine of which something is known.
    pub(in super::super) fn known() -> State {
        let mut state = State::new("Stasis 0.1.0 on a board");
        let (first, second) = TABLE.as_bytes().split_at(60);
        state.tables(first);
        state.tables(second);
        assert_eq!(state.settle(), None);
        assert_eq!(state.settle().unwrap().as_array().unwrap().len(), 3);
        state.list(b"{\"number\":0,\"name\":\"linux\",\"state\":\"running\",\"vcpus\":1,\"memory\":268435456,\"own\":268435456,\"shared\":0,\"to_load\":0,\"cores\":[0],\"changed\":3174400}\n");
        state.end_list(true);
        state.event(r#"{"event":"checkpoint","guest":"linux","number":3,"name":"morning"}"#);
        state
    }

    #[test]
    fn rows_that_come_in_pieces_are_a_table() {
        let state = known();
        assert_eq!((state.cores.len(), state.vcpus.len(), state.guests.len()), (1, 1, 1));
        assert_eq!((state.vcpus[0].fault, state.cores[0].share), (8, 0.25));
        assert_eq!(state.history[&0], [250]);
        assert_eq!(state.events, ["linux: checkpoint 3 \"morning\""]);
    }

    #[test]
    fn a_table_of_which_a_part_has_come_is_no_table_yet() {
        let mut state = known();
        // Between any two lines, and within each.
        for at in 1..TABLE.len() {
            let (first, second) = TABLE.as_bytes().split_at(at);
            state.tables(first);
            assert_eq!(state.settle(), None, "{at}");
            state.tables(second);
            assert_eq!(state.settle(), None, "{at}");
            assert_eq!(state.settle().unwrap().as_array().unwrap().len(), 3, "{at}");
        }
        // Where tables come without a pause, each is told of when the next one has begun.
        for _ in 0..3 {
            state.tables(TABLE.as_bytes());
            state.tables(&TABLE.as_bytes()[..30]);
            assert_eq!(state.settle().unwrap().as_array().unwrap().len(), 3);
            state.drop_begun();
            assert_eq!((state.settle(), state.settle()), (None, None));
        }
    }

    #[test]
    fn windows_are_told_when_they_are_others() {
        let mut state = known();
        assert_eq!(state.end_windows(true), None);
        let row = |missed: u64| {
            format!(
                "{{\"core\":0,\"frame_us\":10000,\"guest\":\"a\",\"at_us\":0,\"length_us\":2000,\"missed\":{missed},\"late_us\":null}}\n"
            )
        };
        for (missed, is_news) in [(0, true), (0, false), (1, true)] {
            state.window_list(row(missed).as_bytes());
            assert_eq!(state.end_windows(true).is_some(), is_news);
            assert_eq!((state.windows[0].missed, state.windows[0].late_us), (missed, None));
        }
        // A list whose end is lost tells nothing, and spoils no other.
        let row = row(1);
        state.window_list(&row.as_bytes()[..20]);
        assert_eq!((state.end_windows(false), state.windows.len()), (None, 1));
        state.window_list(row.as_bytes());
        assert_eq!((state.end_windows(true), state.windows.len()), (None, 1));
        // An empty list of windows is news, too.
        assert_eq!(state.end_windows(true), Some(Value::Array(Vec::new())));
    }

    #[test]
    fn a_list_of_guests_without_its_end_tells_nothing_and_spoils_no_other() {
        let mut state = known();
        state.list(b"{\"number\":1,\"na");
        assert_eq!((state.end_list(false), state.guests.len()), (None, 1));
        state.list(b"{\"name\":\"a\"}\n");
        assert_eq!(state.end_list(true).unwrap().as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_row_changes_nothing() {
        let mut state = known();
        state.tables(b"nonsense\n{\"milliseconds\":\"x\"}\n");
        assert_eq!(state.settle(), None);
        assert_eq!(state.vcpus.len(), 1);
    }
}
