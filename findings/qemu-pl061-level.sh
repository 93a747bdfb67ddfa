#!/bin/sh
# QEMU's PL061 keeps the interrupt of a level-sensitive line after the level has gone, until it is cleared in GPIOIC.
#
# By the manual (ARM DDI 0190B) GPIOIC clears the edge detection logic alone, and a level interrupts for as long as it is there.
# So a driver that quiets the source of a level-sensitive line is done. In QEMU it is interrupted once more.
#
# Why it matters: a model that is compared with QEMU's, bit by bit, is wrong where it agrees.
#
# Needs qemu-system-aarch64 on the PATH. The registers are accessed by QEMU's own test protocol; no guest runs.
set -eu

ACCESSES='writel 0x903040c 0xff
writel 0x9030404 0x08
readl 0x9030414
writel 0x903040c 0xf7
readl 0x9030414
writel 0x903040c 0xff
readl 0x9030414
writel 0x903041c 0x08
readl 0x9030414'
# GPIOIEV: the high level; GPIOIS: line 3 is level-sensitive, and low, as nobody presses virt's power key; GPIORIS.
# GPIOIEV: the low level; GPIORIS. GPIOIEV: the high level again; GPIORIS. GPIOIC; GPIORIS.

FOUND=$( (echo "$ACCESSES"; sleep 2) | timeout 60 qemu-system-aarch64 -M virt -S -nic none -display none -monitor none -serial none \
    -qtest stdio -qtest-log none | sed -n 's/^OK 0x0*\([0-9a-f]\)$/\1/p' | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 0800: GPIORIS has bit 3 while line 3 has the level that GPIOIEV asks for, and not after"
echo "behaviour:   GPIORIS keeps bit 3 until it is cleared in GPIOIC"
echo "seen:        $FOUND (GPIORIS: level not reached, reached, not reached any more, after GPIOIC)"
[ "$FOUND" = 0880 ] || { echo "changed: it was 0880"; exit 1; }
