//! Rules of iptables' old kernel part, which only its own program can read: `iptables-legacy-save`'s lines, as chains of
//! the same expressions that nf_tables has.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use ipnet::IpNet;

use super::expression::{Expression, Field, Operator, Verdict};
use super::ruleset::{Base, Chain, Family, Hook, Rule, Ruleset, TableName};

/// Modules whose options are read here.
const KNOWN: [&str; 7] = ["tcp", "udp", "conntrack", "state", "addrtype", "comment", "multiport"];
const RELATED_STATES: [(&str, u32); 5] =
    [("INVALID", 1), ("ESTABLISHED", 2), ("RELATED", 4), ("NEW", 8), ("UNTRACKED", 64)];

/// Adds the old tables of both families, where there are any.
pub(crate) fn read(ruleset: &mut Ruleset) {
    for (family, names, program) in [
        (Family::IPV4, "ip_tables_names", "iptables-legacy-save"),
        (Family::IPV6, "ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        let loaded = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if loaded.trim().is_empty() {
            continue;
        }
        let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => {
                ruleset.chains.extend(parse(&String::from_utf8_lossy(&output.stdout), family));
            }
            _ => ruleset.unread.push(format!(
                "rules of iptables-legacy ({}): {program} is needed to read them",
                loaded.split_whitespace().collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

/// The chains in what `iptables-save` writes.
fn parse(text: &str, family: Family) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        let name = || TableName { family, name: table.clone(), legacy: true };
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(chain), Some(policy)) = (words.next(), words.next()) else { continue };
            let base = base(&table, chain, policy);
            chains.push(Chain { table: name(), name: chain.to_owned(), base, rules: Vec::new() });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = words(rule);
            if words.is_empty() {
                continue;
            }
            let chain = words.remove(0);
            let names: Vec<_> = chains.iter().filter(|c| c.table.name == table).map(|c| c.name.clone()).collect();
            let own = |c: &&mut Chain| c.table.name == table && c.name == chain;
            if let Some(chain) = chains.iter_mut().find(own) {
                let expressions = Reader { chains: &names, words, at: 0, family, expressions: Vec::new() }.read();
                let handle = u64::try_from(chain.rules.len()).unwrap_or_default() + 1;
                chain.rules.push(Rule { handle, expressions, text: format!("-A {rule}"), comment: None });
            }
        }
    }
    chains
}

fn base(table: &str, chain: &str, policy: &str) -> Option<Base> {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "FORWARD" => Hook::Forward,
        "OUTPUT" => Hook::Output,
        "POSTROUTING" => Hook::Postrouting,
        _ => return None,
    };
    let priority = match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Input | Hook::Postrouting) => 100,
        ("nat", _) => -100,
        ("security", _) => 50,
        _ => 0,
    };
    Some(Base { hook, priority, drops: policy == "DROP", nat: table == "nat" })
}

/// Words of a line, quotes resolved.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => word.extend(chars.next()),
            '"' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            other => word.push(other),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

struct Reader<'a> {
    /// The table's chains: other names are targets.
    chains: &'a [String],
    words: Vec<String>,
    at: usize,
    family: Family,
    expressions: Vec<Expression>,
}

