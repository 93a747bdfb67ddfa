//! Output of `cargo xtask` that nobody reads to the end, as in `| head`.

use std::process::Command;

#[test]
fn a_table_that_nobody_reads_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.json");
    std::fs::write(&file, r#"{"version": 2, "runs": []}"#).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let status = xtask.args(["bench", "--runs"]).arg(&file).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
