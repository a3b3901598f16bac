//! Docker's behaviour towards the host's firewall: what goes to and from containers is accepted in the forward chains of
//! others. It is an option; by default what others drop stays dropped.
//!
//! The rules are put in front of each chain and carry a comment with the name of the engine's table, by which they are
//! found again: to be put back when their table was loaded anew, and to be taken away when the option is switched off.
//! They decide in that chain only: the engine's own forward chain is asked all the same, so what is not published stays
//! closed.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::explain::ruleset::{Base, Chain, Family, Hook, Rule, Ruleset, TableName};
use crate::explain::{Expression, Verdict, legacy};
use crate::netlink::{Batch, Refused, Socket};

const SUBSYSTEM: u16 = 10;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_HEADER: [u8; 4] = [0, 0, 0, 10];
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const REGISTER: u32 = 1;
const ACCEPT: u32 = 1;

/// Has the forward chains of others accept what goes through `bridges`; with none, takes such rules away.
///
/// A chain that can't be changed (firewalld may own its table) is only reported: the others still count.
pub(crate) fn apply(socket: &mut Socket, table: &str, bridges: &[String]) -> Result<(), Refused> {
    let mark = format!("skep: {table}");
    let mut rules = Ruleset::read(socket)?;
    legacy::read(&mut rules);
    for chain in rules.chains.iter().filter(|chain| is_foreign_forward(chain, &rules)) {
        let ours: Vec<&Rule> = chain.rules.iter().filter(|rule| is_marked(rule, &mark)).collect();
        let wanted: Vec<(u32, &str)> = match bridges {
            _ if !drops(chain, &rules) && ours.is_empty() => continue,
            bridges => bridges.iter().flat_map(|b| [(META_OIFNAME, b.as_str()), (META_IIFNAME, b.as_str())]).collect(),
        };
        let in_place =
            chain.rules.iter().take(wanted.len()).map(|rule| interface(rule).filter(|_| is_marked(rule, &mark)));
        let kept = ours.len() == wanted.len()
            && in_place.eq(wanted.iter().map(|(key, name)| Some((*key, (*name).to_owned()))));
        if kept {
            continue;
        }
        let changed = if chain.table.legacy {
            change_legacy(chain, &ours, &wanted, &mark)
        } else {
            change(socket, chain, &ours, &wanted, &mark).map_err(|refused| refused.to_string())
        };
        if let Err(error) = changed {
            tracing::warn!(table = %chain.table, chain = chain.name, error, "a chain of the host's firewall can't be bypassed");
        }
    }
    Ok(())
}

/// Chains that filter what is forwarded, but for those of engines.
fn is_foreign_forward(chain: &Chain, rules: &Ruleset) -> bool {
    let forward = matches!(&chain.base, Some(Base { hook: Hook::Forward, nat: false, .. }));
    let filters = [Family::INET, Family::IPV4, Family::IPV6].contains(&chain.table.family);
    let is_engine = |table: &TableName| {
        ["guard", "user"].iter().all(|name| rules.chains.iter().any(|c| c.table == *table && c.name == *name))
    };
    forward && filters && !is_engine(&chain.table)
}

/// Whether a packet may be dropped in the chain, or in one of its table that it may come to.
fn drops(chain: &Chain, rules: &Ruleset) -> bool {
    let drops = |rule: &Rule| {
        rule.expressions.iter().any(|e| match e {
            Expression::Verdict(Verdict::Drop | Verdict::Queue) | Expression::Reject => true,
            Expression::Target { name, .. } => name == "REJECT" || name == "NFQUEUE",
            Expression::Lookup { verdict, .. } => *verdict,
            _ => false,
        })
    };
    let own = || rules.chains.iter().filter(|other| other.table == chain.table);
    chain.base.as_ref().is_some_and(|base| base.drops)
        || (!chain.rules.is_empty() && own().flat_map(|other| &other.rules).any(drops))
}

fn is_marked(rule: &Rule, mark: &str) -> bool {
    rule.comment.as_deref() == Some(mark) || rule.text.contains(&format!("--comment \"{mark}\""))
}

