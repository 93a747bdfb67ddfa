//! Draws the history as SVG: a line over all saved runs for each operation and each world switch,
//! each with a scale of its own.

use std::fmt::Write;

use super::plot::costs;
use super::runs::Run;
use super::svg::{self, text};

/// Width of the picture, in pixels.
const WIDTH: f64 = 1000.0;
const LABELS: f64 = 240.0;
/// Room for the numbers behind the last run, in pixels.
const NUMBERS: f64 = 200.0;
const HEAD: f64 = 60.0;
const ROW: f64 = 34.0;
/// The part of a row that its line fills, in pixels.
const LINE: f64 = 22.0;
/// Number of letters of a run's name that are shown if there are many runs.
const NAME: usize = 12;

/// Returns the picture of everything that the last run has measured, from the first run to the
/// last.
pub fn draw(runs: &[Run]) -> String {
    let each: Vec<_> = runs.iter().map(|run| costs(&run.numbers)).collect();
    let names = each.last().map(|last| last.iter().map(|(name, _)| name)).into_iter().flatten();
    let names: Vec<&String> = names.collect();
    let height = HEAD + ROW * (names.len() as f64 + 0.5);
    let title =
        format!("Instructions under Stasis in {} runs, each line from 0 to its most", runs.len());
    let mut svg = svg::begin(WIDTH, height, &title);
    for (index, run) in runs.iter().enumerate() {
        let name: String = run.name.chars().take(NAME).collect();
        text(&mut svg, x(index, runs.len()), HEAD - 14.0 - 12.0 * (index % 2) as f64, &name);
    }
    for (row, name) in names.into_iter().enumerate() {
        let bottom = HEAD + ROW * row as f64 + LINE;
        let cost = |costs: &Vec<(String, u64)>| {
            costs.iter().find(|(other, _)| other == name).map(|(_, cost)| *cost)
        };
        let points: Vec<_> = each
            .iter()
            .enumerate()
            .filter_map(|(index, costs)| Some((index, cost(costs)?)))
            .collect();
        text(&mut svg, 8.0, bottom, name);
        line(&mut svg, bottom, &points, runs.len());
    }
    svg::end(svg)
}

/// Draws one row: a line through the points, a dot for each run, and the numbers of the first and
/// the last run.
fn line(svg: &mut String, bottom: f64, points: &[(usize, u64)], runs: usize) {
    let (Some((_, first)), Some((_, last))) = (points.first(), points.last()) else { return };
    let most = points.iter().map(|(_, cost)| *cost).max().unwrap_or(1).max(1);
    let at = |(index, cost): &(usize, u64)| {
        (x(*index, runs), bottom - LINE * (*cost as f64 / most as f64))
    };
    let path: Vec<_> = points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    // Writing to a String does not fail.
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#4c9a5b\" stroke-width=\"1.5\"/>",
        path.join(" ")
    );
    for (x, y) in points.iter().map(at) {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"#4c9a5b\"/>");
    }
    let said = if points.len() == 1 { last.to_string() } else { format!("{first} -> {last}") };
    text(svg, WIDTH - NUMBERS + 16.0, bottom, &said);
}

/// Returns the horizontal position of a run's dots.
fn x(index: usize, runs: usize) -> f64 {
    let room = WIDTH - LABELS - NUMBERS;
    LABELS + room * index as f64 / runs.saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::runs::tests::runs;
    use super::*;

    #[test]
    fn each_run_has_a_dot_at_the_height_of_what_it_took() {
        let svg = draw(runs(&[("a", 400), ("b", 200), ("<c>", 100)]).all());
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        let points = "points=\"240.0,60.0 520.0,71.0 800.0,76.5\"";
        assert!(svg.contains(points), "{svg}");
        assert!(svg.contains("400 -&gt; 100") && svg.contains("&lt;c&gt;"), "{svg}");
    }

    #[test]
    fn what_only_the_last_run_has_is_a_dot_alone() {
        let mut list = runs(&[("a", 400), ("b", 200)]).all().to_vec();
        list[0].numbers.operations.clear();
        let svg = draw(&list);
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
        assert!(svg.contains(">200<"), "{svg}");
        assert!(draw(&[]).ends_with("</svg>\n"));
    }
}
