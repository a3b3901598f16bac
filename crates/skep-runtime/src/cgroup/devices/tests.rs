use super::*;

fn rule(text: &str) -> Rule {
    let mut fields = text.split(' ');
    let allow = fields.next() == Some("+");
    let kind = fields.next().map(str::to_owned);
    let (major, minor) = fields.next().unwrap().split_once(':').unwrap();
    let access = fields.next().map(str::to_owned);
    Rule::parse(&DeviceRule { allow, kind, major: major.parse().ok(), minor: minor.parse().ok(), access }).unwrap()
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| rule(text)).collect()
}

/// What the module's text says, for one kind of access.
fn decided(rules: &[Rule], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
    let device = Rule { allow: true, kind: Some(kind), major: Some(major), minor: Some(minor), access };
    rules.iter().rev().find(|rule| rule.covers(&device) && rule.access & access != 0).is_some_and(|rule| rule.allow)
}

/// Runs a program as the kernel would.
fn run(code: &[Instruction], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
    let kind = if kind == DeviceKind::Block { 1 } else { 2 };
    let context = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0u64; 10];
    let mut at = 0;
    loop {
        let instruction = code[at];
        at += 1;
        let to = usize::from(instruction.registers & 15);
        let from = usize::from(instruction.registers >> 4);
        let immediate = i64::from(instruction.immediate).cast_unsigned();
        let taken = match instruction.code {
            0x61 => {
                registers[to] = u64::from(context[usize::try_from(instruction.offset).unwrap() / 4]);
                false
            }
            0xbf => {
                registers[to] = registers[from];
                false
            }
            AND => {
                registers[to] &= immediate;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= immediate;
                false
            }
            MOVE => {
                registers[to] = immediate;
                false
            }
            ALWAYS => true,
            IF_ANY_SET => registers[to] & immediate != 0,
            IF_NOT_EQUAL => registers[to] != immediate,
            0x95 => return registers[0] == 1,
            other => panic!("unexpected instruction {other:#x}"),
        };
        if taken {
            at += usize::try_from(instruction.offset).unwrap();
        }
    }
}

/// The program agrees with the definition, for every set of accesses to a choice of devices.
fn check(rules: &[Rule]) {
    let code = assemble(rules);
    for kind in [DeviceKind::Block, DeviceKind::Character] {
        for (major, minor) in [(1, 3), (1, 5), (5, 1), (8, 0), (8, 1), (10, 229), (136, 4095), (254, 1_048_575)] {
            for access in 1..=ALL {
                let expected = [MAKE, READ, WRITE]
                    .iter()
                    .filter(|bit| access & *bit != 0)
                    .all(|bit| decided(rules, kind, major, minor, *bit));
                let ran = run(&code, kind, major, minor, access);
                assert_eq!(ran, expected, "{kind:?} {major}:{minor} access {access} under {rules:?}");
            }
        }
    }
}

#[test]
fn the_program_agrees_with_the_rules() {
    let mut with_defaults = rules(&["- a *:* rwm", "+ b 8:* r", "- b 8:1 rwm", "+ c 10:229 rw"]);
    with_defaults.extend(EVERY_CONTAINER);
    check(&with_defaults);
    check(&rules(&["- a *:* rwm"]));
    check(&rules(&["+ a *:* rwm"]));
    check(&rules(&["+ a *:* rwm", "- b 8:0 rw"]));
    check(&rules(&["+ c 1:3 r", "+ c 1:3 w", "- c 1:* m", "+ a 8:* rwm", "- a *:1 w"]));
    check(&[]);
    check(&EVERY_CONTAINER);
}

#[test]
fn many_rules_agree() {
    // A small generator with a fixed seed instead of a crate: every combination is a valid rule.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..300 {
        let random: Vec<Rule> = (0..next(8))
            .map(|_| Rule {
                allow: next(2) == 0,
                kind: [None, Some(DeviceKind::Block), Some(DeviceKind::Character)][usize::try_from(next(3)).unwrap()],
                major: [None, Some(1), Some(8)][usize::try_from(next(3)).unwrap()],
                minor: [None, Some(1), Some(3)][usize::try_from(next(3)).unwrap()],
                access: u8::try_from(next(7)).unwrap() + 1,
            })
            .collect();
        check(&random);
    }
}

#[test]
fn lists_of_v1() {
    let lines = |texts: &[&str]| {
        let lists = Lists::new(&rules(texts)).unwrap();
        (lists.allow_by_default, lists.exceptions.iter().map(line).collect::<Vec<_>>())
    };
    assert_eq!(lines(&["- a *:* rwm", "+ c 1:3 r", "+ c 1:3 w"]), (false, vec!["c 1:3 rw".to_owned()]));
    assert_eq!(lines(&["+ c 1:3 rwm", "- c 1:* wm"]), (false, vec!["c 1:3 r".to_owned()]));
    assert_eq!(lines(&["+ a *:* rwm", "- b 8:* m"]), (true, vec!["b 8:* m".to_owned()]));
    assert_eq!(lines(&["+ a 8:* r"]).1, ["b 8:* r", "c 8:* r"]);
    assert_eq!(lines(&["+ c 1:3 rwm", "- a *:* rwm"]), (false, vec![]));
}

#[test]
fn v1_refuses_what_it_cannot_express() {
    let error = Lists::new(&rules(&["+ c 1:* rwm", "- c 1:3 w"])).unwrap_err();
    assert!(error.to_string().contains("c 1:3 w"), "{error}");
}

#[test]
fn nonsense_is_refused() {
    let parse = |kind: &str, major, access: &str| {
        Rule::parse(&DeviceRule {
            allow: true,
            kind: Some(kind.into()),
            major: Some(major),
            minor: None,
            access: Some(access.into()),
        })
    };
    assert!(parse("x", 1, "r").is_err());
    assert!(parse("c", -2, "r").is_err());
    assert!(parse("c", 1 << 40, "r").is_err());
    assert!(parse("c", 1, "rx").is_err());
    assert_eq!(parse("c", -1, "").unwrap().access, ALL);
}
