//! What all pages have: the head with its policy, the style, the title and the foot; and how a
//! title names a file.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// Forbids scripts, and everything that is not in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Returns a page with this title and content.
pub fn page(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } }
                main { (content) }
                footer { "Made by stasis " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    }
}

/// Returns the last part of a path, which is what a reader of the page knows.
pub fn base(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}
