//! In what two transcripts of a guest differ: [`between`] finds it for guest `handler`, and
//! [`of_lines`] for others; [`table`] reads what a document says of it, and [`are_told`] compares
//! that.
//!
//! A transcript of `handler` has events, such as `taken 27 cpu 0 depth 0 RPR 0xa0`, and reports of
//! three lines, which have fields such as `ISACTIVER` with their values. Two transcripts are
//! compared scene by scene: their events in order, and their reports by the place in the scene,
//! field by field.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

/// How the lines of a report begin.
const REPORT: &str = "  ";
/// How the line begins that names a scene.
const SCENE: &str = "scene ";
/// How the line begins of a point at which the guest waits.
const POINT: &str = "in ";

/// What is printed on one side, and what in its place on the other; nothing is empty.
pub type Pair = (String, String);
/// The differences, and where each is: the scenes, or what else the caller names.
pub type Differences = BTreeMap<Pair, BTreeSet<String>>;

/// A scene of a transcript.
#[derive(Debug, Default)]
struct Scene {
    events: Vec<String>,
    /// Each field with its values, by the place of the report and the name of the field.
    fields: BTreeMap<(String, String), String>,
}

/// Adds to `found` what differs between two transcripts that begin behind the line `before` of the
/// first one's whole transcript `ours`.
pub fn between(ours: &[String], before: usize, theirs: &[String], found: &mut Differences) {
    let current = ours[..before].iter().rev().find_map(|line| line.strip_prefix(SCENE));
    let current = current.unwrap_or_default();
    let (ours, theirs) = (scenes(&ours[before..], current), scenes(theirs, current));
    let nothing = Scene::default();
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let (ours, theirs) =
            (ours.get(name).unwrap_or(&nothing), theirs.get(name).unwrap_or(&nothing));
        let mut add = |ours: String, theirs: String| {
            found.entry((ours, theirs)).or_default().insert(name.clone());
        };
        for (lost, more) in hunks(&ours.events, &theirs.events) {
            add(lost.join("; "), more.join("; "));
        }
        let places: BTreeSet<_> = ours.fields.keys().chain(theirs.fields.keys()).collect();
        for place in places {
            let value = |scene: &Scene| scene.fields.get(place).cloned().unwrap_or_default();
            let (ours, theirs) = (value(ours), value(theirs));
            if ours != theirs {
                add(ours, theirs);
            }
        }
    }
}

/// Adds to `found`, as what is at `place`, in which lines two transcripts differ: one by one where
/// as many are others, and else those together that come one behind the other.
pub fn of_lines(ours: &[String], theirs: &[String], place: &str, found: &mut Differences) {
    let mut add = |ours: String, theirs: String| {
        found.entry((ours, theirs)).or_default().insert(place.to_owned());
    };
    for (lost, more) in hunks(ours, theirs) {
        match lost.len() == more.len() {
            true => lost.iter().zip(more).for_each(|(lost, more)| add(lost.clone(), more.clone())),
            false => add(lost.join("; "), more.join("; ")),
        }
    }
}

/// Returns the scenes of lines that begin in the scene `current`.
fn scenes(lines: &[String], current: &str) -> BTreeMap<String, Scene> {
    let mut scenes: BTreeMap<String, Scene> = BTreeMap::new();
    let (mut name, mut event) = (current.to_owned(), String::new());
    let lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    for (n, line) in lines.iter().enumerate() {
        if let Some(next) = line.strip_prefix(SCENE) {
            next.clone_into(&mut name);
        }
        let scene = scenes.entry(name.clone()).or_default();
        if !line.starts_with(REPORT) {
            scene.events.push((*line).clone());
            event = match line.as_str() {
                // The report behind is that of the point.
                "received 0x78" => format!("{event}, received"),
                other => other.to_owned(),
            };
            continue;
        }
        // A report before a point is the point's, whatever came before it.
        let next = lines[n..].iter().find(|line| !line.starts_with(REPORT));
        let point = next.filter(|line| line.starts_with(POINT));
        let mut place = point.map_or(&event, |point| *point).clone();
        let ends = ["taken ", "left ", "done"];
        if ends.iter().any(|end| place.starts_with(end)) {
            "the end".clone_into(&mut place);
        }
        for field in fields(line) {
            add_field(scene, &place, field);
        }
    }
    scenes
}

/// Adds a field to the first report at `place`, or behind it, that does not have one of this name.
fn add_field(scene: &mut Scene, place: &str, field: String) {
    let name = field.split(' ').next().unwrap_or_default().to_owned();
    let mut key = (place.to_owned(), name);
    while scene.fields.contains_key(&key) {
        key.0.push('\'');
    }
    scene.fields.insert(key, field);
}

/// Returns the fields of a line of a report: a name in upper case, and its values.
fn fields(line: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        match fields.last_mut() {
            Some(field) if !word.starts_with(|c: char| c.is_ascii_uppercase()) => {
                field.push(' ');
                field.push_str(word);
            }
            _ => fields.push(word.to_owned()),
        }
    }
    fields
}

