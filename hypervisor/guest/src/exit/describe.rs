//! A syndrome in words, for reports that people read.

use core::fmt;

use super::{
    FaultKind, SystemAccess,
    access::Access,
    syndrome::{AbortIss, ESR, Esr, ISS_CALL, ISS_DATA_ABORT},
    wfx,
};

/// Returns an ESR, of any exception level, in words.
pub const fn describe(esr: u64) -> Description {
    Description(esr)
}

/// The result of [`describe`], to be formatted with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Description(u64);

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ESR::EC::Value as Class;

        let esr = Esr::new(self.0);
        let iss = esr.read(ESR::ISS);
        let Some(class) = esr.read_as_enum(ESR::EC) else {
            return write!(f, "unknown exception class {:#04x}, ISS {iss:#x}", esr.read(ESR::EC));
        };
        f.write_str(class_name(class))?;
        match class {
            Class::InstructionAbortLower
            | Class::InstructionAbortSame
            | Class::DataAbortLower
            | Class::DataAbortSame
            | Class::WatchpointLower
            | Class::WatchpointSame => write_abort(f, AbortIss::new(iss), class),
            Class::SystemRegister => {
                let access = SystemAccess::decode(iss);
                let verb = if access.is_read { "read" } else { "write" };
                write!(f, ": {verb} of {} with x{}", EncodingName(access.encoding), access.rt)
            }
            Class::WfiWfe => write!(f, ": {:?}", wfx(iss)),
            Class::Hvc64 | Class::Smc64 | Class::Svc64 | Class::Brk64 => {
                write!(f, " #{:#x}", ISS_CALL::Imm16.read(iss))
            }
            _ if iss == 0 => Ok(()),
            _ => write!(f, ", ISS {iss:#x}"),
        }
    }
}

fn write_abort(f: &mut fmt::Formatter<'_>, iss: AbortIss, class: ESR::EC::Value) -> fmt::Result {
    use ESR::EC::Value as Class;

    let status = iss.read(ISS_DATA_ABORT::FSC) as u8;
    let (kind, level) = FaultKind::decode(status);
    match kind {
        FaultKind::AddressSize => f.write_str(": address size fault")?,
        FaultKind::Translation => f.write_str(": translation fault")?,
        FaultKind::AccessFlag => f.write_str(": access flag fault")?,
        FaultKind::Permission => f.write_str(": permission fault")?,
        FaultKind::External => f.write_str(": external abort")?,
        FaultKind::ExternalOnWalk => f.write_str(": external abort on a table walk")?,
        FaultKind::Alignment => f.write_str(": alignment fault")?,
        FaultKind::Other(_) => write!(f, ": fault status {status:#04x}")?,
    }
    if let Some(level) = level {
        write!(f, ", level {level}")?;
    }
    if iss.is_set(ISS_DATA_ABORT::S1PTW) {
        f.write_str(", in the walk for stage 1")?;
    }
    if matches!(class, Class::InstructionAbortLower | Class::InstructionAbortSame) {
        return Ok(());
    }
    if iss.is_set(ISS_DATA_ABORT::CM) {
        return f.write_str(", cache maintenance");
    }
    f.write_str(if iss.is_set(ISS_DATA_ABORT::WNR) { ", write" } else { ", read" })?;
    // Only aborts from a lower level describe the instruction.
    if class == Class::DataAbortLower && iss.is_set(ISS_DATA_ABORT::ISV) {
        let access = Access::decode(iss);
        let file = if access.sixty_four { 'x' } else { 'w' };
        write!(f, " of {} bytes with {file}{}", access.width.bytes(), access.register)?;
    }
    Ok(())
}

/// A system register or instruction, shown by the generic name that assemblers take:
/// `s3_0_c4_c0_1`. The encoding is packed as in [`SystemAccess`](super::SystemAccess).
#[derive(Clone, Copy, Debug)]
pub struct EncodingName(pub u16);

impl fmt::Display for EncodingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(e) = *self;
        let (op0, op1, op2) = (e >> 14, e >> 11 & 7, e & 7);
        write!(f, "s{op0}_{op1}_c{}_c{}_{op2}", e >> 7 & 0xf, e >> 3 & 0xf)
    }
}

fn class_name(class: ESR::EC::Value) -> &'static str {
    use ESR::EC::Value as Class;

    match class {
        Class::Unknown => "undefined instruction",
        Class::WfiWfe => "trapped wait",
        Class::Cp15Mcr => "trapped MCR or MRC to CP15",
        Class::Cp15Mcrr => "trapped MCRR or MRRC to CP15",
        Class::Cp14Mcr => "trapped MCR or MRC to CP14",
        Class::Cp14Ldc => "trapped LDC or STC to CP14",
        Class::FpSimd => "trapped FP or SIMD instruction",
        Class::Cp10Vmrs => "trapped VMRS",
        Class::PointerAuthentication => "trapped pointer authentication",
        Class::Cp14Mrrc => "trapped MRRC to CP14",
        Class::IllegalExecutionState => "illegal execution state",
        Class::Svc32 => "SVC from AArch32",
        Class::Hvc32 => "HVC from AArch32",
        Class::Smc32 => "SMC from AArch32",
        Class::Svc64 => "SVC",
        Class::Hvc64 => "HVC",
        Class::Smc64 => "SMC",
        Class::SystemRegister => "trapped system register",
        Class::Sve => "trapped SVE instruction",
        Class::Eret => "trapped ERET",
        Class::Sme => "trapped SME instruction",
        Class::InstructionAbortLower => "instruction abort from a lower level",
        Class::InstructionAbortSame => "instruction abort",
        Class::PcAlignment => "misaligned PC",
        Class::DataAbortLower => "data abort from a lower level",
        Class::DataAbortSame => "data abort",
        Class::SpAlignment => "misaligned SP",
        Class::Fp32 | Class::Fp64 => "floating-point exception",
        Class::SError => "SError",
        Class::BreakpointLower | Class::BreakpointSame => "breakpoint",
        Class::StepLower | Class::StepSame => "software step",
        Class::WatchpointLower | Class::WatchpointSame => "watchpoint",
        Class::Bkpt32 => "BKPT",
        Class::Brk64 => "BRK",
    }
}
