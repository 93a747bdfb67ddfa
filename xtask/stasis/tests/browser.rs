//! The page that `stasis report` makes, in a real browser: Debian's chromium, without a window.
//!
//! What the browser makes of a page is asked by a script that the test puts into a copy of it,
//! without the page's policy, which forbids it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The policy as the page has it.
const POLICY: &str = r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"#;

/// Opens everything that is folded in, and says in the title of the window what the browser has
/// made of the page.
const ASK: &str = r#"<script>
for (const one of document.querySelectorAll("details")) one.open = true;
const root = document.documentElement, style = one => getComputedStyle(document.querySelector(one));
top.document.title = JSON.stringify({
    width: innerWidth, scroll: root.scrollWidth, back: style("body").backgroundColor,
    zero: style("rect.zero").fill, rects: document.querySelectorAll("svg.map rect").length,
    runs: document.querySelectorAll("svg.run path").length, windows: document.querySelectorAll("svg[aria-label^='the windows'] rect:not(.zero)").length, head: style(".interrupts thead").display, least: Math.min(...[...document.querySelectorAll("main *:not(svg *)")].map(
        one => parseFloat(getComputedStyle(one).fontSize))),
});
</script>"#;

/// Makes the page of these checkpoints, and returns its text.
fn page(folder: &Path, names: &[&str]) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.arg("report").args(names.iter().map(|name| golden.join(name)));
    assert!(command.args(["-o", "it.html"]).current_dir(folder).status().unwrap().success());
    std::fs::read_to_string(folder.join("it.html")).unwrap()
}

/// Returns the title of a page after the browser has shown it, dark or light.
fn title(folder: &Path, html: &str, dark: bool) -> String {
    let file = folder.join("shown.html");
    std::fs::write(&file, html).unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(["--hide-scrollbars", "--window-size=1600,900"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .expect("this test needs a browser: as root, `apt-get install chromium`, or `cargo xtask setup`");
    let shown = String::from_utf8_lossy(&output.stdout);
    let title = shown.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let title = title.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))).0;
    title.replace("&quot;", "\"")
}

/// Returns what the browser has made of a page in a frame of this width. Its windows are not as
/// narrow as a phone.
fn measured(folder: &Path, html: &str, width: u32, dark: bool) -> Value {
    let asking = html.replace(POLICY, "").replace("</body>", &format!("{ASK}</body>"));
    let quoted = asking.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!(
        r#"<!DOCTYPE html><meta name="color-scheme" content="light dark"><title></title>
        <iframe style="border: 0" width="{width}" height="844" srcdoc="{quoted}"></iframe>"#
    );
    let title = title(folder, &frame, dark);
    serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {title}"))
}

#[test]
fn a_page_is_legible_on_a_phone_and_a_desk_dark_and_light() {
    let folder = tempfile::tempdir().unwrap();
    for names in
        [&["running/1.0-handler.stasis"][..], &["1.0/one-vcpu.stasis", "1.0/four-vcpus.stasis"]]
    {
        let html = page(folder.path(), names);
        for (width, dark, back) in [
            (390, false, "rgb(255, 255, 255)"),
            (390, true, "rgb(21, 24, 28)"),
            (1280, false, "rgb(255, 255, 255)"),
        ] {
            let found = measured(folder.path(), &html, width, dark);
            assert_eq!(found["width"], width, "{names:?}: {found}");
            // There is nothing beside the window, with everything unfolded.
            assert_eq!(found["scroll"], width, "{names:?}: {found}");
            assert_eq!(found["back"], back, "{names:?}: {found}");
            assert_ne!(found["zero"], "rgb(0, 0, 0)", "{names:?}: {found}");
            assert!(found["rects"].as_u64().unwrap() > 0, "{names:?}: {found}");
            assert!(found["least"].as_f64().unwrap() >= 13.0, "{names:?}: {found}");
            let head = if width < 768 { "none" } else { "table-header-group" };
            assert_eq!(found["head"], head, "{names:?}: {found}");
        }
    }
}

#[test]
fn a_page_of_a_recorded_run_is_legible_on_a_phone_and_a_desk() {
    let folder = tempfile::tempdir().unwrap();
    let rows = r#"[{"milliseconds":1000},{"core":0,"share":0.5,"vcpus":1},{"guest":"a-guest-with-a-long-name-indeed","vcpu":0,"core":0,"share":0.5,"switches":1,"interrupts":2,"irq":3,"mmio":4,"sysreg":5,"call":6,"wait":7,"fault":8}]"#;
    let event = r#"{"event":"window","guest":"a-guest-with-a-long-name-indeed","core":0,"missed":3,"late_us":700}"#;
    let record: String = (1..30)
        .map(|at| format!("{{\"at\":{at},\"rows\":{rows}}}\n{{\"at\":{at},\"event\":{event}}}\n"))
        .collect();
    let windows = r#"{"at":9.5,"windows":[{"core":0,"frame_us":10000,"guest":"a-guest-with-a-long-name-indeed","at_us":2500,"length_us":2000,"missed":7,"late_us":215}]}"#;
    std::fs::write(folder.path().join("run"), record + windows).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.args(["report", "run", "-o", "it.html"]).current_dir(folder.path());
    assert!(command.status().unwrap().success());
    let html = std::fs::read_to_string(folder.path().join("it.html")).unwrap();
    for (width, dark) in [(360, false), (390, true), (1280, false)] {
        let found = measured(folder.path(), &html, width, dark);
        assert_eq!((&found["width"], &found["scroll"]), (&width.into(), &width.into()), "{found}");
        assert_eq!((&found["runs"], &found["windows"]), (&1.into(), &1.into()), "{found}");
        assert!(found["least"].as_f64().unwrap() >= 13.0, "{found}");
        assert_ne!(found["zero"], "rgb(0, 0, 0)", "{found}");
    }
}

#[test]
fn a_script_that_got_into_a_page_would_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let html = page(folder.path(), &["running/1.0-handler.stasis"]);
    assert!(html.contains(POLICY));
    let script = "<script>document.title = 'it ran';</script></body>";
    let html = html.replace("</body>", script);
    assert_eq!(title(folder.path(), &html, false), "handler: 1.0-handler.stasis");
    assert_eq!(title(folder.path(), &html.replace(POLICY, ""), false), "it ran");
}
