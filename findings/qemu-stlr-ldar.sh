#!/bin/sh
# QEMU's TCG on x86 exchanges a store-release and a load-acquire behind it: two cores that each store
# by STLR to a place of their own, and then load the other's by LDAR, can both find the old value.
# The architecture forbids that: a LDAR is observed behind each STLR that stands before it.
#
# Why it matters: `store(SeqCst)` and `load(SeqCst)` of Rust and C++ are STLR and LDAR on AArch64,
# without a barrier. What relies on them so that one of two sides sees the other (a flag and an
# index of a virtqueue, a sleeper and its waker) can lose a wake-up on QEMU, and never on a CPU. A
# fence, DMB ISH, between the two helps.
#
# Source: target/arm/tcg/translate-a64.c of QEMU: the barrier of a STLR stands before it, that of a
# LDAR behind it, and there is none between. DDI 0487, B2.3, barrier-ordered-before.
#
# Needs an x86 host with two cores that nobody else uses, and qemu-system-aarch64 on the PATH (seen
# with 10.0.2). Debian's assembler is unpacked into a temporary folder.
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

cat > exchange.s <<'ASM'
    .equ    ROUNDS, 1000000
    .equ    PASSES, 30
    .macro  meet                    // both cores wait for each other: x24 counts how often
    add     x24, x24, #1
    stlr    x24, [x21]
1:  yield
    ldar    x0, [x22]
    cmp     x0, x24
    b.lo    1b
    .endm
    .macro  pass                    // x20 is the own place, x23 the other's, x26 a list of what was found
    str     xzr, [x20]
    meet
    mov     x1, #0
    ldr     x2, =ROUNDS
2:  add     x1, x1, #1
    stlr    x1, [x20]
    .if BARRIER
    dmb     ish
    .endif
    ldar    x3, [x23]
    str     x3, [x26, x1, lsl #3]
    cmp     x1, x2
    b.ne    2b
    meet
    .endm
    .globl  _start
_start:
    ldr     x0, =0xc4000003         // PSCI CPU_ON
    mov     x1, #1
    adr     x2, second
    mov     x3, #0
    hvc     #0
    ldr     x20, =0x40200000        // places and meeting points are 256 bytes apart
    ldr     x21, =0x40200100
    ldr     x22, =0x40200200
    ldr     x23, =0x40200300
    ldr     x26, =0x41000000        // lists of 8 MB
    ldr     x25, =0x42000000
    mov     x24, #0
    mov     x27, #0                 // pairs of rounds that both found an older value than the other's
    mov     x28, #PASSES
first:
    pass
    mov     x1, #0
    ldr     x2, =ROUNDS
3:  add     x1, x1, #1
    ldr     x3, [x26, x1, lsl #3]   // this core stored x1 and found x3, so not the next one
    add     x3, x3, #1
    cmp     x3, x2
    b.hi    4f
    ldr     x4, [x25, x3, lsl #3]   // the other core stored that, and found x4
    cmp     x4, x1
    cinc    x27, x27, lo
4:  cmp     x1, x2
    b.ne    3b
    subs    x28, x28, #1
    b.ne    first
    ldr     x21, =0x09000000        // UARTDR
    ldr     x1, =10000000
    mov     x6, #10
5:  udiv    x2, x27, x1
    msub    x27, x2, x1, x27
    add     w2, w2, #'0'
    str     w2, [x21]
    udiv    x1, x1, x6
    cbnz    x1, 5b
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    hvc     #0
    b       .
second:
    ldr     x20, =0x40200300
    ldr     x21, =0x40200200
    ldr     x22, =0x40200100
    ldr     x23, =0x40200000
    ldr     x26, =0x42000000
    mov     x24, #0
6:  pass
    b       6b
ASM
count() {
    aarch64-linux-gnu-as --defsym BARRIER="$1" -o exchange.o exchange.s
    aarch64-linux-gnu-ld -Ttext=0x40080000 -o exchange.elf exchange.o
    timeout 600 qemu-system-aarch64 -M virt -cpu cortex-a57 -smp 2 -accel tcg,thread=multi -nic none -display none -monitor none \
        -serial stdio -kernel exchange.elf | tr -d '\r\n'
}
FOUND=$(count 0)
FENCED=$(count 1)

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: of two stores and the loads behind them, one load finds the other core's store"
echo "behaviour:   sometimes neither does; with DMB ISH between store and load one always does"
echo "seen:        $FOUND times in 30000000, with DMB ISH $FENCED"
[ "$FOUND" -gt 0 ] && [ "$FENCED" -eq 0 ] || { echo "changed: it was some, and none"; exit 1; }
