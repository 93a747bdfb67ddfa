//! The manual: the project's pages, which are Markdown, as HTML with links between them.

use std::path::Path;

use anyhow::{Context, Result};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The pages that do not lie in `docs`.
const ABOVE: [&str; 4] = ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

const STYLE: &str = "\
body{max-width:60rem;margin:0 auto;padding:1rem;font:1rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
pre{overflow-x:auto;padding:.7rem;background:color-mix(in srgb,currentcolor 8%,transparent);border-radius:.4rem}
code{font:.875em ui-monospace,monospace}table{border-collapse:collapse;display:block;overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;border-bottom:1px solid color-mix(in srgb,currentcolor 20%,transparent)}
img{max-width:100%}";

/// Returns the files of the manual: their names and their contents.
pub fn pages(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut files = Vec::new();
    for name in ABOVE {
        let markdown = read(&root.join(name))?;
        files.push((html_name(name, false), page(&markdown, false).into_bytes()));
    }
    for (name, path) in folder(&root.join("docs"))? {
        if name.ends_with(".md") {
            files.push((html_name(&name, true), page(&read(&path)?, true).into_bytes()));
        }
    }
    for (name, path) in folder(&root.join("docs/pictures"))? {
        files.push((format!("pictures/{name}"), std::fs::read(path)?));
    }
    Ok(files)
}

/// Returns the names and paths of the files in a folder.
fn folder(path: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let entries = std::fs::read_dir(path).with_context(|| format!("no {}", path.display()))?;
    let files = entries.map(|entry| {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        Ok((name, path))
    });
    files.filter(|file| file.as_ref().map_or(true, |(_, path)| path.is_file())).collect()
}

/// Returns the name of a page: that of its Markdown, but the list of documents is the index.
fn html_name(markdown: &str, in_docs: bool) -> String {
    match markdown {
        "README.md" if in_docs => "index.html".to_owned(),
        _ => format!("{}.html", markdown.trim_end_matches(".md")),
    }
}

/// Returns a page as HTML. `in_docs` says whether its links begin in `docs`, or above it.
fn page(markdown: &str, in_docs: bool) -> String {
    let events: Vec<Event<'_>> = Parser::new_ext(markdown, Options::ENABLE_TABLES)
        .map(|event| linked(event, in_docs))
        .collect();
    let headed = with_anchors(&events);
    let title = headed.first_title.unwrap_or_else(|| "Stasis".to_owned());
    let mut body = String::new();
    html::push_html(&mut body, headed.events.into_iter());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head><body>\n<p><a href=\"index.html\">All pages</a></p>\n{body}</body></html>\n",
        title.replace('&', "&amp;").replace('<', "&lt;")
    )
}

/// Returns an event whose link, if it is one to another page, leads to that page of the manual.
fn linked(event: Event<'_>, in_docs: bool) -> Event<'_> {
    match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = target(&dest_url, in_docs).map_or(dest_url, CowStr::from);
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        other => other,
    }
}

/// Returns where a link to a page of the project leads in the manual; `None` for any other link.
fn target(link: &str, in_docs: bool) -> Option<String> {
    let (path, anchor) =
        link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let (name, is_in_docs) = match (path.strip_prefix("../"), path.strip_prefix("docs/")) {
        (Some(above), _) if in_docs => (above, false),
        (None, Some(below)) if !in_docs => (below, true),
        _ => (path, in_docs),
    };
    let is_page =
        name.ends_with(".md") && !name.contains('/') && (is_in_docs || ABOVE.contains(&name));
    let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
    is_page.then(|| format!("{}{anchor}", html_name(name, is_in_docs)))
}

/// A page whose headings have the anchors that links name.
struct Headed<'e> {
    events: Vec<Event<'e>>,
    first_title: Option<String>,
}

fn with_anchors<'e>(events: &[Event<'e>]) -> Headed<'e> {
    let mut headed = Headed { events: Vec::with_capacity(events.len()), first_title: None };
    for (index, event) in events.iter().enumerate() {
        let Event::Start(Tag::Heading { level, classes, attrs, .. }) = event else {
            headed.events.push(event.clone());
            continue;
        };
        let inside = events[index..]
            .iter()
            .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
        let text: String = inside
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let (level, classes, attrs) = (*level, classes.clone(), attrs.clone());
        let id = Some(CowStr::from(anchor_of(&text)));
        headed.events.push(Event::Start(Tag::Heading { level, id, classes, attrs }));
        headed.first_title.get_or_insert(text);
    }
    headed
}

/// Returns the anchor of a heading, as GitHub makes it.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_link_of_the_manual_leads_to_a_page_and_a_heading_of_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files: BTreeMap<String, Vec<u8>> = pages(&root).unwrap().into_iter().collect();
        assert!(files.contains_key("index.html") && files.contains_key("first-hour.html"));
        for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".html")) {
            let text = String::from_utf8_lossy(bytes);
            let links = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
            for link in links.chain(pictures) {
                let (page, anchor) = link.split_once('#').unwrap_or((link, ""));
                if page.contains("://")
                    || !(page.is_empty() || page.ends_with(".html") || page.ends_with(".png"))
                {
                    continue;
                }
                let page = if page.is_empty() { name } else { page };
                let found = files.get(page).unwrap_or_else(|| panic!("{name}: no {link}"));
                let heading = format!("id=\"{anchor}\"");
                let has_it = anchor.is_empty() || String::from_utf8_lossy(found).contains(&heading);
                assert!(has_it, "{name}: no heading for {link}");
            }
        }
    }

    #[test]
    fn links_between_pages_lead_to_html() {
        for (link, in_docs, expected) in [
            ("console.md#sets", true, Some("console.html#sets")),
            ("docs/store.md", false, Some("store.html")),
            ("../ARCHITECTURE.md", true, Some("ARCHITECTURE.html")),
            ("README.md", true, Some("index.html")),
            ("README.md", false, Some("README.html")),
            ("../tests/format/reader.py", true, None),
            ("https://example.org/a.md", true, None),
        ] {
            assert_eq!(target(link, in_docs).as_deref(), expected, "{link}");
        }
        assert_eq!(anchor_of("What `can't` be, yet"), "what-cant-be-yet");
    }
}
