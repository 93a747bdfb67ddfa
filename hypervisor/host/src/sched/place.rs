//! Which cores the vCPUs of a new guest get.

use alloc::vec::Vec;

/// A core that a guest wants is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it wants core {core}; there are {count}")]
pub struct NoSuchCore {
    /// The core.
    pub core: u32,
    /// How many there are.
    pub count: usize,
}

/// Returns the cores of `vcpus` vCPUs. Those in `wanted`, which begins again where it ends; if it
/// is empty, of the cores that have time for the guest, as `has_time` says, those that have the
/// fewest vCPUs, the first one last: the console is on it, so that it always has time. `loads` has
/// the number of vCPUs of each core, and none for one that is not there.
pub fn choose_cores(
    wanted: &[u32],
    vcpus: usize,
    loads: &[Option<usize>],
    has_time: &dyn Fn(usize) -> bool,
) -> Result<Vec<usize>, NoSuchCore> {
    let mut loads = loads.to_vec();
    (0..vcpus)
        .map(|vcpu| {
            let core = match wanted {
                [] => least_loaded(&loads, has_time),
                _ => checked(wanted[vcpu % wanted.len()], &loads),
            }?;
            loads[core] = loads[core].map(|load| load + 1);
            Ok(core)
        })
        .collect()
}

fn count(loads: &[Option<usize>]) -> usize {
    loads.iter().flatten().count()
}

fn checked(core: u32, loads: &[Option<usize>]) -> Result<usize, NoSuchCore> {
    match loads.get(core as usize) {
        Some(Some(_)) => Ok(core as usize),
        _ => Err(NoSuchCore { core, count: count(loads) }),
    }
}

fn least_loaded(
    loads: &[Option<usize>],
    has_time: &dyn Fn(usize) -> bool,
) -> Result<usize, NoSuchCore> {
    let cores = (0..loads.len()).filter(|core| has_time(*core));
    let present = cores.filter_map(|core| Some((loads[core]?, core == 0, core)));
    present.min().map(|(_, _, core)| core).ok_or(NoSuchCore { core: 0, count: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_cores_are_taken_and_the_first_one_last() {
        let loads = [Some(0), Some(0), Some(1), None];
        assert_eq!(choose_cores(&[], 1, &loads, &|_| true), Ok(vec![1]));
        assert_eq!(choose_cores(&[], 2, &loads, &|_| true), Ok(vec![1, 0]));
        assert_eq!(choose_cores(&[], 4, &loads, &|_| true), Ok(vec![1, 0, 1, 2]));
        assert_eq!(choose_cores(&[], 4, &[Some(0), Some(0)], &|_| true), Ok(vec![1, 0, 1, 0]));
    }

    #[test]
    fn wanted_cores_are_taken_and_repeated() {
        let loads = [Some(0), Some(5)];
        assert_eq!(choose_cores(&[1], 3, &loads, &|_| true), Ok(vec![1, 1, 1]));
        assert_eq!(choose_cores(&[1, 0], 4, &loads, &|_| true), Ok(vec![1, 0, 1, 0]));
    }

    #[test]
    fn a_core_whose_windows_leave_no_time_is_not_taken_unless_it_is_wanted() {
        let loads = [Some(3), Some(0), Some(5)];
        let has_time = |core| core != 1;
        assert_eq!(choose_cores(&[], 3, &loads, &has_time), Ok(vec![0, 0, 2]));
        assert_eq!(choose_cores(&[1], 1, &loads, &has_time), Ok(vec![1]));
    }

    #[test]
    fn a_core_that_is_not_there_is_named() {
        let error = choose_cores(&[0, 2], 2, &[Some(0), Some(0), None], &|_| true);
        assert_eq!(error, Err(NoSuchCore { core: 2, count: 2 }));
        assert_eq!(error.unwrap_err().to_string(), "it wants core 2; there are 2");
        assert_eq!(
            choose_cores(&[9], 1, &[Some(0)], &|_| true),
            Err(NoSuchCore { core: 9, count: 1 })
        );
    }
}
