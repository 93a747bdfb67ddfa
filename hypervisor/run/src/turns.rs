//! Who has each core, and for how long: what [`stasis_vm::sched`] decides, carried out.
//!
//! Each core has a scheduler behind a lock of its own, which is the last one that is taken. Whoever wakes a vCPU ([`kick`])
//! tells its core, if that makes a difference to it; the core itself [decides](decide).

use crate::gic::ThisCore;
use crate::slot::{After, Slot};
use crate::{above, cores, gic};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::LazyLock;
use spin::mutex::SpinMutex;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{cpu, timer};
use stasis_vm::clock::NEVER;
use stasis_vm::config::{self, CoreConfig, DEFAULT_WEIGHT};
use stasis_vm::sched::{Scheduler, TaskId, Turn};

/// The core that the console's commands run on.
const CONSOLE_CORE: usize = config::CONSOLE_CORE as usize;
/// The console's commands are that core's first task. They have no guest's name, and so no window.
const CONSOLE: TaskId = 0;

/// Who a task is.
#[derive(Clone)]
enum Who {
    Console,
    Vcpu { slot: Arc<Slot>, index: usize },
}

struct Core {
    scheduler: Scheduler,
    /// By task; none while a guest is being made.
    who: Vec<Option<Who>>,
}

static CORES: LazyLock<[SpinMutex<Core>; MAX_CORES]> = LazyLock::new(|| {
    core::array::from_fn(|core| {
        let mut scheduler = Scheduler::new(timer::frequency());
        let mut who = Vec::new();
        if core == CONSOLE_CORE {
            scheduler.add("", DEFAULT_WEIGHT);
            who.push(Some(Who::Console));
        }
        SpinMutex::new(Core { scheduler, who })
    })
});

/// What [`is_shared`] says. Who is added later makes no difference to the vCPU that has the core before the next decision.
static SHARED: [AtomicBool; MAX_CORES] = [const { AtomicBool::new(false) }; MAX_CORES];

/// A core is to decide anew.
static ANEW: [AtomicBool; MAX_CORES] = [const { AtomicBool::new(false) }; MAX_CORES];

/// The console's turn lasts until then; at other times it is over.
static CONSOLE_UNTIL: AtomicU64 = AtomicU64::new(u64::MAX);
/// It is the console's turn.
static CONSOLE_RUNS: AtomicBool = AtomicBool::new(false);
/// Ticks for which others had the console's core while a command was under way.
static AWAY: AtomicU64 = AtomicU64::new(0);

/// Divides a core's time by a frame. Before it has a vCPU.
pub fn divide(plan: &CoreConfig) {
    let windows = plan.windows.iter();
    let windows = windows.map(|window| (window.guest.as_str(), window.at_us, window.length_us));
    let scheduler = &mut CORES[plan.number as usize].lock().scheduler;
    // All cores' frames begin with the counter, and so together.
    scheduler.divide(plan.frame_us, windows, timer::frequency(), 0);
    // It may sleep already, by a decision that knows of no window and would wait for ever.
    decide_anew(plan.number as usize);
}

/// Adds a task for a vCPU of `guest`, which sleeps until it is [assigned](assign).
pub fn add(core: usize, guest: &str, weight: u16) -> TaskId {
    let mut locked = CORES[core].lock();
    let task = locked.scheduler.add(guest, weight);
    // The number may have been another one's.
    if task == locked.who.len() {
        locked.who.push(None);
    }
    note_sharing(core, &locked.scheduler);
    task
}

/// Has a guest's vCPUs run, each on its core.
pub fn assign(slot: &Arc<Slot>) {
    for (index, (core, task)) in slot.tasks().enumerate() {
        CORES[core].lock().who[task] = Some(Who::Vcpu { slot: slot.clone(), index });
        kick(core, task);
    }
}

/// Ends the tasks of a guest that is parked and does not run. Each core that has one of them gives it up first.
pub fn retire(slot: &Slot) {
    for (core, task) in slot.tasks() {
        loop {
            let mut locked = CORES[core].lock();
            if locked.scheduler.remove(task) {
                locked.who[task] = None;
                note_sharing(core, &locked.scheduler);
                break;
            }
            drop(locked);
            // It finds that it is not to run, and sleeps.
            interrupt(core);
            breathe();
        }
    }
}

/// How many vCPUs a core has.
pub fn vcpu_count(core: usize) -> usize {
    let tasks = CORES[core].lock().scheduler.task_count();
    if core == CONSOLE_CORE { tasks - 1 } else { tasks }
}

/// Whether anybody but a core's only vCPU may want it.
pub fn is_shared(core: usize) -> bool {
    SHARED[core].load(Ordering::Relaxed)
}

fn note_sharing(core: usize, scheduler: &Scheduler) {
    SHARED[core].store(scheduler.task_count() > 1, Ordering::Relaxed);
}

