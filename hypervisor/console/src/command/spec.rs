//! The table of commands: their words, their arguments and options, and their help.

use super::arguments::Arguments;
use super::choices::{
    COMPRESSIONS, NETWORK_WORDS, STORE_WORDS, VOLUME_WORDS, network, store, volume, weight, windows,
};
use super::{ANY_SPEED, Command, CommandError, JSON, KEEP_DISKS, TERMINAL, WHOLE};
use crate::type_ahead::CANCEL;

/// Number of lines that `log` shows if the line does not say how many.
const LOG_LINES: u64 = 24;
/// The greatest number of lines that `log` can show. More are not kept.
const MAX_LOG_LINES: u64 = 16 << 10;
/// The greatest number of seconds of one table of `top`.
const MAX_SECONDS: u64 = 3600;
/// The greatest number of tables of one `top`.
const MAX_TIMES: u64 = 1_000_000;

/// The entry of a command in the table.
pub(super) struct Spec {
    pub(super) word: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// The options. They begin with `--`, and may stand anywhere behind the command's word.
    pub(super) options: &'static [&'static str],
    /// What the command does, in one line.
    pub(super) summary: &'static str,
    /// The rest of the help, in lines that fit on a terminal.
    pub(super) details: &'static [&'static str],
    pub(super) build: for<'a> fn(&Arguments<'a>) -> Result<Command<'a>, CommandError>,
}