/// The interface that a rule compares first, and which of the two it is.
fn interface(rule: &Rule) -> Option<(u32, String)> {
    let mut key = None;
    for expression in &rule.expressions {
        match expression {
            Expression::Load { field: crate::explain::Field::Meta(load), .. } => key = Some(*load),
            Expression::Compare { value, .. } => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                return Some((key?, String::from_utf8_lossy(name).into_owned()));
            }
            _ => {}
        }
    }
    None
}

fn change(
    socket: &mut Socket,
    chain: &Chain,
    old: &[&Rule],
    wanted: &[(u32, &str)],
    mark: &str,
) -> Result<(), Refused> {
    let mut batch = Batch::new();
    batch.message(BATCH_BEGIN, 0, |m| m.raw(&BATCH_HEADER));
    let header = [chain.table.family.0, 0, 0, 0];
    for rule in old {
        batch.message(SUBSYSTEM << 8 | DELETE_RULE, 0, |m| {
            m.raw(&header);
            m.text(1, &chain.table.name);
            m.text(2, &chain.name);
            m.bytes(3, &rule.handle.to_be_bytes());
        });
    }
    // Each is put in front of those before.
    for (key, bridge) in wanted.iter().rev() {
        batch.message(SUBSYSTEM << 8 | NEW_RULE, libc::NLM_F_CREATE, |m| {
            m.raw(&header);
            m.text(1, &chain.table.name);
            m.text(2, &chain.name);
            m.nest(4, |m| accept(m, *key, bridge));
            m.bytes(7, &comment(mark));
        });
    }
    batch.message(BATCH_END, 0, |m| m.raw(&BATCH_HEADER));
    socket.run(&batch)
}

/// `oifname BRIDGE counter accept`, of expressions that iptables-nft can list too.
fn accept(m: &mut crate::netlink::Message<'_>, key: u32, bridge: &str) {
    let mut name = [0; 16];
    name.iter_mut().zip(bridge.bytes()).for_each(|(to, from)| *to = from);
    let mut expression = |kind: &str, fill: &mut dyn FnMut(&mut crate::netlink::Message<'_>)| {
        m.nest(1, |m| {
            m.text(1, kind);
            m.nest(2, |m| fill(m));
        });
    };
    expression("meta", &mut |m| {
        m.be32(1, REGISTER);
        m.be32(2, key);
    });
    expression("cmp", &mut |m| {
        m.be32(1, REGISTER);
        m.be32(2, 0);
        m.nest(3, |m| m.bytes(1, &name));
    });
    expression("counter", &mut |_| {});
    expression("immediate", &mut |m| {
        m.be32(1, 0);
        m.nest(2, |m| m.nest(2, |m| m.be32(1, ACCEPT)));
    });
}

/// A rule's user data: type, length, text with its closing NUL.
fn comment(mark: &str) -> Vec<u8> {
    let length = u8::try_from(mark.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, length];
    data.extend(mark.bytes().take(usize::from(length) - 1));
    data.push(0);
    data
}

/// One run of the old program, which changes all or nothing.
fn change_legacy(chain: &Chain, old: &[&Rule], wanted: &[(u32, &str)], mark: &str) -> Result<(), String> {
    let program =
        if chain.table.family == Family::IPV6 { "ip6tables-legacy-restore" } else { "iptables-legacy-restore" };
    let mut script = format!("*{}\n", chain.table.name);
    for rule in old {
        script += &format!("{}\n", rule.text.replacen("-A ", "-D ", 1));
    }
    for (key, bridge) in wanted.iter().rev() {
        let option = if *key == META_OIFNAME { "-o" } else { "-i" };
        script += &format!("-I {} {option} {bridge} -m comment --comment \"{mark}\" -j ACCEPT\n", chain.name);
    }
    script += "COMMIT\n";
    let failed = |e: std::io::Error| format!("{program}: {e}");
    let mut child = Command::new(program)
        .args(["--noflush", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Dropping it ends the input.
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
