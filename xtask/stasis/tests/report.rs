//! The page that `stasis report` makes: it has what the checkpoint has, it needs nothing else, and
//! nothing in it is more than text.

use std::path::Path;
use std::process::{Command, Output};

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    folder.join(format!("{name}.stasis")).to_str().unwrap().to_owned()
}

fn run(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.arg("report").args(words).current_dir(folder).output().unwrap()
}

/// Returns the page that is made of these checkpoints.
fn page(folder: &Path, checkpoints: &[&str]) -> String {
    let output = run(folder, &[checkpoints, &["-o", "it.html"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(folder.join("it.html")).unwrap()
}

#[test]
fn a_page_has_registers_interrupts_and_a_map_of_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path(), &[&golden("running/1.0-handler")]);
    for part in [
        "<h3>vCPU 0</h3>",
        "<th>X29</th>",
        "<th>GICC_PMR</th>",
        "10 are enabled, pending, active or high; of 288",
        "data-name=\"SOURCE\">0 (active)</td>",
        "aria-label=\"a map of the memory",
        "one word over and over: ",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn a_page_of_two_has_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path(), &[&golden("1.0/one-vcpu"), &golden("1.0/four-vcpus")]);
    for part in [
        "one-vcpu.stasis to four-vcpus.stasis</title>",
        "<h2>What differs</h2>",
        "<span class=\"was\">absent</span>",
        "What has changed",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn a_page_refers_to_nothing_and_a_name_in_it_is_text() {
    let folder = tempfile::tempdir().unwrap();
    let name = "<img src=x onerror=alert(1)>&\"'.stasis";
    std::fs::copy(golden("1.0/one-vcpu"), folder.path().join(name)).unwrap();
    let page = page(folder.path(), &[name]);
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&amp;&quot;'.stasis"), "{page}");
    for part in ["<img", "<script", "<link", "<iframe", "<a ", " src=\"", "href", "url(", "@import"]
    {
        assert!(!page.contains(part), "{part}\n{page}");
    }
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""), "{page}");
}

#[test]
fn what_can_be_no_page_is_refused_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("damaged"), b"STASIS\0\0 and nothing else").unwrap();
    let (one, four) = (golden("1.0/one-vcpu"), golden("1.0/four-vcpus"));
    for (words, why) in [
        (&["damaged"][..], "damaged"),
        (&["none"], "cannot open none"),
        (&[&one, &four, &one], "is one too many"),
    ] {
        let output = run(folder.path(), &[words, &["-o", "it.html"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(!folder.path().join("it.html").exists(), "{words:?}");
    }
}

/// A record of 20 s: two guests share a core, one of which misses windows.
fn record() -> String {
    let mut lines = String::new();
    for second in 1..=20 {
        let (a, b) = (f64::from(second) / 40.0, 0.25);
        lines += &format!(
            r#"{{"at":{},"rows":[{{"milliseconds":1000}},{{"core":0,"share":0.9,"vcpus":2}},{{"guest":"linux","vcpu":0,"core":0,"share":{a},"switches":1,"interrupts":2,"irq":3,"mmio":4,"sysreg":5,"call":6,"wait":7,"fault":8}},{{"guest":"<b>control</b>","vcpu":0,"core":0,"share":{b},"switches":1,"interrupts":2,"irq":3,"mmio":4,"sysreg":5,"call":6,"wait":7,"fault":8}}]}}
{{"at":{}.5,"event":{{"event":"window","guest":"<b>control</b>","core":0,"missed":{second},"late_us":{}}}}}
{{"at":{}.6,"event":{{"event":"checkpoint","guest":"linux","number":{second},"name":"auto","still_us":{}}}}}
"#,
            1_795_367_802 + second,
            1_795_367_802 + second,
            100 * second,
            1_795_367_802 + second,
            5 * second,
        );
    }
    lines
}

#[test]
fn a_page_of_a_recorded_run_has_who_had_the_cores_and_what_was_missed() {
    let folder = tempfile::tempdir().unwrap();
    let windows = r#"{"at":1795367803.7,"windows":[{"core":0,"frame_us":10000,"guest":"<b>control</b>","at_us":2500,"length_us":2000,"missed":7,"late_us":215}]}"#;
    std::fs::write(folder.path().join("run.jsonl"), record() + windows).unwrap();
    let page = page(folder.path(), &["run.jsonl"]);
    for part in [
        "<title>a run: run.jsonl</title>",
        "2026-11-22 17:16:42 UTC",
        "<h3>core 0</h3>",
        "linux: 26.2%",
        "&lt;b&gt;control&lt;/b&gt;: 25.0%",
        "210 windows",
        "data-name=\"STOOD STILL\">5 us",
        "<th>below 128 us</th>",
        "in a frame of 10.0 ms",
        "x=\"60.00\" width=\"48.00\"",
        "data-name=\"LAST LATE BY\">215 us",
        "when: Pauses of checkpoints",
        "content=\"default-src 'none'; style-src 'unsafe-inline'\"",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    for part in ["<b>", "<script", "href", "url("] {
        assert!(!page.contains(part), "{part}\n{page}");
    }
    std::fs::write(folder.path().join("none.jsonl"), "{\"at\": 1}\n").unwrap();
    let output = run(folder.path(), &["none.jsonl", "-o", "it.html"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no record of"), "{said}");
}
