//! The page of a recorded run: its parts as templates. `maud` escapes each text that it is given.

use std::fmt::Write;

use maud::{Markup, html};

use super::{BINS, Changed, Histogram, Listed, Missed, Run, Stored, Window};
use crate::checkpoint::html::frame;
use crate::report;
use crate::top::micros;

/// Colours of guests; of more guests they begin again.
const COLOURS: usize = 6;

/// Height of a core's picture, in the units of its view.
const HEIGHT: f64 = 40.0;

/// Height of a line of the time, in the units of its view.
const LANE: f64 = 8.0;

/// Returns the whole page of the record with this name.
pub(super) fn page(run: &Run, name: &str) -> Markup {
    let title = format!("a run: {}", frame::base(name));
    frame::page(
        &title,
        &html! {
            (facts(run))
            (cores(run))
            (timeline(run))
            (latencies(run))
            (totals(run))
        },
    )
}

fn facts(run: &Run) -> Markup {
    html! {
        section {
            h2 { "What it is" }
            dl {
                dt { "from" } dd { (report::date(run.begin as u64)) }
                dt { "to" } dd { (report::date(run.end as u64)) ", " (format!("{:.0}", run.end - run.begin)) " s" }
                dt { "cores" } dd { (run.looked.len()) }
                dt { "checkpoints" } dd { (run.stored.count) }
                dt { "missed" } dd { (run.missed_by.values().fold(0_u64, |sum, count| sum.saturating_add(*count))) " windows" }
                @if run.strange > 0 { dt { "warning" } dd .warning { (run.strange) " lines are nothing of a record" } }
            }
        }
    }
}

