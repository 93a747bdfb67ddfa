#!/bin/sh
# Under `-icount`, a core of QEMU's that waits for another one's store in a loop with ISB counts tens of millions of instructions, and in a loop with YIELD a dozen:
# the cores run one at a time, and a core's turn ends early for YIELD, WFE and WFI alone.
#
# Why it matters: who counts instructions to compare builds or hypervisors measures in all that two cores do together how QEMU shares out its turns. ISB is what
# Rust's `core::hint::spin_loop` is on AArch64.
#
# Source: target/arm/tcg/translate-a64.c of QEMU, where YIELD and WFE end the turn, and accel/tcg/tcg-accel-ops-rr.c, which gives it.
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

cat > spin.s <<'ASM'
    .global _start
_start:                             // at EL1, no MMU; CNTVCT_EL0 counts instructions
    ldr     x21, =0x09000000        // UARTDR
    ldr     x20, =0x40200000        // the two words: asked, answered
    ldr     x0, =0xc4000003         // PSCI CPU_ON
    mov     x1, #1
    adr     x2, second
    mov     x3, #0
    hvc     #0
    mov     w4, #1
    bl      until_answered          // the other core is up
    mov     w4, #2
    mrs     x5, cntvct_el0
    str     w4, [x20]
1:  isb
    ldr     w0, [x20, #4]
    cmp     w0, w4
    b.ne    1b
    bl      print
    mov     w4, #3
    mrs     x5, cntvct_el0
    bl      until_answered
    bl      print
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    hvc     #0
    b       .
until_answered:                     // asks for w4 and yields
    str     w4, [x20]
1:  yield
    ldr     w0, [x20, #4]
    cmp     w0, w4
    b.ne    1b
    ret
second:                             // answers what is asked
    ldr     w1, =0x40200000
1:  yield
    ldr     w0, [x1]
    str     w0, [x1, #4]
    b       1b
print:                              // CNTVCT_EL0 - x5, a blank
    mrs     x0, cntvct_el0
    sub     x0, x0, x5
    ldr     x1, =1000000000
    mov     x6, #10
1:  udiv    x2, x0, x1
    msub    x0, x2, x1, x0
    add     w2, w2, #'0'
    str     w2, [x21]
    udiv    x1, x1, x6
    cbnz    x1, 1b
    mov     w2, #' '
    str     w2, [x21]
    ret
ASM
aarch64-linux-gnu-as -o spin.o spin.s
aarch64-linux-gnu-ld -Ttext=0x40080000 -o spin.elf spin.o
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,gic-version=2 -cpu cortex-a57,cntfrq=1000000000 -smp 2 -icount shift=0,sleep=off -nic none \
    -display none -monitor none -serial stdio -kernel spin.elf | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: an answer takes about as long whichever hint the loop that waits for it has"
echo "behaviour:   with ISB more than a million instructions, with YIELD less than a hundred"
echo "seen:        $FOUND(instructions with ISB; with YIELD)"
set -- $FOUND
expr "$1" \> 1000000 "&" "$2" \< 100 > /dev/null || { echo "changed: it was more than 1000000, and less than 100"; exit 1; }
