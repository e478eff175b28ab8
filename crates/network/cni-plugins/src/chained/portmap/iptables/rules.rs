//! The rules of one pod, and those that all pods share.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::chained::portmap::mapping::{Masqueraded, Plan, Port};
use crate::rules::iptables::{Rule, Saved, Script, words};

/// Of the names of pods' chains.
pub(super) const PREFIX: &str = "DN-";
/// Leads to the pods' chains.
pub(super) const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// Marks packets that are to be masqueraded.
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades them.
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// Ports that one rule can name.
const PORTS_OF_RULE: usize = 15;
const GUARD: &str = "crioxide: no neighbour reaches 127.0.0.1";

/// What one family of a pod's addresses needs.
pub(super) struct Wanted<'a> {
    pub(super) plan: &'a Plan,
    pub(super) pod: IpNet,
    pub(super) ports: Vec<&'a Port>,
    pub(super) chain: String,
    pub(super) comment: String,
}

impl<'b> Wanted<'b> {
    /// The changes that make a table what it should be.
    pub(super) fn plan(&self, saved: &Saved) -> Script {
        let mut script = Script::default();
        self.push_shared(saved, &mut script);
        // Its own chain anew: what may be left in it is not trusted.
        script
            .remove_jumps(saved, &self.chain)
            .empty_chain(&self.chain);
        for port in &self.ports {
            for rule in self.rules_of(port) {
                script.append(&self.chain, &rule);
            }
        }
        for rule in self.entry_rules() {
            script.append(DNAT, &rule);
        }
        script
    }

    fn push_shared(&self, saved: &Saved, script: &mut Script) {
        if self.masquerades() && self.plan.marks.external_chain.is_none() {
            let mark = self.mark();
            script.share_chain(SET_MARK).share_chain(MASQUERADE);
            if !has(saved, SET_MARK, "--set-xmark", &mark) {
                let mut rule = comment("CNI portfwd masquerade mark");
                rule.extend(words(&format!("-j MARK --set-xmark {mark}")));
                script.append(SET_MARK, &rule);
            }
            if !has(saved, MASQUERADE, "--mark", &mark) {
                let rule = words(&format!("-m mark --mark {mark} -j MASQUERADE"));
                script.append(MASQUERADE, &rule);
            }
            if !saved.has_jump("POSTROUTING", MASQUERADE) {
                let mut rule = comment("CNI portfwd requiring masquerade");
                rule.extend(words(&format!("-j {MASQUERADE}")));
                // Before masquerading rules of networks, which accept what stays in the subnet.
                script.insert_first("POSTROUTING", &rule);
            }
        }
        script.share_chain(DNAT);
        for hook in ["PREROUTING", "OUTPUT"] {
            if !saved.has_jump(hook, DNAT) {
                let rule = words(&format!("-m addrtype --dst-type LOCAL -j {DNAT}"));
                script.append(hook, &rule);
            }
        }
    }

    /// Marks first, then the new destination.
    fn rules_of(&self, port: &Port) -> Vec<Vec<String>> {
        let mut packets = words(&format!(
            "-p {} --dport {}",
            port.protocol_name(),
            port.host_port
        ));
        if let Some(address) = port.listens_on {
            packets.extend(words(&format!("-d {address}")));
        }
        let with = |rest: String| [packets.clone(), words(&rest)].concat();
        let target = self.plan.marks.external_chain.as_deref();
        let target = target.unwrap_or(SET_MARK);
        let mut rules: Vec<_> = self
            .masqueraded_sources()
            .iter()
            .map(|source| with(format!("-s {source} -j {target}")))
            .collect();
        let destination = SocketAddr::new(port.pod, port.container_port);
        rules.push(with(format!("-j DNAT --to-destination {destination}")));
        rules
    }

    /// One rule leads packets to several ports to the pod's chain.
    fn entry_rules(&self) -> Vec<Vec<String>> {
        let mut by_protocol: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for port in &self.ports {
            let ports = by_protocol.entry(port.protocol_name()).or_default();
            ports.push(port.host_port.to_string());
        }
        let conditions = &self.plan.marks.conditions[usize::from(!self.is_ipv4())];
        let mut rules = Vec::new();
        for (protocol, ports) in by_protocol {
            for some in ports.chunks(PORTS_OF_RULE) {
                let ports = some.join(",");
                let mut rule = comment(&self.comment);
                rule.extend(words(&format!(
                    "-m multiport -p {protocol} --destination-ports {ports}"
                )));
                rule.extend(conditions.iter().cloned());
                rule.extend(words(&format!("-j {}", self.chain)));
                rules.push(rule);
            }
        }
        rules
    }