/// Returns the lines that only the first or only the second has, those together that are at one
/// place. What both have in order is as long as it can be.
fn hunks<'l>(ours: &'l [String], theirs: &'l [String]) -> Vec<(&'l [String], &'l [String])> {
    // The length of what both have in order, from these two lines on.
    let mut common = vec![vec![0_usize; theirs.len() + 1]; ours.len() + 1];
    for (i, line) in ours.iter().enumerate().rev() {
        for (j, other) in theirs.iter().enumerate().rev() {
            common[i][j] = match line == other {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut hunks, mut from) = (Vec::new(), (0, 0));
    let (mut i, mut j) = from;
    while i < ours.len() || j < theirs.len() {
        if i < ours.len() && j < theirs.len() && ours[i] == theirs[j] {
            hunks.push((&ours[from.0..i], &theirs[from.1..j]));
            (i, j) = (i + 1, j + 1);
            from = (i, j);
        } else if j == theirs.len() || i < ours.len() && common[i + 1][j] >= common[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    hunks.push((&ours[from.0..], &theirs[from.1..]));
    hunks.retain(|(ours, theirs)| !ours.is_empty() || !theirs.is_empty());
    hunks
}

/// Returns the differences that a table of a document has, whose columns begin with "in Stasis",
/// and these two: what is there, and where.
///
/// # Errors
///
/// There is no such table.
pub fn table(document: &str, columns: [&str; 2]) -> Result<Differences> {
    let begin = format!("| in Stasis | {} |", columns.join(" | "));
    let head = |line: &&str| line.starts_with(&begin);
    let rows = document.lines().skip_while(|line| !head(line)).skip(2);
    let mut found = Differences::new();
    for row in rows.take_while(|row| row.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        ensure!(cells.len() >= 5, "a row has too few cells: {row}");
        let places = cells[3].split("; ").map(str::to_owned).collect();
        let twice = found.insert((cells[1].to_owned(), cells[2].to_owned()), places);
        ensure!(twice.is_none(), "the table has this row twice: {row}");
    }
    ensure!(!found.is_empty(), "the document has no table of differences");
    Ok(found)
}

/// Checks that what was found is what a table tells.
///
/// # Errors
///
/// The rows that the table lacks, and those that it has too much.
pub fn are_told(found: &Differences, told: &Differences) -> Result<()> {
    let (new, gone) = (lacking(found, told), lacking(told, found));
    ensure!(
        new.is_empty() && gone.is_empty(),
        "these are not in the table:\n{}\nand these in the table are none:\n{}",
        new.join("\n"),
        gone.join("\n")
    );
    Ok(())
}

/// Returns the rows of `some` that `others` does not have, or has for other places, as rows of a
/// table.
fn lacking(some: &Differences, others: &Differences) -> Vec<String> {
    let lacks = some.iter().filter(|(pair, places)| others.get(pair) != Some(places));
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    lacks
        .map(|((ours, theirs), places)| {
            let places: Vec<_> = places.iter().map(String::as_str).collect();
            format!("| {} | {} | {} |", code(ours), code(theirs), places.join("; "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const COLUMNS: [&str; 2] = ["on KVM", "scenes"];

    const OURS: &str = "scene one
taken 1 cpu 0 depth 0 RPR 0x80
  RPR 0x80 HPPIR 27
  ISACTIVER 00000002 00000000 CNTP_CTL 0
in handler first
received 0x78
  RPR 0x80 HPPIR 27
taken 2 cpu 0 depth 1 RPR 0x40
left 2 depth 1
left 1 depth 0
  RPR 0xff HPPIR 1023
scene two
  RPR 0xff HPPIR 1023
done";

    #[test]
    fn a_transcript_differs_from_itself_in_nothing_from_wherever_it_begins() {
        let ours = lines(OURS);
        for before in 0..ours.len() {
            let mut found = Differences::new();
            between(&ours, before, &ours[before..], &mut found);
            assert_eq!(found, Differences::new());
        }
    }

    #[test]
    fn fields_differ_by_the_place_and_events_by_their_order() {
        let ours = lines(OURS);
        let theirs = OURS.replace("CNTP_CTL 0", "CNTP_CTL 4");
        let theirs = theirs.replace("taken 2 cpu 0 depth 1 RPR 0x40\nleft 2 depth 1\n", "");
        let theirs =
            lines(&theirs.replace("RPR 0xff HPPIR 1023\nscene two", "RPR 0xff HPPIR 2\nscene two"));
        let mut found = Differences::new();
        between(&ours, 0, &theirs, &mut found);
        let rows = lacking(&found, &Differences::new());
        let expected = [
            "| `CNTP_CTL 0` | `CNTP_CTL 4` | one |",
            "| `HPPIR 1023` | `HPPIR 2` | one |",
            "| `taken 2 cpu 0 depth 1 RPR 0x40; left 2 depth 1` |  | one |",
        ];
        assert_eq!(rows, expected);
        let document = format!(
            "text\n| in Stasis | on KVM | scenes | why |\n|---|---|---|---|\n{}\n\nmore",
            rows.join(" a |\n") + " b |"
        );
        assert_eq!(table(&document, COLUMNS).unwrap(), found);
        found.pop_first();
        assert_eq!(lacking(&table(&document, COLUMNS).unwrap(), &found), expected[..1]);
        assert!(lacking(&found, &table(&document, COLUMNS).unwrap()).is_empty());
    }

    #[test]
    fn lines_differ_one_by_one_where_as_many_are_others() {
        let (ours, theirs) = (lines("a\nb\nc\nd\ne"), lines("a\nB\nC\nd\ne\nf\ng"));
        let mut found = Differences::new();
        of_lines(&ours, &theirs, "there", &mut found);
        let rows = lacking(&found, &Differences::new());
        assert_eq!(
            rows,
            ["|  | `f; g` | there |", "| `b` | `B` | there |", "| `c` | `C` | there |"]
        );
        assert!(are_told(&found, &found).is_ok());
        let why = are_told(&found, &Differences::new()).unwrap_err().to_string();
        assert!(why.contains("| `b` | `B` | there |"), "{why}");
    }

    #[test]
    fn a_document_without_a_table_is_an_error() {
        assert!(table("| in Stasis | on KVM |\n|---|---|\n", COLUMNS).is_err());
    }
}