impl Reader<'_> {
    fn read(mut self) -> Vec<Expression> {
        while let Some(word) = self.next() {
            let inverted = word == "!";
            let option = if inverted { self.next().unwrap_or_default() } else { word };
            let start = self.at;
            if matches!(option.as_str(), "-j" | "-g") {
                self.target(option == "-g");
                break;
            }
            if self.option(&option, inverted).is_none() {
                // Whatever it is and however many words it has: the rule is in doubt.
                self.at = start;
                let mut text = option;
                while let Some(more) = self.words.get(self.at).filter(|more| !more.starts_with('-') && *more != "!") {
                    text = format!("{text} {more}");
                    self.at += 1;
                }
                self.expressions.push(Expression::Unknown(text));
            }
        }
        self.expressions
    }

    fn next(&mut self) -> Option<String> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }

    /// A condition; `None` if it is not understood.
    fn option(&mut self, option: &str, inverted: bool) -> Option<()> {
        let argument = self.next()?;
        match option {
            "-s" => self.address(&argument, inverted, true)?,
            "-d" => self.address(&argument, inverted, false)?,
            "-i" => self.interface(6, &argument, inverted),
            "-o" => self.interface(7, &argument, inverted),
            "-p" => {
                let number = protocol(&argument)?;
                self.load(Field::Meta(16));
                self.compare(inverted, vec![number]);
            }
            "-m" if KNOWN.contains(&argument.as_str()) => {}
            "--comment" => {}
            "--dport" | "--dports" => self.ports(&argument, inverted)?,
            "--ctstate" | "--state" => {
                let mut mask = 0;
                for name in argument.split(',') {
                    mask |=
                        RELATED_STATES.iter().find(|(state, _)| *state == name).map(|(_, bit)| *bit).or_else(|| {
                            // Where the destination was changed is asked of the status.
                            (name == "DNAT").then_some(0)
                        })?;
                }
                let asks_status = argument.split(',').any(|name| name == "DNAT");
                match (asks_status, mask) {
                    (false, mask) => self.bits(Field::Conntrack { key: 0, original: true }, mask, inverted),
                    (true, 0) => self.bits(Field::Conntrack { key: 2, original: true }, 32, inverted),
                    _ => return None,
                }
            }
            "--dst-type" if argument == "LOCAL" => {
                self.load(Field::Route { result: 3, flags: 2 });
                self.compare(inverted, 2_u32.to_ne_bytes().to_vec());
            }
            _ => return None,
        }
        Some(())
    }

    fn address(&mut self, text: &str, inverted: bool, source: bool) -> Option<()> {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
        let (offset, length) = match (self.family == Family::IPV6, source) {
            (false, true) => (12, 4),
            (false, false) => (16, 4),
            (true, true) => (8, 16),
            (true, false) => (24, 16),
        };
        let bytes = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.load(Field::Payload { base: 1, offset, length });
        let mask = bytes(net.netmask());
        let xor = vec![0; mask.len()];
        self.expressions.push(Expression::Bitwise { from: 0, into: 0, mask, xor });
        self.compare(inverted, bytes(net.network()));
        Some(())
    }

    fn interface(&mut self, key: u32, name: &str, inverted: bool) {
        self.load(Field::Meta(key));
        let value = match name.strip_suffix('+') {
            Some(start) => start.as_bytes().to_vec(),
            None => {
                let mut whole = name.as_bytes().to_vec();
                whole.resize(16, 0);
                whole
            }
        };
        self.compare(inverted, value);
    }

    /// One port or a range; a list is left in doubt.
    fn ports(&mut self, text: &str, inverted: bool) -> Option<()> {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        self.load(Field::Payload { base: 2, offset: 2, length: 2 });
        let (first, last) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
        self.expressions.push(Expression::Range { from: 0, inverted, first, last });
        Some(())
    }

    fn bits(&mut self, field: Field, mask: u32, inverted: bool) {
        self.load(field);
        self.expressions.push(Expression::Bitwise {
            from: 0,
            into: 0,
            mask: mask.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        });
        self.compare(!inverted, vec![0; 4]);
    }

    fn target(&mut self, goto: bool) {
        let Some(name) = self.next() else { return };
        let rest = self.words.get(self.at..).unwrap_or_default().to_vec();
        self.at = self.words.len();
        let target = match name.as_str() {
            "ACCEPT" => Expression::Verdict(Verdict::Accept),
            "DROP" => Expression::Verdict(Verdict::Drop),
            "RETURN" => Expression::Verdict(Verdict::Return),
            "REJECT" => Expression::Reject,
            "MASQUERADE" | "SNAT" => Expression::SourceNat,
            "DNAT" if self.translation(&rest).is_some() => return,
            _ if goto => Expression::Verdict(Verdict::Goto(name)),
            _ if self.chains.contains(&name) => Expression::Verdict(Verdict::Jump(name)),
            _ => Expression::Target { name, info: Vec::new() },
        };
        self.expressions.push(target);
    }

    fn translation(&mut self, rest: &[String]) -> Option<()> {
        let [option, to, ..] = rest else { return None };
        if option != "--to-destination" {
            return None;
        }
        let socket = to.parse::<std::net::SocketAddr>().ok();
        let ip = socket.map(|socket| socket.ip()).or_else(|| to.parse().ok())?;
        let value = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.expressions.push(Expression::Constant { into: 0, value });
        if let Some(socket) = socket {
            let value = socket.port().to_be_bytes().to_vec();
            self.expressions.push(Expression::Constant { into: 4, value });
        }
        self.expressions.push(Expression::DestinationNat { address: Some(0), port: socket.map(|_| 4) });
        Some(())
    }

    fn load(&mut self, field: Field) {
        self.expressions.push(Expression::Load { field, into: 0 });
    }

    fn compare(&mut self, inverted: bool, value: Vec<u8>) {
        let operator = if inverted { Operator::NotEqual } else { Operator::Equal };
        self.expressions.push(Expression::Compare { from: 0, operator, value });
    }
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "ipv6-icmp" => 58,
        number => number.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_rules_become_expressions() {
        let text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [1:2]\n:own - [0:0]\n\
            -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
            -A FORWARD ! -i docker0 -s 10.0.0.0/8 -p tcp -m tcp --dport 80:90 -m comment --comment \"a \\\"b\\\" c\" -j own\n\
            -A own -m recent --set --name x -j DROP\nCOMMIT\n";
        let chains = parse(text, Family::IPV4);
        let forward = chains.iter().find(|chain| chain.name == "FORWARD").unwrap();
        assert!(forward.base.as_ref().unwrap().drops);
        assert_eq!(forward.rules[0].expressions.last(), Some(&Expression::Verdict(Verdict::Accept)));
        let second = &forward.rules[1].expressions;
        assert!(!second.iter().any(|e| matches!(e, Expression::Unknown(_))), "{second:?}");
        assert_eq!(second.last(), Some(&Expression::Verdict(Verdict::Jump("own".to_owned()))));
        let doubtful = &chains.iter().find(|chain| chain.name == "own").unwrap().rules[0].expressions;
        assert!(doubtful.iter().filter(|e| matches!(e, Expression::Unknown(_))).count() >= 2, "{doubtful:?}");
    }
}
