//! Architectures, and the numbers that calls have on them.

use syscalls::x86_64::Sysno;

use super::Error;

/// An instruction set with its table of calls. Several can be in use on one machine, even by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    /// 32-bit pointers on x86-64; told from it only by a bit of the number.
    X32,
    X86,
    Aarch64,
    Arm,
}

/// Marks the numbers of x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls with a number of their own on x32, in its order from 512 on, where 64-bit programs have another
/// (arch/x86/entry/syscalls/syscall_64.tbl).
const X32_OWN: [Sysno; 36] = [
    Sysno::rt_sigaction,
    Sysno::rt_sigreturn,
    Sysno::ioctl,
    Sysno::readv,
    Sysno::writev,
    Sysno::recvfrom,
    Sysno::sendmsg,
    Sysno::recvmsg,
    Sysno::execve,
    Sysno::ptrace,
    Sysno::rt_sigpending,
    Sysno::rt_sigtimedwait,
    Sysno::rt_sigqueueinfo,
    Sysno::sigaltstack,
    Sysno::timer_create,
    Sysno::mq_notify,
    Sysno::kexec_load,
    Sysno::waitid,
    Sysno::set_robust_list,
    Sysno::get_robust_list,
    Sysno::vmsplice,
    Sysno::move_pages,
    Sysno::preadv,
    Sysno::pwritev,
    Sysno::rt_tgsigqueueinfo,
    Sysno::recvmmsg,
    Sysno::sendmmsg,
    Sysno::process_vm_readv,
    Sysno::process_vm_writev,
    Sysno::setsockopt,
    Sysno::getsockopt,
    Sysno::io_setup,
    Sysno::io_submit,
    Sysno::execveat,
    Sysno::preadv2,
    Sysno::pwritev2,
];

/// The number on x32 for each number on x86-64, where it is another.
static X32_FROM_X86_64: [u16; 400] = {
    let mut table = [0; 400];
    let (mut at, mut number) = (0, 512);
    while at < X32_OWN.len() {
        table[X32_OWN[at] as usize] = number;
        at += 1;
        number += 1;
    }
    table
};

/// Calls outside of the table of 32-bit ARM (arch/arm/include/uapi/asm/unistd.h).
const ARM_PRIVATE: [(&str, u32); 3] = [("breakpoint", 0x0f_0001), ("cacheflush", 0x0f_0002), ("set_tls", 0x0f_0005)];

impl Arch {
    /// The architecture of this program, and so of the machine.
    pub(super) const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    /// The architecture of a name in a spec; `None` for those that this machine can't run.
    pub(super) fn named(name: &str) -> Result<Option<Arch>, Error> {
        Ok(Some(match name {
            "SCMP_ARCH_NATIVE" => Arch::NATIVE,
            "SCMP_ARCH_X86_64" => Arch::X86_64,
            "SCMP_ARCH_X32" => Arch::X32,
            "SCMP_ARCH_X86" => Arch::X86,
            "SCMP_ARCH_AARCH64" => Arch::Aarch64,
            "SCMP_ARCH_ARM" => Arch::Arm,
            "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X"
            | "SCMP_ARCH_PARISC"
            | "SCMP_ARCH_PARISC64"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_M68K"
            | "SCMP_ARCH_SH"
            | "SCMP_ARCH_SHEB" => return Ok(None),
            other => return Err(Error::Invalid(format!("unknown architecture {other:?}"))),
        }))
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, as the kernel passes it to the filter.
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// The number of a call, if the architecture has it.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        match self {
            Arch::X86_64 => find(&X86_64, name),
            Arch::X86 => find(&X86, name),
            Arch::Aarch64 => find(&AARCH64, name),
            Arch::Arm => find(&ARM, name).or_else(|| {
                let own = ARM_PRIVATE.iter().find(|(known, _)| *known == name);
                own.map(|(_, number)| *number)
            }),
            Arch::X32 => find(&X86_64, name).map(|number| {
                let own = X32_FROM_X86_64.get(number as usize).copied().filter(|own| *own != 0);
                own.map_or(number, u32::from) | X32_BIT
            }),
        }
    }
}

fn find(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|position| table[position].1)
}

/// The table of an architecture in the order of names, made by the compiler: a container's start looks up a thousand names.
macro_rules! table {
    ($name:ident, $arch:ident) => {
        static $name: [(&str, u32); syscalls::$arch::Sysno::count()] = {
            use syscalls::$arch::Sysno;
            let mut table = [("", 0u32); Sysno::count()];
            let (mut filled, mut number) = (0, 0);
            #[expect(clippy::cast_possible_truncation, reason = "numbers of calls are small")]
            while filled < table.len() {
                if let Some(call) = Sysno::new(number) {
                    table[filled] = (call.name(), number as u32);
                    filled += 1;
                }
                number += 1;
            }
            sorted(table)
        };
    };
}

table!(X86_64, x86_64);
table!(X86, x86);
table!(AARCH64, aarch64);
table!(ARM, arm);

/// Shell's sort: short, and quick enough for the compiler.
const fn sorted<const N: usize>(mut table: [(&'static str, u32); N]) -> [(&'static str, u32); N] {
    let mut gap = N / 2;
    while gap > 0 {
        let mut next = gap;
        while next < N {
            let mut at = next;
            while at >= gap && is_before(table[at].0, table[at - gap].0) {
                (table[at], table[at - gap]) = (table[at - gap], table[at]);
                at -= gap;
            }
            next += 1;
        }
        gap /= 2;
    }
    table
}

const fn is_before(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return one[at] < other[at];
        }
        at += 1;
    }
    one.len() < other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(Arch::X86_64.number("read"), Some(0));
        assert_eq!(Arch::X86.number("read"), Some(3));
        assert_eq!(Arch::Aarch64.number("read"), Some(63));
        assert_eq!(Arch::Arm.number("read"), Some(3));
        assert_eq!(Arch::Arm.number("cacheflush"), Some(0x0f_0002));
        assert_eq!(Arch::X32.number("read"), Some(X32_BIT));
        assert_eq!(Arch::X32.number("ioctl"), Some(X32_BIT | 514));
        assert_eq!(Arch::X32.number("pwritev2"), Some(X32_BIT | 547));
        assert_eq!(Arch::X86_64.number("socketcall"), None);
        assert_eq!(Arch::X86.number("socketcall"), Some(102));
        assert_eq!(Arch::X86_64.number("no_such_call"), None);
    }

    #[test]
    fn tables_are_complete_and_sorted() {
        for (table, count) in [
            (&X86_64[..], syscalls::x86_64::Sysno::count()),
            (&X86[..], syscalls::x86::Sysno::count()),
            (&AARCH64[..], syscalls::aarch64::Sysno::count()),
            (&ARM[..], syscalls::arm::Sysno::count()),
        ] {
            assert_eq!(table.len(), count);
            assert!(table.is_sorted_by(|one, other| one.0 < other.0));
        }
    }

    #[test]
    fn names_of_architectures() {
        assert!(matches!(Arch::named("SCMP_ARCH_X32"), Ok(Some(Arch::X32))));
        assert!(matches!(Arch::named("SCMP_ARCH_MIPS"), Ok(None)));
        assert!(Arch::named("SCMP_ARCH_VAX").is_err());
    }
}
