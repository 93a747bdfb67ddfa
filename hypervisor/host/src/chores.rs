//! What the console's task does in each of its turns, and when it is needed again.
//!
//! The task has three kinds of chores: commands that are typed, duties that nobody has asked for
//! ([`crate::care`]), and memory of guests that is loaded while they run ([`crate::loading`]), with
//! what their disks have to do. `boot` does them, through [`Chores`]; [`turn`] decides in which
//! order, and whether the task may sleep.

/// The chores of the console's task.
pub trait Chores {
    /// Handles what was typed, up to the end of the first command. Returns whether there may be
    /// more; if not, what is typed from now on wakes the task.
    fn command(&mut self) -> bool;

    /// Does one duty that is due, and returns whether there was one. What is typed meanwhile is
    /// kept, and wakes nobody.
    fn duty(&mut self) -> bool;

    /// Loads a part of a guest's memory, and does requests of guests' disks, which takes no longer
    /// than a few disk accesses. Returns whether there may be more.
    fn load(&mut self) -> bool;

    /// Returns the value of the counter at which something is due if nothing happens before; `None`
    /// if nothing is planned.
    fn next_due(&mut self) -> Option<u64>;
}

/// Does the chores of one turn: a command, a duty and a load, because none must wait for all of
/// another kind. Returns the value of the counter at which the task is needed again, which is `now`
/// if it must look once more before it sleeps; `None` if nothing is planned.
pub fn turn(chores: &mut impl Chores, now: impl FnOnce() -> u64) -> Option<u64> {
    let more_is_typed = chores.command();
    // What was typed during a duty or a load woke nobody. So the task looks at it before it sleeps.
    let was_busy = chores.duty() | chores.load();
    if was_busy || more_is_typed { Some(now()) } else { chores.next_due() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::string::String;

    const NOW: u64 = 7;

    /// A console and some duties. A letter is a command of one byte.
    #[derive(Default)]
    struct Fake {
        typed: VecDeque<char>,
        /// What is typed while the next duties are done, by duty.
        duties: VecDeque<&'static str>,
        /// What is typed during the next loads, by load.
        loads: VecDeque<&'static str>,
        /// What was done: the commands, `+` for a duty, and `.` for a load.
        done: String,
        /// Whether a byte would wake the task.
        listens: bool,
    }

    impl Chores for Fake {
        fn command(&mut self) -> bool {
            self.listens = self.typed.is_empty();
            self.done.extend(self.typed.pop_front());
            !self.listens
        }

        fn duty(&mut self) -> bool {
            let Some(typed) = self.duties.pop_front() else { return false };
            self.typed.extend(typed.chars());
            self.listens &= typed.is_empty();
            self.done.push('+');
            true
        }

        fn load(&mut self) -> bool {
            let Some(typed) = self.loads.pop_front() else { return false };
            self.typed.extend(typed.chars());
            self.listens &= typed.is_empty();
            self.done.push('.');
            true
        }

        fn next_due(&mut self) -> Option<u64> {
            None
        }
    }

    /// Gives the task turns until it sleeps, and returns what it has done.
    fn done_until_asleep(mut fake: Fake) -> String {
        while turn(&mut fake, || NOW) == Some(NOW) {}
        assert!(fake.listens && fake.typed.is_empty(), "{:?} is not looked at", fake.typed);
        fake.done
    }

    #[test]
    fn a_command_that_is_typed_during_a_duty_is_not_slept_over() {
        let fake = Fake { duties: ["a"].into(), ..Fake::default() };
        assert_eq!(done_until_asleep(fake), "+a");
        let fake = Fake { typed: ['a'].into(), duties: ["", "b"].into(), ..Fake::default() };
        assert_eq!(done_until_asleep(fake), "a++b");
    }

    #[test]
    fn commands_and_duties_take_turns() {
        let fake =
            Fake { typed: ['a', 'b', 'c'].into(), duties: ["", ""].into(), ..Fake::default() };
        assert_eq!(done_until_asleep(fake), "a+b+c");
    }

    #[test]
    fn loads_wait_for_one_command_and_one_duty_and_are_not_slept_over() {
        let fake = Fake { duties: ["", ""].into(), loads: ["", "a", ""].into(), ..Fake::default() };
        assert_eq!(done_until_asleep(fake), "+.+.a.");
        let fake = Fake { loads: ["a"].into(), ..Fake::default() };
        assert_eq!(done_until_asleep(fake), ".a");
    }

    #[test]
    fn a_task_without_chores_sleeps_until_something_is_due() {
        assert_eq!(turn(&mut Fake::default(), || NOW), None);
    }
}
