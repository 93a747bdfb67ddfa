#!/bin/sh
# QEMU's raspi4b has no random number generator, and takes its node out of the device tree that it is given.
#
# The firmware's device tree of a Raspberry Pi 4 has a node `rng@7e104000`, compatible with brcm,bcm2711-rng200. QEMU removes it without a word
# (hw/arm/raspi4b.c, raspi4_modify_dtb), as it does those of PCIe, the thermal sensor and Ethernet.
#
# Why it matters: a driver that is found by the device tree is never tried there, and a test on QEMU that passes says nothing of it.
#
# Needs qemu-system-aarch64 (seen with 10.0.2), and as its argument the device tree of a Raspberry Pi 4 (bcm2711-rpi-4-b.dtb).
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
qemu-system-aarch64 -M "raspi4b,dumpdtb=$WORK/passed.dtb" -dtb "$1" -display none > /dev/null 2>&1
count() { grep -a -o 'brcm,bcm2711-rng200' "$1" | wc -l; }
echo "in the device tree that QEMU is given: $(count "$1") generator; in what the machine finds: $(count "$WORK/passed.dtb")"
