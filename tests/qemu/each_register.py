#!/usr/bin/env python3
"""Deletes each register from the world switch, one at a time, and sees whether a test fails.

    tests/qemu/each_register.py [NAME ...]

It works in a clone of the checkout with a copy of its target, in a temporary folder (TMPDIR) that must have room for both, and takes a minute
for each register: so it is no part of `cargo xtask test`.
`registers::each_is_its_vcpus_own_over_switches_checkpoint_and_resume` must fail without the register, but for those that the test
itself knows to be the same on both vCPUs. It ends with status 1 if a deletion was seen by no test, or can't be made.
"""

import pathlib
import re
import shutil
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


def deletions():
    """Yields a name, and how to have the switch leave that register out."""
    for name, home in homes():
        if home in ("switch", "regime"):
            yield name, replaced(TABLES, rf"^( +{name}: .*, home ){home};", r'\1kept("deleted");')
        elif home == "el2":
            yield name, replaced(*EL2[name])
        elif home == "timer":
            yield name, without_line("hypervisor/arch/src/timer.rs", rf"registers\.{name}\b")
        elif home == "lent":
            # The first rule of each of the two macros that names the register wins.
            rule = f"macro_rules! \\1 {{\n    (lent {name}, $r:ident, $b:ident, $w:ident) => {{}};"
            yield name, replaced("hypervisor/arch/src/debug.rs", r"macro_rules! (save|load) \{", rule)
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


def fails(clone):
    """Returns whether the test fails there."""
    test = ["cargo", "xtask", "test", TEST]
    result = subprocess.run(test, cwd=clone, capture_output=True, text=True, timeout=3600)
    if f"{TEST} " not in result.stdout:
        sys.exit(f"the test did not run:\n{result.stdout}\n{result.stderr}")
    return result.returncode != 0


def main():
    wanted = sys.argv[1:]
    unseen, seen = [], 0
    with tempfile.TemporaryDirectory() as folder:
        clone = pathlib.Path(folder) / "stasis"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        if (ROOT / "target").is_dir():
            shutil.copytree(ROOT / "target", clone / "target", symlinks=True)
        if fails(clone):
            sys.exit("the test fails with nothing deleted")
        for name, delete in deletions():
            if wanted and not any(name.startswith(word) for word in wanted):
                continue
            delete(clone)
            failed, known = fails(clone), name in untold()
            subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
            print(f"{name}: {'seen' if failed else 'known not to be seen' if known else 'NOT SEEN'}", flush=True)
            seen += failed
            unseen += [] if failed or known else [name]
    print(f"{seen} deletions seen, {len(unseen)} not: {', '.join(unseen)}")
    sys.exit(bool(unseen))


if __name__ == "__main__":
    main()
