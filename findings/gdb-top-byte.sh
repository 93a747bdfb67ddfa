#!/bin/sh
# gdb leaves out the top byte of each AArch64 address at which it reads memory, also on a target without an operating system (it puts copies of bit 55 there): for a
# pointer 0xab00_0000_4000_0100, at which the CPU takes a fault, it shows what is at 0x4000_0100. As the value of a register the pointer is shown as it is.
#
# Why it matters: a pointer whose top byte was overwritten is what one looks for after such a fault, and gdb shows the right data behind it. So it does with
# any stub, such as QEMU's or a probe's, and breakpoints and the writing of memory lose the byte, too. `set osabi none` makes gdb use the whole address.
#
# Source: a gdb for several architectures takes what it knows nothing of for GNU/Linux (`show osabi`), where user space has Top Byte Ignore
# (gdb/aarch64-linux-tdep.c); the Arm architecture (DDI 0487): the byte is an address's unless TCR_ELx.TBI says that it is ignored.
#
# Needs apt-get and dpkg of a Debian 12 on amd64, and qemu-system-aarch64 on the PATH (seen with 10.0.2). gdb comes with all that it needs into a temporary folder.
set -eu

PACKAGE="gdb-multiarch=13.1-3"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir -p cache/archives/partial
: > status # nothing is installed: the libraries come, too
apt-get -q -y -o Dir::State::status="$WORK/status" -o Dir::Cache="$WORK/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User= \
    --download-only install "$PACKAGE" > apt.log 2>&1 || { cat apt.log; exit 1; }
rm cache/archives/libc6_*.deb # the machine's own one goes with its loader
for package in cache/archives/*.deb; do dpkg -x "$package" root; done

# The load is written to RAM as a number: ldr x1, [x0]. The CPU is at EL1, with its MMU off and its vectors at 0.
cat > look.gdb <<'GDB'
set pagination off
set confirm off
target remote | exec env -u LD_LIBRARY_PATH -u PYTHONHOME qemu-system-aarch64 -M virt -cpu cortex-a72 -S -nic none -display none -monitor none -serial none -gdb stdio
set {unsigned int}0x40000000 = 0xf9400001
set {unsigned long}0x40000100 = 0x1122334455667788
set $x0 = 0xab00000040000100
set $pc = 0x40000000
stepi
printf "pc=%lx far=%lx x1=%lx\n", $pc, $FAR_EL1, $x1
printf "auto=%lx\n", *(unsigned long *)$x0
set osabi none
printf "none=%lx\n", *(unsigned long *)$x0
GDB
LD_LIBRARY_PATH=$WORK/root/usr/lib/x86_64-linux-gnu:$WORK/root/lib/x86_64-linux-gnu PYTHONHOME=$WORK/root/usr \
    timeout 120 root/usr/bin/gdb-multiarch -nx -batch -x look.gdb > gdb.log 2>&1 || true # the last command fails, as it should
FOUND=$(sed -n 's/^\(pc=.*\|auto=.*\)$/\1/p; s/.*\(Cannot access memory at address 0x[0-9a-f]*\).*/\1/p' gdb.log | tr '\n' ' ')

echo "version:     gdb 13.1 (Debian 13.1-3), $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: gdb can't read where the CPU takes a fault: Cannot access memory at address 0xab00000040000100, with any setting"
echo "behaviour:   it shows the data at that address without the top byte, until it is told that there is no operating system"
echo "seen:        $FOUND(after the load: PC is the vector at 0x200, FAR_EL1 the pointer, X1 as before; gdb's view of the pointer, before and after \`set osabi none\`)"
WANTED="pc=200 far=ab00000040000100 x1=0 auto=1122334455667788 Cannot access memory at address 0xab00000040000100 "
[ "$FOUND" = "$WANTED" ] || { cat gdb.log; echo "changed: it was \"$WANTED\""; exit 1; }
