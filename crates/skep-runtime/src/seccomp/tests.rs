use super::*;

mod docker;
mod interpreter;
mod kernel;

use interpreter::{Call, run};

fn filter(default_action: &str, syscalls: Vec<SeccompRule>) -> Seccomp {
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"].map(str::to_owned).to_vec();
    Seccomp { default_action: default_action.to_owned(), architectures, syscalls, ..Seccomp::default() }
}

fn rule(names: &[&str], action: &str, args: &[(u32, &str, u64, u64)]) -> SeccompRule {
    let args = args.iter().map(|(index, op, value, two)| SeccompArg {
        index: *index,
        op: format!("SCMP_CMP_{op}"),
        value: *value,
        value_two: Some(*two),
    });
    SeccompRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: format!("SCMP_ACT_{action}"),
        errno_ret: None,
        args: args.collect(),
    }
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

#[test]
fn every_architecture_has_its_own_numbers() {
    let program =
        compile(&filter("SCMP_ACT_ERRNO", vec![rule(&["read", "ioctl", "socketcall", "mseal"], "ALLOW", &[])]))
            .unwrap();
    let result = |arch: Arch, name| run(&program.instructions, Call::new(arch, arch.number(name).unwrap(), [0; 6]));
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        assert_eq!(result(arch, "read"), ALLOW, "{arch:?}");
        assert_eq!(result(arch, "ioctl"), ALLOW, "{arch:?}");
        assert_eq!(result(arch, "write"), EPERM, "{arch:?}");
    }
    assert_eq!(result(Arch::X86, "socketcall"), ALLOW);
    // Number 102 is getuid on x86-64 and socketcall on i386.
    assert_eq!(result(Arch::X86_64, "getuid"), EPERM);
    // The 64-bit number of ioctl with the x32 bit is no call of x32.
    assert_eq!(run(&program.instructions, Call::new(Arch::X86_64, X32_BIT | 16, [0; 6])), EPERM);
    assert_eq!(run(&program.instructions, Call { audit: 0xdead, number: 0, args: [0; 6] }), 0x8000_0000);
}

#[test]
fn architectures_that_are_not_named_end_the_process() {
    let mut seccomp = filter("SCMP_ACT_ALLOW", Vec::new());
    seccomp.architectures = vec!["SCMP_ARCH_MIPS".to_owned()];
    let program = compile(&seccomp).unwrap();
    let result = |audit, number| run(&program.instructions, Call { audit, number, args: [0; 6] });
    assert_eq!(result(Arch::X86_64.audit(), 0), ALLOW);
    assert_eq!(result(Arch::X86_64.audit(), X32_BIT), 0x8000_0000);
    assert_eq!(result(Arch::X86.audit(), 0), 0x8000_0000);
}

#[test]
fn new_calls_are_not_there_yet() {
    let program = |default| compile(&filter(default, vec![rule(&["openat2"], "ALLOW", &[])])).unwrap();
    let result = |default, number| run(&program(default).instructions, Call::new(Arch::X86_64, number, [0; 6]));
    assert_eq!(result("SCMP_ACT_ERRNO", 436), EPERM);
    assert_eq!(result("SCMP_ACT_ERRNO", 437), ALLOW);
    assert_eq!(result("SCMP_ACT_ERRNO", 438), ENOSYS);
    assert_eq!(result("SCMP_ACT_KILL", 9999), ENOSYS);
    assert_eq!(result("SCMP_ACT_LOG", 9999), 0x7ffc_0000);
}

