//! What pictures have in common, as SVG.

use std::fmt::Write;

/// Begins a picture of so many pixels, with its title, which is SVG already.
pub fn begin(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{title}</text>\n"
    )
}

/// Ends it.
pub fn end(mut svg: String) -> String {
    svg += "</svg>\n";
    svg
}

/// Adds a text that begins there.
pub fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text));
}

/// A text as SVG has it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
