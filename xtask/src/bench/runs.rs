//! Files of saved runs, the oldest first: each with its name, the commit that was measured, and the
//! date of that commit.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Numbers;
use crate::output::Output;
use crate::workspace::{Workspace, read};

/// Version of the files. Version 1 had the numbers of only one run, and did not state its version.
const VERSION: u64 = 2;

/// A saved run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run's name, which no other run of the file has.
    pub name: String,
    /// The short name of the checkout's commit, with a `+` if files had changed since the commit.
    pub commit: String,
    /// The date of the commit.
    pub date: String,
    /// What was measured.
    pub numbers: Numbers,
}

/// All runs of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    version: u64,
    runs: Vec<Run>,
}

impl Runs {
    /// Reads a file of runs.
    pub fn load(file: &Path) -> Result<Self> {
        Self::parse(&read(file)?).with_context(|| format!("in {}", file.display()))
    }

    /// Reads a file of runs, or begins one if there is no such file.
    pub fn load_or_new(file: &Path) -> Result<Self> {
        match file.try_exists() {
            Ok(false) => Ok(Self { version: VERSION, runs: Vec::new() }),
            _ => Self::load(file),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes)
            .context("it is damaged, or was cut short, and is no JSON")?;
        match value.get("version").map(Value::as_u64) {
            Some(Some(VERSION)) => {}
            None if value.get("operations").is_some() => {
                bail!(
                    "it has one run, as this command saved it before version {VERSION}: save it anew"
                )
            }
            None => bail!("it is not what `bench --save` writes"),
            Some(version) => bail!(
                "its version is {}, and this command knows {VERSION}",
                version.map_or("no number".to_owned(), |version| version.to_string())
            ),
        }
        let runs: Self = serde_json::from_value(value).context("it is damaged")?;
        for (index, run) in runs.runs.iter().enumerate() {
            let before = &runs.runs[..index];
            ensure!(
                before.iter().all(|other| other.name != run.name),
                "it is damaged: two of its runs are \"{}\"",
                run.name
            );
        }
        Ok(runs)
    }

    /// Writes the file: whole, or not at all.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let mut output = Output::create(file)?;
        output.write_all(&json).with_context(|| format!("cannot write {}", file.display()))?;
        // The older file was read, and all of its runs are in this one, so replacing it loses
        // nothing.
        output.finish()
    }

    /// Adds a run behind the others, and removes an older one of the same name.
    pub fn add(&mut self, run: Run) {
        self.runs.retain(|other| other.name != run.name);
        self.runs.push(run);
    }

    /// Returns all runs, the oldest first.
    pub fn all(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the run of this name, or the last one if there is no name.
    pub fn find(&self, name: Option<&str>) -> Result<&Run> {
        let Some(name) = name else { return self.runs.last().context("there is no run in it") };
        self.runs.iter().find(|run| run.name == name).with_context(|| {
            let names: Vec<_> = self.runs.iter().map(|run| run.name.as_str()).collect();
            format!("there is no run \"{name}\" in it, but {}", names.join(", "))
        })
    }

    /// Returns the run of this name, or the one before the last, and the last one.
    ///
    /// # Errors
    ///
    /// There is no such run, or no other than the last, or it is the last itself.
    pub fn last_two(&self, old: Option<&str>) -> Result<(&Run, &Run)> {
        let [before @ .., last] = &self.runs[..] else { bail!("there is no run in it") };
        let old = match old {
            Some(_) => self.find(old)?,
            None => before.last().context("there is no other run in it than the last")?,
        };
        ensure!(old.name != last.name, "\"{}\" is the last run itself", last.name);
        Ok((old, last))
    }

    /// Returns the table of the runs for a person.
    pub fn table(&self) -> String {
        let mut text = format!("{:<24}{:<14}{:<12}{:>10}\n", "run", "commit", "date", "hypercall");
        for Run { name, commit, date, numbers } in &self.runs {
            let hypercall = numbers.operations.iter().find(|one| one.name == "hypercall");
            let cost = hypercall.map_or("-".to_owned(), |one| one.stasis.min.to_string());
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<24}{commit:<14}{date:<12}{cost:>10}");
        }
        text
    }
}

