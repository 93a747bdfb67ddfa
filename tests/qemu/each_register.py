#!/usr/bin/env python3
"""Deletes each register from the world switch, one at a time, and sees whether a test fails.

    tests/qemu/each_register.py [--folder FOLDER] [NAME ...]

It works in a clone of what is committed, in a temporary folder (TMPDIR) that must have room for 2 GB; a FOLDER that is named is kept, and
the next run goes on with what is built there. All that a deletion changes is in `arch`: so after the first build, which takes minutes, the
image is built in seconds for each, and the test has failed within seconds, too. Seventy of them are no part of `cargo xtask test`.
`registers::each_is_its_vcpus_own_over_switches_checkpoint_and_resume` must fail without the register, but for those that the test
itself knows to be the same on both vCPUs. What the test said stands beside the register's name. It ends with status 1 if a deletion was
seen by no test, or can't be made.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST = "registers::each_is_its_vcpus_own_over_switches_checkpoint_and_resume"
TABLES = "hypervisor/state/src/vcpu.rs"
ASSEMBLY = {"entry": "hypervisor/arch/src/vectors.rs", "fp": "hypervisor/arch/src/fp.rs"}


def homes():
    """Yields each register of the tables with its home."""
    text = (ROOT / TABLES).read_text()
    for match in re.finditer(r"^ {8,16}(\w+): .*, home (\w+)(?:\(.*\))?;$", text, re.M):
        yield match.groups()


# How loading a vCPU writes the registers of EL2's own.
CPU = "hypervisor/arch/src/cpu.rs"
EL2 = {
    "midr_el1": (CPU, r'^ +msr!\("vpidr_el2", midr\);$', ""),
    "mpidr_el1": (CPU, r'^ +msr!\("vmpidr_el2", mpidr\);$', ""),
    "serror_pending": (CPU, r"if serror_pending \{ HCR_VSE \} else \{ 0 \}", "0"),
}
# What both vCPUs of the test have the same of.
SAME = {"midr_el1", "serror_pending"}


def untold():
    """Returns the registers that the test knows not to see."""
    text = (ROOT / "tests/qemu/tests/qemu/registers.rs").read_text()
    on_qemu = re.findall(r'^const UNTOLD_ON_QEMU: &str = "(\w+)"', text, re.M)
    return set(re.findall(r'^    \("(\w+)", "', text, re.M) + on_qemu) | SAME


def without_line(file, pattern):
    """Returns a change that deletes all lines of a file that match."""
    def change(clone):
        lines = (clone / file).read_text().splitlines(True)
        rest = [line for line in lines if not re.search(pattern, line)]
        assert len(rest) < len(lines), f"{file} has no line with {pattern}"
        (clone / file).write_text("".join(rest))
    return change


def replaced(file, pattern, by):
    """Returns a change that replaces what matches in a file."""
    def change(clone):
        text = (clone / file).read_text()
        changed, count = re.subn(pattern, by, text, flags=re.M)
        assert count, f"{file} has nothing like {pattern}"
        (clone / file).write_text(changed)
    return change


def with_rules(file, rules):
    """Returns a change that puts rules in front of those of a file's macros, by the macros' names: the first rule that fits wins."""
    def change(clone):
        text = (clone / file).read_text()
        for name, rule in rules.items():
            head = f"\nmacro_rules! {name} {{\n"
            assert head in text, f"{file} has no macro {name}"
            text = text.replace(head, f"{head}    {rule}\n", 1)
        (clone / file).write_text(text)
    return change


def both(*changes):
    """Returns a change that makes several."""
    def change(clone):
        for one in changes:
            one(clone)
    return change


SWITCH = "hypervisor/arch/src/world/switch.rs"
DEBUG = "hypervisor/arch/src/debug.rs"
# The debug registers that are saved and loaded in pairs: a register's partner.
PAIRS = {"dbgbvr": "dbgbcr", "dbgbcr": "dbgbvr", "dbgwvr": "dbgwcr", "dbgwcr": "dbgwvr"}


def partner_alone(name, moved):
    """Returns the rule of a pair of debug registers by which only the partner of `name` is moved."""
    pair = " ".join(sorted({name, PAIRS[name]}, reverse=True))
    one = f"macro_rules! one {{ ($n:literal, $index:literal) => {{ {moved} }}; }}"
    return f"(@ each {pair}, $r:ident, $count:ident) => {{ {one} each_pair!($count, one); }};"


def lent(name):
    """Returns a change by which a debug register is neither saved nor loaded."""
    if other := PAIRS.get(name):
        return with_rules(DEBUG, {
            "save": partner_alone(name, f'$r.{other}[$n] = mrs!("{other}", $index, "_el1");'),
            "load": partner_alone(name, f'msr!("{other}", $index, "_el1"; $r.{other}[$n]);'),
        })
    rule = f"(lent {name}, $r:ident, $b:ident, $w:ident) => {{}};"
    rules = with_rules(DEBUG, {"save": rule, "load": rule})
    if name == "mdscr_el1":
        return both(rules, without_line(DEBUG, r'^ +msr!\("mdscr_el1", \*registers\.mdscr_el1\);$'))
    return rules


def deletions():
    """Yields a name, and how to have the switch leave that register out."""
    for name, home in homes():
        if home in ("switch", "regime"):
            rule = f"({home} {name}, $registers:ident) => {{}};"
            yield name, with_rules(SWITCH, {macro: rule for macro in ("save", "load", "load_regime")})
        elif home == "el2":
            yield name, replaced(*EL2[name])
        elif home == "timer":
            yield name, without_line("hypervisor/arch/src/timer.rs", rf"registers\.{name}\b")
        elif home == "lent":
            yield name, lent(name)
        elif home in ("entry", "fp"):
            for line in assembly(home, name):
                yield f"{name}: {' '.join(line.split())}", without_line(ASSEMBLY[home], re.escape(line) + "$")


def assembly(home, name):
    """Returns the lines that load a register: for an array, those of its pairs."""
    text = (ROOT / ASSEMBLY[home]).read_text()
    patterns = {
        "x": r"^    ld[pr] +x\d+.*\[x0, #\{x\}.*$",
        "pc": r"^    msr +elr_el2, x2$",
        "pstate": r"^    msr +spsr_el2, x3$",
        "v": r"^    \\instruction +q.*$",
        "fpsr": r"^    msr +fpsr, x1$",
        "fpcr": r"^    msr +fpcr, x2$",
    }
    return re.findall(patterns[name], text, re.M)


# Builds that take little time and little room: nobody debugs them.
BUILD = {
    "STASIS_QUICK": "1",
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_PROFILE_DEV_INCREMENTAL": "false",
    "CARGO_PROFILE_QUICK_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
}


class Clone:
    """A clone of the checkout with a target of its own, and the program of the tests that boot QEMU, built before anything is deleted."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder).resolve() / "stasis"
        if not self.root.exists():
            subprocess.run(["git", "clone", "--quiet", ROOT, self.root], check=True)
        subprocess.run(["git", "fetch", "--quiet", ROOT, "HEAD"], cwd=self.root, check=True)
        subprocess.run(["git", "checkout", "--quiet", "--force", "FETCH_HEAD"], cwd=self.root, check=True)
        self.environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"} | BUILD
        build = ["cargo", "test", "--package", "stasis-qemu-tests", "--no-run", "--message-format=json"]
        made = subprocess.run(build, cwd=self.root, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        messages = [json.loads(line) for line in made.stdout.splitlines()]
        [self.tests] = [message["executable"] for message in messages
                        if message.get("executable") and message["target"]["name"] == "qemu"]

    def complaint(self):
        """Builds the image and the guests as the clone is, and runs the test. Returns what the test says, or None if it passes."""
        test = [self.tests, "--exact", TEST]
        result = subprocess.run(test, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=3600)
        if f"{TEST} " not in result.stdout or "could not be built" in result.stdout:
            sys.exit(f"the test did not run:\n{result.stdout}\n{result.stderr}")
        if result.returncode == 0:
            return None
        return result.stdout.split(f"---- {TEST} ----\n", 1)[-1].split("\n", 1)[0]

    def restore(self):
        """Makes the sources what they were."""
        subprocess.run(["git", "checkout", "--quiet", "."], cwd=self.root, check=True)


def try_each(folder, wanted):
    """Deletes each register in a clone in this folder, and says of each what the test says. Returns the process's status."""
    clone = Clone(folder)
    if complaint := clone.complaint():
        sys.exit(f"the test fails with nothing deleted: {complaint}")
    unseen, seen = [], 0
    for name, delete in deletions():
        if wanted and not any(name.startswith(word) for word in wanted):
            continue
        delete(clone.root)
        complaint, known = clone.complaint(), name in untold()
        clone.restore()
        outcome = f"seen: {complaint}" if complaint else "known not to be seen" if known else "NOT SEEN"
        print(f"{name}: {outcome}", flush=True)
        seen += complaint is not None
        unseen += [] if complaint or known else [name]
    print(f"{seen} deletions seen, {len(unseen)} not: {', '.join(unseen)}")
    return bool(unseen)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the register's name begins, as the tables have it")
    parser.add_argument("--folder", help="where the clone is, and stays")
    arguments = parser.parse_args()
    if arguments.folder:
        sys.exit(try_each(arguments.folder, arguments.names))
    with tempfile.TemporaryDirectory() as folder:
        status = try_each(folder, arguments.names)
    sys.exit(status)


if __name__ == "__main__":
    main()