/// Wakes a task, or has it look at what it is asked to do.
pub fn kick(core: usize, task: TaskId) {
    let mut locked = CORES[core].lock();
    let loaded = locked.scheduler.current() == Some(task);
    let anew = locked.scheduler.wake(task, timer::counter);
    drop(locked);
    if anew {
        decide_anew(core);
    }
    if loaded {
        interrupt(core);
    }
}

/// Has a task's core look at what it is asked to do, if the task has the core or may still be loaded there.
pub fn call(core: usize, task: TaskId) {
    let current = CORES[core].lock().scheduler.current();
    if current.is_none_or(|current| current == task) {
        interrupt(core);
    }
}

fn decide_anew(core: usize) {
    ANEW[core].store(true, Ordering::Release);
    interrupt(core);
}

/// This core needs none: it is at EL2, and will look.
fn interrupt(core: usize) {
    if core != cpu::number() {
        gic::kick(core);
    }
}

/// EL2's timer has fired: this core is to decide anew.
pub fn timer_fired() {
    ANEW[cpu::number()].store(true, Ordering::Relaxed);
}

/// Whether this core is to decide anew.
pub fn must_decide() -> bool {
    ANEW[cpu::number()].load(Ordering::Acquire)
}

/// Who has this core from now on.
pub fn decide() -> Turn {
    let core = cpu::number();
    // Before the decision: what comes after it is for the next one.
    ANEW[core].store(false, Ordering::SeqCst);
    CORES[core].lock().scheduler.decide(timer::counter())
}

/// Has a task of this core go on that sleeps, if it was woken, and nobody else, since the core is idle. Returns until when; none: this
/// core is to [decide].
pub fn resume(task: TaskId) -> Option<u64> {
    let core = cpu::number();
    // Before the look, as in `decide`. Who wakes another task after it has the lock after this core, and sets the flag after that. Who
    // did so before is seen by the look, and if the flag comes only now, a decision is made that changes nothing.
    ANEW[core].store(false, Ordering::SeqCst);
    CORES[core].lock().scheduler.resume(task, timer::counter())
}

/// Has this core's current task sleep until it is kicked, or it is `until`. `false`: it was kicked since it got the core.
pub fn sleep(task: TaskId, until: u64) -> bool {
    CORES[cpu::number()].lock().scheduler.sleep(task, until, timer::counter())
}

/// Has the console have its turn soon.
pub fn wake_console() {
    kick(CONSOLE_CORE, CONSOLE);
}

/// What every core does when it is set up.
pub fn serve() -> ! {
    loop {
        run_vcpus();
        CONSOLE_RUNS.store(true, Ordering::Relaxed);
        let due = above::get().serve();
        CONSOLE_RUNS.store(false, Ordering::Relaxed);
        sleep(CONSOLE, due.unwrap_or(NEVER));
    }
}

/// Lets the vCPUs of this core run whose turn it is. Commands that take long call it again and again: so nobody waits for
/// their end.
pub fn breathe() {
    if !CONSOLE_RUNS.load(Ordering::Relaxed) || cpu::number() != CONSOLE_CORE {
        return;
    }
    if must_decide() || timer::counter() >= CONSOLE_UNTIL.load(Ordering::Relaxed) {
        CONSOLE_RUNS.store(false, Ordering::Relaxed);
        let left = timer::counter();
        run_vcpus();
        AWAY.fetch_add(timer::counter() - left, Ordering::Relaxed);
        CONSOLE_RUNS.store(true, Ordering::Relaxed);
    }
}

/// The counter as a command sees it that waits for a disk: others run meanwhile, and their time does not count.
pub fn own_time() -> u64 {
    breathe();
    timer::counter() - AWAY.load(Ordering::Relaxed)
}

/// Has the console's command sleep until an instant, or until something happens for the console.
pub fn rest_until(counter: u64) {
    CONSOLE_RUNS.store(false, Ordering::Relaxed);
    sleep(CONSOLE, counter);
    run_vcpus();
    CONSOLE_RUNS.store(true, Ordering::Relaxed);
}

/// Runs this core's vCPUs until it is the console's turn: on other cores than the console's, for ever.
fn run_vcpus() {
    // What was decided already, while the vCPU before was leaving.
    let mut decided = None;
    loop {
        let Turn { task, until } = decided.take().unwrap_or_else(|| {
            cores::take_interrupts(&ThisCore::here(), |_| false);
            decide()
        });
        let Some(task) = task else {
            timer::set_deadline(until);
            cpu::wait_for_interrupt();
            continue;
        };
        let who = CORES[cpu::number()].lock().who[task].clone();
        match who {
            Some(Who::Vcpu { slot, index }) => match slot.run(index, until) {
                After::Turn(turn) => decided = Some(turn),
                After::Anything => {}
                After::Stopped(how) => above::get().stopped(slot, how),
            },
            Some(Who::Console) => {
                CONSOLE_UNTIL.store(until, Ordering::Relaxed);
                // It looks at the time by itself.
                timer::set_deadline(NEVER);
                return;
            }
            // Nobody wakes it before it is somebody's.
            None => {
                sleep(task, NEVER);
            }
        }
    }
}