    /// The first port that the table does not map.
    pub(super) fn first_missing(&self, saved: &Saved) -> Option<&'b Port> {
        let shared = ["PREROUTING", "OUTPUT"]
            .iter()
            .all(|hook| saved.has_jump(hook, DNAT));
        let masqueraded = !self.masquerades()
            || self.plan.marks.external_chain.is_some()
            || (saved.has_jump("POSTROUTING", MASQUERADE)
                && has(saved, SET_MARK, "--set-xmark", &self.mark())
                && has(saved, MASQUERADE, "--mark", &self.mark()));
        let is_mapped = |port: &Port| {
            let destination = SocketAddr::new(port.pod, port.container_port).to_string();
            let is_led_there = saved.rules(DNAT).any(|rule| {
                rule.option("-j") == Some(&self.chain)
                    && rule.option("-p") == Some(port.protocol_name())
                    && ports_of(rule).any(|number| number == port.host_port.to_string())
            });
            let own = || {
                saved
                    .rules(&self.chain)
                    .filter(|rule| rule.option("-j") != Some("DNAT") || is_of_port(rule, port))
            };
            let marks = own().filter(|rule| {
                rule.option("-j") != Some("DNAT")
                    && rule.option("--dport") == Some(&port.host_port.to_string())
            });
            is_led_there
                && marks.count() >= self.masqueraded_sources().len()
                && own().any(|rule| rule.option("--to-destination") == Some(&destination))
        };
        let first = self.ports.first().copied();
        if !(shared && masqueraded) {
            return first;
        }
        self.ports.iter().copied().find(|port| !is_mapped(port))
    }

    pub(super) fn guards_localhost(&self) -> bool {
        self.is_ipv4() && self.masquerades()
    }

    fn masquerades(&self) -> bool {
        self.plan.masqueraded != Masqueraded::Nobody
    }

    fn masqueraded_sources(&self) -> Vec<String> {
        match self.plan.masqueraded {
            Masqueraded::Nobody => Vec::new(),
            Masqueraded::Everybody if self.is_ipv4() => vec!["0.0.0.0/0".to_owned()],
            Masqueraded::Everybody => vec!["::/0".to_owned()],
            Masqueraded::Near => {
                let mut sources = vec![self.pod.trunc().to_string()];
                if self.is_ipv4() {
                    sources.push("127.0.0.1".to_owned());
                }
                sources
            }
        }
    }

    fn mark(&self) -> String {
        let mark = 1_u32 << self.plan.marks.bit;
        format!("{mark:#x}/{mark:#x}")
    }

    fn is_ipv4(&self) -> bool {
        self.pod.addr().is_ipv4()
    }
}

/// Whether a rule gives packets to a port of the host a new destination.
pub(super) fn is_of_port(rule: &Rule, port: &Port) -> bool {
    let listens_on = rule
        .option("-d")
        .and_then(|text| text.split('/').next()?.parse::<IpAddr>().ok());
    rule.option("-j") == Some("DNAT")
        && rule.option("-p") == Some(port.protocol_name())
        && rule.option("--dport") == Some(&port.host_port.to_string())
        && listens_on == port.listens_on
}

/// Drops what comes from elsewhere to 127.0.0.0/8, in the table `raw`.
pub(super) fn guard(saved: &Saved) -> Script {
    let mut script = Script::default();
    if !has(saved, "PREROUTING", "--comment", GUARD) {
        let mut rule = words("! -i lo -d 127.0.0.0/8");
        rule.extend(comment(GUARD));
        rule.extend(words("-j DROP"));
        script.append("PREROUTING", &rule);
    }
    script
}

fn ports_of(rule: &Rule) -> impl Iterator<Item = &str> {
    let single = rule.option("--dport");
    let several = rule.option("--dports");
    several.or(single).unwrap_or_default().split(',')
}

fn has(saved: &Saved, chain: &str, option: &str, value: &str) -> bool {
    saved
        .rules(chain)
        .any(|rule| rule.option(option) == Some(value))
}

fn comment(text: &str) -> Vec<String> {
    ["-m", "comment", "--comment", text]
        .map(str::to_owned)
        .to_vec()
}