/// Draws who had each core when: areas that stand on each other, one for each guest.
fn cores(run: &Run) -> Markup {
    let guests = run.guests();
    html! {
        section {
            h2 { "Who had the cores" }
            p .note { "From left to right, the time; the height is all of the core." }
            @for (core, looked) in &run.looked {
                h3 { "core " (core) }
                svg .run viewBox=(format!("0 0 {BINS} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(format!("who had core {core} when; the shares are below")) {
                    rect .zero width=(BINS) height=(HEIGHT) {}
                    @for (colour, path) in areas(run, *core, looked, &guests) { path .(format!("o{colour}")) d=(path) {} }
                }
                ul .legend {
                    @for (index, guest) in guests.iter().enumerate() {
                        @if let Some(share) = share_of(run, *core, looked, guest) {
                            li { svg viewBox="0 0 1 1" aria-hidden="true" { rect .(format!("o{}", colour(index))) width="1" height="1" {} } (guest) ": " (format!("{:.1}%", share * 100.0)) }
                        }
                    }
                }
                @if let Some(windows) = run.windows.get(core) { (frame_of(windows, &guests)) }
            }
        }
    }
}

/// Draws the windows of a core in its frame, which comes again and again, and lists them.
fn frame_of(windows: &[Window], guests: &[&str]) -> Markup {
    const COLUMNS: [&str; 5] = ["WINDOW OF", "AT", "LENGTH", "MISSED", "LAST LATE BY"];
    let frame = windows.first().map_or(1, |window| window.frame_us.max(1));
    let place = |us: u64| us.min(frame) as f64 * BINS as f64 / frame as f64;
    let class = |window: &Window| {
        let guest = guests.iter().position(|guest| *guest == window.guest);
        format!("o{}", colour(guest.unwrap_or_default()))
    };
    html! {
        p .note { "Its windows, in a frame of " (micros(frame)) ":" }
        svg .run viewBox=(format!("0 0 {BINS} 8")) preserveAspectRatio="none" role="img" aria-label="the windows in the frame; as a table below" {
            rect .zero width=(BINS) height="8" {}
            @for window in windows {
                rect .(class(window)) x=(format!("{:.2}", place(window.at_us))) width=(format!("{:.2}", place(window.length_us).max(1.0))) height="8" {}
            }
        }
        table .interrupts {
            thead { tr { @for column in COLUMNS { th { (column) } } } }
            tbody { @for window in windows {
                @let late = window.late_us.map_or_else(|| "-".to_owned(), micros);
                @let cells = [window.guest.clone(), micros(window.at_us), micros(window.length_us), window.missed.to_string(), late];
                tr { @for (column, cell) in COLUMNS.iter().zip(cells) { td data-name=(column) { (cell) } } }
            } }
        }
    }
}

fn colour(guest: usize) -> usize {
    guest % COLOURS + 1
}

/// Returns a guest's share of a core in all of the time that was looked at; `None` if it was never
/// there.
fn share_of(run: &Run, core: u32, looked: &[f64], guest: &str) -> Option<f64> {
    let had: f64 = run.shares.get(&core)?.get(guest)?.iter().sum();
    Some(had / looked.iter().sum::<f64>().max(f64::MIN_POSITIVE))
}

/// Returns the areas of the guests on a core: their colours and the outlines.
fn areas(run: &Run, core: u32, looked: &[f64], guests: &[&str]) -> Vec<(usize, String)> {
    let mut floor = [0.0; BINS];
    let mut areas = Vec::new();
    for (index, guest) in guests.iter().enumerate() {
        let Some(had) = run.shares.get(&core).and_then(|of| of.get(*guest)) else { continue };
        let (mut there, mut back) = (String::new(), String::new());
        for (bin, floor) in floor.iter_mut().enumerate() {
            let share = if looked[bin] > 0.0 { (had[bin] / looked[bin]).min(1.0) } else { 0.0 };
            let (from, to) = (*floor, (*floor + share).min(1.0));
            *floor = to;
            let y = |share: f64| (1.0 - share) * HEIGHT;
            // Writing to a string does not fail.
            let _ = write!(there, "L{bin} {0:.1}L{1} {0:.1}", y(to), bin + 1);
            back = format!("L{} {1:.1}L{bin} {1:.1}{back}", bin + 1, y(from));
        }
        areas.push((colour(index), format!("M0 {HEIGHT}{there}{back}Z")));
    }
    areas
}

/// What has happened when.
fn timeline(run: &Run) -> Markup {
    let place = |at: f64| (at - run.begin) / (run.end - run.begin) * BINS as f64;
    let missed = run.missed.first.iter().map(|one| (place(one.at), one.late_us));
    let stored = run.stored.first.iter().map(|one| (place(one.at), one.still_us.unwrap_or(0)));
    let changed = run.changed.first.iter().map(|one| (place(one.at), 1_000_000));
    let after = |at: f64| format!("{:.1} s", at - run.begin);
    html! {
        section {
            h2 { "What has happened" }
            p .note { "From left to right, the time. The height is how late a window was, or how long a guest stood still: each step of a fifth is ten times as long as the one below, from 10 us to 1 s." }
            (lane("Windows that were missed", "o4", missed))
            (table(&run.missed, &["AFTER", "GUEST", "CORE", "MISSED", "LAST LATE BY"], |one: &Missed| vec![
                after(one.at), one.guest.clone(), one.core.to_string(), one.missed.to_string(), micros(one.late_us),
            ]))
            (lane("Pauses of checkpoints", "o2", stored))
            (table(&run.stored, &["AFTER", "GUEST", "NUMBER", "NAME", "STOOD STILL"], |one: &Stored| vec![
                after(one.at), one.guest.clone(), one.number.to_string(), one.name.clone(),
                one.still_us.map_or_else(|| "-".to_owned(), micros),
            ]))
            (lane("Guests that do something else", "o5", changed))
            (table(&run.changed, &["AFTER", "GUEST", "STATE"], |one: &Changed| vec![
                after(one.at), one.guest.clone(), one.state.clone(),
            ]))
        }
    }
}

/// A line of the time with a mark at each of these places, as high as its microseconds are many.
fn lane(title: &str, class: &str, marks: impl Iterator<Item = (f64, u64)>) -> Markup {
    html! {
        h3 { (title) }
        svg .run viewBox=(format!("0 0 {BINS} {LANE}")) preserveAspectRatio="none" role="img" aria-label=(format!("when: {title}; as a table below")) {
            rect .zero width=(BINS) height=(LANE) {}
            @for (place, us) in marks {
                @let height = height_of(us);
                rect .(class) x=(format!("{:.2}", place.clamp(0.0, BINS as f64 - 1.0))) y=(format!("{:.2}", LANE - height)) width="1" height=(format!("{height:.2}")) {}
            }
        }
    }
}

/// Returns the height of a mark: a fifth of the line for each power of ten from 10 us on, so that
/// all of it is a second.
fn height_of(us: u64) -> f64 {
    const POWERS: f64 = 5.0;
    (((us.max(1) as f64).log10() - 1.0) / POWERS).clamp(1.0 / LANE, 1.0) * LANE
}

/// A table, folded in. On a narrow screen each row is a card of its own.
fn table<T>(rows: &Listed<T>, columns: &[&str], cells: impl Fn(&T) -> Vec<String>) -> Markup {
    html! {
        @if rows.count == 0 { p .note { "none" } } @else {
            details {
                summary { (rows.count) @if rows.count > rows.first.len() { ", of which these are the first " (rows.first.len()) } @else { " in all" } }
                table .interrupts {
                    thead { tr { @for column in columns { th { (column) } } } }
                    tbody { @for row in &rows.first {
                        tr { @for (column, cell) in columns.iter().zip(cells(row)) { td data-name=(column) { (cell) } } }
                    } }
                }
            }
        }
    }
}

fn latencies(run: &Run) -> Markup {
    html! {
        section {
            h2 { "How long" }
            (histogram("Guests stood still for a checkpoint", &run.still))
            (histogram("Windows that were missed were late", &run.late))
        }
    }
}

/// The numbers of a histogram as bars, from the first that is not 0 to the last.
fn histogram(title: &str, Histogram(counts): &Histogram) -> Markup {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let first = counts.iter().position(|count| *count > 0);
    let last = counts.iter().rposition(|count| *count > 0);
    html! {
        h3 { (title) }
        @match (first, last) {
            (Some(first), Some(last)) => {
                table .bars {
                    @for (power, count) in counts.iter().enumerate().take(last + 1).skip(first) {
                        tr {
                            th { "below " (micros(1 << power)) }
                            td { (count) }
                            td .bar { svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                                rect .o2 width=(format!("{:.1}", *count as f64 * 100.0 / most as f64)) height="10" {}
                            } }
                        }
                    }
                }
            }
            _ => { p .note { "none" } }
        }
    }
}

fn totals(run: &Run) -> Markup {
    const COLUMNS: [&str; 5] = ["GUEST", "VCPU", "SECONDS", "INTERRUPTS", "EXITS"];
    html! {
        section {
            h2 { "vCPUs" }
            table .interrupts {
                thead { tr { @for column in COLUMNS { th { (column) } } } }
                tbody { @for ((guest, vcpu), totals) in &run.totals {
                    @let cells = [guest.clone(), vcpu.to_string(), format!("{:.1}", totals.seconds), totals.interrupts.to_string(), totals.exits.to_string()];
                    tr { @for (column, cell) in COLUMNS.iter().zip(cells) { td data-name=(column) { (cell) } } }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_drawn_as_high_as_it_is_long() {
        assert_eq!([0, 1, 10].map(height_of), [1.0; 3]);
        assert_eq!([100, 10_000, 1_000_000, u64::MAX].map(height_of), [1.6, 4.8, 8.0, 8.0]);
    }
}