#[test]
fn comparisons() {
    const BIG: u64 = 0x1_0000_0005;
    let values =
        [0, 4, 5, 6, u32::MAX.into(), 0x1_0000_0000, 0x1_0000_0004, BIG, 0x1_0000_0006, 0x2_0000_0005, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let tests: [(&str, Holds); 6] = [
        ("EQ", |argument, value| argument == value),
        ("NE", |argument, value| argument != value),
        ("LT", |argument, value| argument < value),
        ("LE", |argument, value| argument <= value),
        ("GT", |argument, value| argument > value),
        ("GE", |argument, value| argument >= value),
    ];
    for (op, holds) in tests {
        for index in [0, 5] {
            for value in values {
                let program =
                    compile(&filter("SCMP_ACT_ERRNO", vec![rule(&["read"], "ALLOW", &[(index, op, value, 0)])]))
                        .unwrap();
                for argument in values {
                    let mut args = [7; 6];
                    args[index as usize] = argument;
                    let allowed = run(&program.instructions, Call::new(Arch::X86_64, 0, args)) == ALLOW;
                    assert_eq!(allowed, holds(argument, value), "{argument:#x} {op} {value:#x}");
                }
            }
        }
    }
}

#[test]
fn masks() {
    for (mask, value) in
        [(0xffff_ffff, 38), (0x7e02_0000, 0), (0xff_0000_0000, 0x5_0000_0000), (u64::MAX, u64::MAX), (0, 0)]
    {
        let program =
            compile(&filter("SCMP_ACT_ERRNO", vec![rule(&["read"], "ALLOW", &[(1, "MASKED_EQ", mask, value)])]))
                .unwrap();
        for argument in [0, 38, 0x1_0000_0026, 0x2_0000, 0x5_0000_0000, 0x5_1234_5678, u64::MAX] {
            let allowed = run(&program.instructions, Call::new(Arch::X86_64, 0, [9, argument, 9, 9, 9, 9])) == ALLOW;
            assert_eq!(allowed, argument & mask == value, "{argument:#x} & {mask:#x} == {value:#x}");
        }
    }
}

#[test]
fn conditions_of_one_rule() {
    // On different arguments all must hold; on the same argument one is enough.
    let all = compile(&filter("SCMP_ACT_ERRNO", vec![rule(&["read"], "ALLOW", &[(0, "EQ", 1, 0), (1, "EQ", 2, 0)])]))
        .unwrap();
    let any = compile(&filter("SCMP_ACT_ERRNO", vec![rule(&["read"], "ALLOW", &[(0, "EQ", 1, 0), (0, "EQ", 2, 0)])]))
        .unwrap();
    let allowed = |program: &Program, one, two| {
        run(&program.instructions, Call::new(Arch::X86_64, 0, [one, two, 0, 0, 0, 0])) == ALLOW
    };
    assert!(allowed(&all, 1, 2) && !allowed(&all, 1, 1) && !allowed(&all, 2, 2));
    assert!(allowed(&any, 1, 0) && allowed(&any, 2, 0) && !allowed(&any, 3, 0));
}

#[test]
fn rules_with_conditions_come_first() {
    let rules = vec![
        rule(&["read"], "ALLOW", &[]),
        rule(&["read"], "KILL_PROCESS", &[(0, "EQ", 7, 0)]),
        rule(&["read"], "LOG", &[]),
        rule(&["read"], "TRAP", &[(0, "GE", 7, 0)]),
    ];
    let program = compile(&filter("SCMP_ACT_ERRNO", rules)).unwrap();
    let result = |argument| run(&program.instructions, Call::new(Arch::X86_64, 0, [argument, 0, 0, 0, 0, 0]));
    assert_eq!((result(7), result(8), result(6)), (0x8000_0000, 0x0003_0000, ALLOW));
}

/// More code than a comparison can jump over.
#[test]
fn long_jumps() {
    let conditions: Vec<SeccompRule> =
        (0..100).map(|value| rule(&["read", "openat2"], "ALLOW", &[(0, "EQ", value, 0)])).collect();
    let program = compile(&filter("SCMP_ACT_ERRNO", conditions)).unwrap();
    assert!(program.instructions.len() > 1000);
    let result =
        |number, argument| run(&program.instructions, Call::new(Arch::X86_64, number, [argument, 0, 0, 0, 0, 0]));
    for number in [0, 437] {
        assert_eq!((result(number, 0), result(number, 99), result(number, 100)), (ALLOW, ALLOW, EPERM));
    }
    assert_eq!((result(1, 0), result(438, 0)), (EPERM, ENOSYS));
    let too_many = (0..2000).map(|value| rule(&["read"], "ALLOW", &[(0, "EQ", value, 0)])).collect();
    assert!(compile(&filter("SCMP_ACT_ERRNO", too_many)).is_err());
}

#[test]
fn flags_of_specs() {
    let flags = |names: &[&str], action| {
        let mut seccomp = filter("SCMP_ACT_ALLOW", vec![rule(&["mkdir"], action, &[])]);
        seccomp.flags = names.iter().map(|name| (*name).to_owned()).collect();
        compile(&seccomp).map(|program| program.flags).map_err(|error| error.to_string())
    };
    assert_eq!(flags(&[], "ERRNO"), Ok(Flags::SPEC_ALLOW));
    assert_eq!(flags(&["SECCOMP_FILTER_FLAG_LOG"], "ERRNO"), Ok(Flags::LOG));
    assert_eq!(flags(&["SECCOMP_FILTER_FLAG_TSYNC"], "ERRNO"), Ok(Flags::default()));
    assert_eq!(
        flags(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "NOTIFY"),
        Ok(Flags::WAIT_KILLABLE_RECV.with(Flags::NEW_LISTENER))
    );
    assert!(flags(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "ERRNO").is_err());
    assert!(flags(&["SECCOMP_FILTER_FLAG_NONSENSE"], "ERRNO").is_err());
}

#[test]
fn nonsense_is_refused() {
    let refused = |seccomp: Seccomp| compile(&seccomp).is_err();
    assert!(refused(filter("SCMP_ACT_NOTIFY", Vec::new())));
    assert!(refused(filter("", Vec::new())));
    assert!(refused(filter("SCMP_ACT_ALLOW", vec![rule(&["write"], "NOTIFY", &[])])));
    assert!(refused(filter("SCMP_ACT_ALLOW", vec![rule(&["read"], "ERRNO", &[(6, "EQ", 0, 0)])])));
    assert!(refused(filter("SCMP_ACT_ALLOW", vec![rule(&["read"], "ERRNO", &[(0, "ALMOST", 0, 0)])])));
    assert!(!refused(filter("SCMP_ACT_ALLOW", vec![rule(&["no_such_call"], "ERRNO", &[])])));
}