/// A parameter: what can stand behind a command's word.
pub(super) struct Parameter {
    /// The parameter's name in the help.
    pub(super) shown: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A guest.
    Guest,
    /// Several guests that the machine or the configuration has, or all of them.
    Startables,
    /// Several guests, or all of them.
    Guests,
    /// A checkpoint, or a set of checkpoints.
    Checkpoint,
    /// A volume.
    Volume,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The word of a command.
    Topic,
    /// This word. The parameter behind it is then required.
    Word(&'static str),
    /// Any word, such as a new name.
    Free,
}

const fn required(shown: &'static str, kind: Kind) -> Parameter {
    Parameter { shown, kind, required: true }
}

const fn optional(shown: &'static str, kind: Kind) -> Parameter {
    Parameter { shown, kind, required: false }
}

const GUEST: Parameter = required("<guest>", Kind::Guest);
const GUESTS: Parameter = required("<guests>", Kind::Guests);
const CHECKPOINT: Parameter = required("<number|name|set/>", Kind::Checkpoint);

pub(super) static TABLE: [Spec; 26] = [
    Spec {
        word: "help",
        parameters: &[optional("[command]", Kind::Topic)],
        options: &[],
        summary: "list the commands, or explain one",
        details: &[
            "Tab completes commands, and the names of guests and checkpoints. Arrow up and down go through earlier",
            "lines, Ctrl-U takes the line back, Ctrl-C gives it up.",
        ],
        build: |arguments| Ok(Command::Help(arguments.optional(0))),
    },
    Spec {
        word: "guests",
        parameters: &[],
        options: &[JSON],
        summary: "list the guests",
        details: &[
            "Other commands take a guest's number or its name.",
            "With --json, each guest is one line with an object; memory is in bytes.",
        ],
        build: |arguments| Ok(Command::Guests { json: arguments.has(JSON) }),
    },
    Spec {
        word: "top",
        parameters: &[optional("[seconds]", Kind::Free), optional("[times]", Kind::Free)],
        options: &[JSON],
        summary: "show what the cores and the guests do",
        details: &[
            "For each vCPU: its share of its core, how often it was put there, the interrupts that it has taken, and",
            "why it left its guest. Without a time, since Stasis was started; with one, over as many seconds from",
            "now on, as often as told. Any key ends it early.",
        ],
        build: |arguments| {
            Ok(Command::Top {
                seconds: arguments.number(0, MAX_SECONDS)?,
                times: arguments.number(1, MAX_TIMES)?.unwrap_or(1),
                json: arguments.has(JSON),
            })
        },
    },
    Spec {
        word: "pause",
        parameters: &[GUESTS],
        options: &[],
        summary: "stop guests' time",
        details: &[
            "Of each, virtual time stands still until it is unpaused. Several are \"a,b,c\"; \"all\" are all that run.",
        ],
        build: |arguments| Ok(Command::Pause(arguments.guests(0)?)),
    },
    Spec {
        word: "unpause",
        parameters: &[GUESTS],
        options: &[],
        summary: "let paused guests go on",
        details: &["It does not see that it was paused, but by a clock on the wall."],
        build: |arguments| Ok(Command::Unpause(arguments.guests(0)?)),
    },
    Spec {
        word: "shutdown",
        parameters: &[GUESTS],
        options: &[],
        summary: "press guests' power keys",
        details: &[
            "It is asked to switch itself off, as by QEMU's system_powerdown: a Linux with gpio-keys and a program that",
            "listens for the key, such as systemd, shuts down. Whether it does is up to it; stop does not ask.",
        ],
        build: |arguments| Ok(Command::Shutdown(arguments.guests(0)?)),
    },
    Spec {
        word: "stop",
        parameters: &[GUESTS],
        options: &[],
        summary: "switch guests off",
        details: &["It is not asked: what it has not written is lost, as when the power fails."],
        build: |arguments| Ok(Command::Stop(arguments.guests(0)?)),
    },
    Spec {
        word: "start",
        parameters: &[required("<guests>", Kind::Startables)],
        options: &[],
        summary: "start guests that are off, as they are configured",
        details: &["Also one that the configuration has and the machine does not."],
        build: |arguments| Ok(Command::Start(arguments.guests(0)?)),
    },
    Spec {
        word: "restart",
        parameters: &[GUESTS],
        options: &[],
        summary: "start guests again, as they are configured",
        details: &["Whatever it is doing: as if its machine were reset."],
        build: |arguments| Ok(Command::Restart(arguments.guests(0)?)),
    },
    Spec {
        word: "remove",
        parameters: &[GUESTS],
        options: &[],
        summary: "remove guests that do not run",
        details: &[
            "One that is paused, off, crashed or lost. Its memory and its name are free for others. What is stored of it",
            "stays, and can be resumed; one that the configuration has can be started anew.",
        ],
        build: |arguments| Ok(Command::Remove(arguments.guests(0)?)),
    },
    Spec {
        word: "checkpoint",
        parameters: &[GUESTS, optional("[name]", Kind::Free)],
        options: &[],
        summary: "store guests' state and memory",
        details: &[
            "Of one guest: the checkpoint gets a number, and the guest's name if none is given.",
            "Of several, \"a,b,c\" or \"all\": they are stored as they are at one instant, each as \"name/guest\", and",
            "are a set, which resume and delete take as \"name/\". Either all of a set is there or nothing.",
            "The guests stand still for an instant, and run while they are stored.",
        ],
        build: |arguments| {
            Ok(Command::Checkpoint { guests: arguments.guests(0)?, name: arguments.optional(1) })
        },
    },
    Spec {
        word: "resume",
        parameters: &[
            CHECKPOINT,
            optional("[as", Kind::Word("as")),
            optional("<new name>]", Kind::Free),
        ],
        options: &[ANY_SPEED, WHOLE, KEEP_DISKS],
        summary: "resume a guest, or a set",
        details: &[
            "It goes on at once, and its memory is loaded while it runs. With --whole, all of it is loaded and",
            "checked before anything changes. A name that several have stands for the newest.",
            "A guest takes the place of the one with its name, which ends. With \"as\" it gets another name, and goes on",
            "beside it: a second copy, with memory of its own.",
            "With --any-speed the guest's clock goes as fast as this machine's counter, whatever it was made with: its",
            "seconds are then shorter or longer.",
            "Its disks are what they were; what they had become is kept as volumes NAME-before-NUMBER, until those are",
            "deleted. With --keep-disks they stay as they are, which only a guest that knows of it survives.",
        ],
        build: |arguments| {
            let (which, copy) = (arguments.required(0), arguments.optional(2));
            let (any_speed, whole) = (arguments.has(ANY_SPEED), arguments.has(WHOLE));
            let keep_disks = arguments.has(KEEP_DISKS);
            Ok(Command::Resume { which, copy, any_speed, whole, keep_disks })
        },
    },
    Spec {
        word: "clone",
        parameters: &[GUEST, required("as", Kind::Word("as")), required("<new name>", Kind::Free)],
        options: &[],
        summary: "make a second guest of one, as it is now",
        details: &[
            "Both go on from the same instant. They share their memory until one of them writes: each page that is",
            "written takes memory then, of the one that writes. If there is none, that guest waits, \"guests\" says so, and",
            "it goes on by itself when there is some.",
            "A guest that has devices of the machine, shares memory with others, or has a window on a core can't be cloned.",
        ],
        build: |arguments| {
            Ok(Command::Clone { guest: arguments.required(0), name: arguments.required(2) })
        },
    },
    Spec {
        word: "delete",
        parameters: &[CHECKPOINT],
        options: &[],
        summary: "delete a checkpoint, or those of a set",
        details: &["For good. Its number is not used again."],
        build: |arguments| Ok(Command::Delete(arguments.required(0))),
    },
    Spec {
        word: "store",
        parameters: &[
            optional("[list|upgrade|compress]", Kind::OneOf(STORE_WORDS)),
            optional("[lz4|none]", Kind::OneOf(COMPRESSIONS)),
        ],
        options: &[JSON],
        summary: "list the checkpoints, or change the store",
        details: &[
            "\"pages\" are those of 4 KiB that have anything but zeros, and so are stored. \"frees\" is what would be free",
            "without the checkpoint: what it shares with no other one. \"parent\" is the one that it was made after.",
            "With --json, each checkpoint is one line with an object, in bytes and seconds since 1970.",
            "\"store upgrade\" is for a store that an older Stasis has made, whose checkpoints share nothing. From then on",
            "that Stasis refuses it.",
            "\"store compress lz4\" has the store compress the checkpoints that it gets from then on, for a slow card;",
            "\"store compress none\" ends that. A Stasis that can't read them refuses the store.",
        ],
        build: store,
    },
    Spec {
        word: "volume",
        parameters: &[
            optional("[list|create|copy|delete]", Kind::OneOf(VOLUME_WORDS)),
            optional("[name]", Kind::Volume),
            optional("[size|new]", Kind::Free),
        ],
        options: &[JSON],
        summary: "list volumes, the disks of guests, or change them",
        details: &[
            "\"volume create NAME SIZE\" makes one of zeros, such as 1G, which takes no room until it is written.",
            "\"volume copy NAME NEW\" makes one that shares all blocks, as of the last flush, until one of them is written.",
            "\"volume delete NAME\" is for good; checkpoints keep what they have of it. A guest's own is refused.",
            "With --json, each volume is one line with an object, in bytes and seconds since 1970.",
        ],
        build: volume,
    },
    Spec {
        word: "network",
        parameters: &[
            optional("[list|up|down]", Kind::OneOf(NETWORK_WORDS)),
            optional("[guest]", Kind::Guest),
        ],
        options: &[JSON],
        summary: "list guests' network cards, or set their links up or down",
        details: &[
            "\"sent\", \"received\" and \"lost\" count frames; lost is what came while the guest had no buffer or stood still.",
            "\"network down GUEST\" pulls the cables out of a guest's cards, \"network up GUEST\" puts them in again. A clone",
            "begins with its links down, as it has the addresses of its original.",
            "With --json, each card is one line with an object.",
        ],
        build: network,
    },
    Spec {
        word: "weight",
        parameters: &[optional("[guests]", Kind::Guests), optional("[weight]", Kind::Free)],
        options: &[JSON],
        summary: "list guests' weights, or change them",
        details: &[
            "Of two guests' vCPUs on a core that never wait, one with 300 gets three times the time of one with 100.",
            "\"weight GUESTS 300\" counts from now on, until the guests are removed, or the machine is switched off.",
            "With --json, each guest is one line with an object.",
        ],
        build: weight,
    },
    Spec {
        word: "windows",
        parameters: &[
            optional("[core]", Kind::Free),
            optional("[frame|none]", Kind::Free),
            optional("[guest:at:length,...]", Kind::Free),
        ],
        options: &[JSON],
        summary: "list guests' windows, or divide a core anew",
        details: &[
            "\"windows 1 10ms control:0ms:2ms,other:5ms:500us\" divides core 1 anew, as a configuration does, while all run:",
            "a window is its guest's alone, and a guest with a window runs in no other time. \"windows 1 none\" has weights",
            "alone count. \"missed\" are windows of which more than a tenth was over before the guest could run that wanted",
            "to, since the core was divided, and \"late\" are the microseconds of the last one.",
            "With --json, each window is one line with an object.",
        ],
        build: windows,
    },
    Spec {
        word: "attach",
        parameters: &[GUEST],
        options: &[TERMINAL],
        summary: "connect this terminal to a guest's",
        details: &[
            "What it has sent since it was last attached is shown first, up to 16 KiB. Ctrl-] detaches.",
            "With --terminal, to its second terminal, a virtio console, which a guest has by \"terminal = true\".",
        ],
        build: |arguments| {
            let terminal = arguments.has(TERMINAL);
            Ok(Command::Attach { guest: arguments.required(0), terminal })
        },
    },
    Spec {
        word: "send-break",
        parameters: &[GUEST],
        options: &[],
        summary: "send a guest's UART a break",
        details: &[
            "A Linux takes the next byte that is typed as a SysRq, if it comes within five seconds. While a guest is",
            "attached, Ctrl-] and then b does the same, and a break on this line goes to the guest.",
        ],
        build: |arguments| Ok(Command::SendBreak(arguments.required(0))),
    },
    Spec {
        word: "log",
        parameters: &[GUEST, optional("[lines]", Kind::Free)],
        options: &[],
        summary: "show what a guest has sent last",
        details: &[
            "The last 24 lines, or as many as told of the last 16 KiB, each behind a bar. attach still shows what it",
            "would have shown.",
        ],
        build: |arguments| {
            let lines = arguments.number(1, MAX_LOG_LINES)?.unwrap_or(LOG_LINES) as usize;
            Ok(Command::Log { guest: arguments.required(0), lines })
        },
    },
    Spec {
        word: "dmesg",
        parameters: &[optional("[lines]", Kind::Free)],
        options: &[],
        summary: "show Stasis's own log",
        details: &[
            "All that is kept of it, 16 KiB, or as many of the last lines as told, each behind a bar: what was said at",
            "the boot, and what has become of guests without a command.",
        ],
        build: |arguments| {
            let lines = arguments.number(0, MAX_LOG_LINES)?.unwrap_or(MAX_LOG_LINES) as usize;
            Ok(Command::Dmesg { lines })
        },
    },
    Spec {
        word: "gic",
        parameters: &[GUEST],
        options: &[],
        summary: "show a guest's interrupt controller",
        details: &[
            "Its records: all that a checkpoint holds, if the guest is paused. Those of a vCPU that runs may be behind.",
        ],
        build: |arguments| Ok(Command::Gic(arguments.required(0))),
    },
    Spec {
        word: CANCEL,
        parameters: &[],
        options: &[],
        summary: "give up the command that is under way",
        details: &[
            "For programs: it is typed while a checkpoint, a resume or top is under way, and is answered behind it.",
            "Nothing has changed by a command that was given up. A person types Ctrl-C.",
        ],
        build: |_| Ok(Command::Cancel),
    },
    Spec {
        word: "quit",
        parameters: &[],
        options: &[],
        summary: "switch the machine off",
        details: &["Guests that were not checkpointed are lost."],
        build: |_| Ok(Command::Quit),
    },
];
