//! The boot, from the reset to the guest: how many instructions each of its steps takes.

/// The line of Stasis's log at the end of each step, and the name of the step.
const STEPS: [(&str, &str); 3] = [
    ("] Stasis ", "to the first line of the log"),
    ("cores, ", "the machine and its cores"),
    ("] guest \"", "the guest's memory and image"),
];

/// Returns the name of each step and its instructions. The log has microseconds, and each of them
/// is 1000 instructions.
pub fn steps(transcript: &str) -> Vec<(String, u64)> {
    let mut lines = transcript.lines();
    let mut begin = 0;
    let steps = STEPS.iter().filter_map(|(said, name)| {
        let end = microseconds(lines.find(|line| line.contains(said))?)?;
        let took = end - std::mem::replace(&mut begin, end);
        Some(((*name).to_owned(), took * 1000))
    });
    steps.collect()
}

/// Returns the time in a line such as `[    0.001735] ...`.
fn microseconds(line: &str) -> Option<u64> {
    let (time, _) = line.split_once('[')?.1.split_once(']')?;
    let (seconds, rest) = time.trim().split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + rest.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_lasts_up_to_its_line() {
        let log = "[    0.001735] Stasis 0.1.0 on linux,dummy-virt\n\
                   [    0.011757] 2 cores, 1015 MiB of RAM free, 4 list registers\n\
                   [    0.011763] warning: no store\n\
                   [    1.027665] guest \"bench\": on core 1, 0\n";
        let took: Vec<u64> = steps(log).into_iter().map(|(_, took)| took).collect();
        assert_eq!(took, [1_735_000, 10_022_000, 1_015_908_000]);
        assert!(steps("nothing of it").is_empty());
    }
}
