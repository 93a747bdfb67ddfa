#!/bin/sh
# The generic timer of QEMU's raspi4b counts at 62.5 MHz, not at the 54 MHz of a Raspberry Pi 4, beside a system timer that keeps the board's 1 MHz.
#
# Expected: a model of a board has the board's clocks. The BCM2711's oscillator, from which its generic timer counts, has 54 MHz (BCM2711 ARM Peripherals,
# chapter 1; so the oscillator's `clock-frequency` in Linux's bcm2711.dtsi), and QEMU's CPU has a property `cntfrq`.
# Seen: CNTFRQ_EL0 is 62500000, the default of that property, which the board's model leaves alone, and so many ticks go by in a second of the system timer.
# `-global cortex-a72-arm-cpu.cntfrq=54000000` gives the machine the board's counter.
#
# Why it matters: a state that holds counter values and is moved between the model and the real board is off by a seventh in each interval; who tests such a
# move between QEMU's `virt` and `raspi4b` alone sees one frequency, and never the conversion.
#
# Needs qemu-system-aarch64 (seen with 10.0.2) and python3.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 - "$WORK/kernel8.img" <<'PYTHON'
import struct, sys

words = [
    0xd53be000,  # mrs x0, cntfrq_el0
    0xd2860085,  # mov x5, #0x3004, the system timer's CLO
    0xf2bfc005,  # movk x5, #0xfe00, lsl #16
    0xb94000a6,  # ldr w6, [x5]
    0xd53be021,  # mrs x1, cntpct_el0
    0xb94000a7,  # 1: ldr w7, [x5]
    0x4b0600e8,  # sub w8, w7, w6
    0x52986a09,  # mov w9, #50000
    0x6b09011f,  # cmp w8, w9
    0x54ffff83,  # b.lo 1b
    0xd53be022,  # mrs x2, cntpct_el0
    0xcb010042,  # sub x2, x2, x1
    0xd503205f,  # 2: wfe
    0x17ffffff,  # b 2b
]
open(sys.argv[1], "wb").write(struct.pack("<14I", *words))
PYTHON
{ sleep 10; echo "info registers"; echo quit; } | timeout 60 qemu-system-aarch64 -M raspi4b -kernel "$WORK/kernel8.img" \
    -display none -serial none -monitor stdio > "$WORK/said"
register() { tr -d '\r' < "$WORK/said" | sed -n "s/.*$1=\([0-9a-f]\{16\}\).*/\1/p" | head -1; }
FREQUENCY=$((0x$(register X00)))
TICKS=$((0x$(register X02)))
MICROSECONDS=$((0x$(register X08)))

echo "version:     $(qemu-system-aarch64 --version | head -1)"
echo "expectation: CNTFRQ_EL0 is 54000000, and 54 ticks go by in a microsecond of the system timer"
echo "behaviour:   both are those of 62.5 MHz"
echo "seen:        CNTFRQ_EL0 $FREQUENCY, $TICKS ticks in $MICROSECONDS us"
# The two clocks are read one behind the other.
[ "$FREQUENCY" = 62500000 ] && [ $((TICKS / MICROSECONDS)) -ge 60 ] && [ $((TICKS / MICROSECONDS)) -le 65 ] || { cat "$WORK/said"; echo "changed"; exit 1; }