impl Run {
    /// Returns the run of what was measured in this checkout. Without a name, it gets the name of
    /// the commit.
    pub fn here(workspace: &Workspace, name: Option<String>, numbers: Numbers) -> Result<Self> {
        let shown = git(workspace, &["log", "-1", "--format=%h %cs"])?;
        let (commit, date) = shown.split_once(' ').context("git tells no commit")?;
        let changed = !git(workspace, &["status", "--porcelain", "-uno"])?.is_empty();
        let commit = format!("{commit}{}", if changed { "+" } else { "" });
        let name = name.unwrap_or_else(|| commit.clone());
        Ok(Self { name, commit, date: date.to_owned(), numbers })
    }
}

fn git(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(workspace.root()).args(arguments).output();
    let output = output.context("cannot start git, which tells what is saved")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
pub mod tests {
    use super::super::history::tests::numbers;
    use super::*;

    /// Runs by name, with what one operation takes in each.
    pub fn runs(list: &[(&str, u64)]) -> Runs {
        let mut runs = Runs { version: VERSION, runs: Vec::new() };
        for (name, cost) in list {
            let (commit, date) = ("45cf687".to_owned(), "2026-11-22".to_owned());
            runs.add(Run { name: (*name).to_owned(), commit, date, numbers: numbers(*cost) });
        }
        runs
    }

    fn refused(bytes: &[u8]) -> String {
        format!("{:#}", Runs::parse(bytes).unwrap_err())
    }

    #[test]
    fn what_is_saved_is_loaded_with_all_that_was_saved_before() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("runs.json");
        let mut saved = Runs::load_or_new(&file).unwrap();
        for run in runs(&[("first", 300), ("second", 200), ("first", 100)]).all() {
            saved.add(run.clone());
            saved.save(&file).unwrap();
            assert_eq!(Runs::load_or_new(&file).unwrap(), saved);
        }
        // A name that comes again is the newest.
        let names: Vec<_> = saved.all().iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["second", "first"]);
        assert_eq!(saved.find(None).unwrap().numbers, numbers(100));
        assert_eq!(saved.find(Some("second")).unwrap().numbers, numbers(200));
        assert!(
            saved.table().contains("45cf687       2026-11-22         200"),
            "{}",
            saved.table()
        );
    }

    #[test]
    fn a_run_that_is_not_there_is_told_with_those_that_are() {
        let error = runs(&[("first", 1), ("second", 2)]).find(Some("third")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("no run \"third\"") && error.contains("first, second"), "{error}");
        assert!(runs(&[]).find(None).is_err());
    }

    #[test]
    fn two_saved_runs_are_compared_without_a_new_one() {
        let saved = runs(&[("first", 300), ("second", 200), ("third", 100)]);
        let names = |old| saved.last_two(old).map(|(old, new)| (&*old.name, &*new.name)).unwrap();
        assert_eq!(names(None), ("second", "third"));
        assert_eq!(names(Some("first")), ("first", "third"));
        assert!(saved.last_two(Some("fourth")).is_err() && saved.last_two(Some("third")).is_err());
        assert!(runs(&[("only", 1)]).last_two(None).is_err() && runs(&[]).last_two(None).is_err());
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused_wherever_it_is_cut() {
        let whole = serde_json::to_vec_pretty(&runs(&[("first", 1), ("second", 2)])).unwrap();
        for length in 0..whole.len() {
            let error = refused(&whole[..length]);
            assert!(error.contains("damaged, or was cut short"), "{length}: {error}");
        }
    }

    #[test]
    fn files_of_other_versions_and_damaged_ones_are_told_apart() {
        assert!(refused(&serde_json::to_vec(&numbers(7)).unwrap()).contains("save it anew"));
        assert!(refused(br#"{"version":3,"runs":[]}"#).contains("its version is 3"));
        assert!(refused(br#"{"version":"x"}"#).contains("its version is no number"));
        assert!(refused(br#"{"version":2,"runs":[{"name":"x"}]}"#).contains("missing field"));
        assert!(refused(b"[]").contains("not what `bench --save` writes"));
        let one = serde_json::to_string(&runs(&[("x", 1)]).runs[0]).unwrap();
        let twice = format!(r#"{{"version":2,"runs":[{one},{one}]}}"#);
        assert!(refused(twice.as_bytes()).contains("two of its runs are \"x\""));
    }
}
