//! Who can reach a container, as `/skep/networks/explain` says it.

use std::net::SocketAddr;

use skep_engine::model::explain::{
    About, Answer, Explained, ExplainedNetworks, Origin, PortReport, Reach, Reason, RuleEffect,
};
use skep_types::NetworkId;
use skep_wire::{ExplainedAnswer, ExplainedContainer, ExplainedPort, ExplainedReason, NetworkExplanation};

pub(crate) fn explanation(found: ExplainedNetworks) -> NetworkExplanation {
    let mut unread: Vec<String> = Vec::new();
    let mut containers = Vec::new();
    for explained in found.containers {
        if let About::Ports(explanation) = &explained.about {
            unread.extend(explanation.unread.iter().filter(|text| !unread.contains(text)).cloned().collect::<Vec<_>>());
        }
        containers.push(container(explained, &found.names));
    }
    NetworkExplanation { containers, unread }
}

fn container(explained: Explained, names: &[(NetworkId, String)]) -> ExplainedContainer {
    let (note, ports) = match explained.about {
        About::Words(words) => (words.to_owned(), Vec::new()),
        About::Ports(explanation) => {
            (String::new(), explanation.ports.into_iter().map(|report| port(report, names)).collect())
        }
    };
    let id = explained.id.to_string();
    ExplainedContainer { id, name: explained.name, network: explained.network, note, ports }
}

fn port(report: PortReport, names: &[(NetworkId, String)]) -> ExplainedPort {
    let published = report.published.filter(skep_engine::model::explain::Published::is_translated);
    ExplainedPort {
        published: published.map(|port| SocketAddr::new(port.host_ip, port.host_port).to_string()).unwrap_or_default(),
        address: report.address.to_string(),
        port: report.published.map(|port| format!("{}/{}", port.container_port, port.protocol)).unwrap_or_default(),
        answers: report.answers.into_iter().map(|found| answer(found, names)).collect(),
    }
}

fn answer(answer: Answer, names: &[(NetworkId, String)]) -> ExplainedAnswer {
    let name = |id: &NetworkId| {
        let known = names.iter().find(|(known, _)| known == id).map(|(_, name)| name.clone());
        known.unwrap_or_else(|| id.to_string())
    };
    let (from, link, networks) = match &answer.origin {
        Origin::Host => ("host", String::new(), Vec::new()),
        Origin::OtherHost(link) => ("other-hosts", link.clone(), Vec::new()),
        Origin::Internet(link) => ("internet", link.clone(), Vec::new()),
        Origin::SameNetwork => ("same-network", String::new(), Vec::new()),
        Origin::OtherNetworks(ids) => ("other-networks", String::new(), ids.iter().map(name).collect()),
    };
    let to =
        answer.target.map(|target| target.socket().map_or(target.address.to_string(), |socket| socket.to_string()));
    ExplainedAnswer {
        from: from.to_owned(),
        link,
        networks,
        to: to.unwrap_or_default(),
        reach: match answer.reach {
            Reach::Yes => "yes",
            Reach::No => "no",
            Reach::Depends => "depends",
        }
        .to_owned(),
        reasons: answer.reasons.into_iter().map(reason).collect(),
        advice: answer.advice.unwrap_or_default(),
    }
}

fn reason(reason: Reason) -> ExplainedReason {
    match reason {
        Reason::Note(text) => ExplainedReason { text, ..ExplainedReason::default() },
        Reason::Rule(rule) => ExplainedReason {
            table: rule.table,
            chain: rule.chain,
            handle: rule.handle.unwrap_or_default(),
            text: rule.rule,
            effect: match rule.effect {
                RuleEffect::Accepts => "accepts",
                RuleEffect::Drops => "drops",
                RuleEffect::Leads => "leads",
            }
            .to_owned(),
            depends_on: rule.depends,
            own: rule.own,
        },
    }
}
