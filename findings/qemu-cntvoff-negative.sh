#!/bin/sh
# QEMU's virtual timer does not fire where CNTVOFF_EL2 is negative, that is, where a guest's time is ahead of the machine's: the deadline
# CNTV_CVAL_EL0 + CNTVOFF_EL2 overflows, and the overflow is taken for "never".
#
# Why it matters: a guest that was stored and is resumed on a machine that was just switched on has exactly this offset. Its counter is
# right, its interrupts do not come, and nothing is wrong in the registers. The architecture computes modulo 2^64 (DDI 0487, D12.2).
#
# Needs qemu-system-aarch64 on the PATH (seen with 10.0.2). Debian's assembler is unpacked into a temporary folder.
set -eu

PACKAGES="binutils-aarch64-linux-gnu=2.40-2 binutils-common=2.40-2 libbinutils=2.40-2"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
apt-get download -q $PACKAGES >apt.log 2>&1 || { cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
LD_LIBRARY_PATH=$(dirname "$(find "$WORK/root" -name 'libopcodes*.so' | head -n 1)")
export LD_LIBRARY_PATH
PATH=$WORK/root/usr/bin:$PATH

cat > timer.s <<'ASM'
    .global _start
_start:                             // at EL2: QEMU's virt with virtualization=on
    ldr     x21, =0x09000000        // UARTDR
    mrs     x24, cntpct_el0
    bl      try                     // CNTVOFF_EL2 = now: the guest's time begins here
    mov     x24, #-(1 << 32)
    bl      try                     // CNTVOFF_EL2 = -2^32: the guest's time is ahead of the machine's
    mov     w0, #'\n'
    str     w0, [x21]
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    smc     #0
    b       .
try:                                // a deadline in 1 ms, looked at after 20 ms
    msr     cntv_ctl_el0, xzr
    msr     cntvoff_el2, x24
    isb
    mrs     x1, cntpct_el0
    mrs     x2, cntfrq_el0
    sub     x3, x1, x24             // CNTVCT_EL0
    mov     x4, #1000
    udiv    x5, x2, x4
    add     x3, x3, x5
    msr     cntv_cval_el0, x3
    mov     x6, #3                  // ENABLE, IMASK
    msr     cntv_ctl_el0, x6
    isb
    mov     x4, #50
    udiv    x5, x2, x4
    add     x5, x1, x5
1:  isb
    mrs     x1, cntpct_el0
    cmp     x1, x5
    b.lo    1b
    mrs     x0, cntv_ctl_el0
    ubfx    x0, x0, #2, #1          // ISTATUS
    add     w0, w0, #'0'
    str     w0, [x21]
    ret
ASM
aarch64-linux-gnu-as -o timer.o timer.s
aarch64-linux-gnu-ld -Ttext=0x40080000 -o timer.elf timer.o
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -nic none \
    -display none -monitor none -serial stdio -kernel timer.elf | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 11: CNTV_CTL_EL0.ISTATUS is set 20 ms after a deadline of 1 ms was set, whatever the sign of CNTVOFF_EL2"
echo "behaviour:   it is set where the offset is positive, and is not where it is negative"
echo "seen:        $FOUND (ISTATUS with CNTVOFF_EL2 = CNTPCT_EL0; with -2^32)"
[ "$FOUND" = 10 ] || { echo "changed: it was 10"; exit 1; }
