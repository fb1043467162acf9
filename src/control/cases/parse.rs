//! Case files into [`Case`]s.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::fields::{Fields, Reader, described};
use super::frame::{FrameFields, frame};
use super::names;
use super::{Case, Expectation, Manifests, ProbeCase, Reception, RejectCase};
use crate::control::probe::{self, Endpoint, Probe, ProbeProtocol, State};
use crate::policy::document::{self, Document, Node, Position, Stand};
use crate::policy::{Compatibility, Finding, Place, Severity, SourceFile};

const CASE_KEYS: &[&str] = &[
    "id",
    "title",
    "system",
    "source",
    "upstream",
    "compat",
    "manifests",
    "manifests_dir",
    "manifests_before",
    "dns",
    "dns_timeline",
    "probes",
    "config_cases",
    "reject_cases",
];

const PROBE_KEYS: &[&str] = &[
    "from",
    "to",
    "proto",
    "port",
    "expect",
    "why",
    "family",
    "src_port",
    "icmp_type",
    "hop_limit",
    "src_ip",
    "src_mac",
    "dst_ip",
    "dst_mac",
    "vlan",
    "arp",
    "nd",
    "state",
    "at",
    "via",
    "method",
    "status",
    "expect_dst",
    "expect_src",
    "deny_stage",
    "reject",
    "upstream",
];

const REJECT_KEYS: &[&str] = &[
    "name",
    "manifest",
    "expect",
    "path",
    "reason_contains",
    "compat",
    "why",
    "upstream",
];

const STAGES: &[&str] = &[
    "L2",
    "SG",
    "Admin",
    "NP",
    "MNP",
    "Baseline",
    "VNID",
    "ENP",
    "EgressFirewall",
    "egressIP",
];

/// Reads a case file. Relative `manifests_dir` are taken from `directory`.
///
/// A case or probe that could not be read is left out; the findings, all of them errors, say why.
/// Ids: `syntax`, `duplicate-field`, `case-unknown-key`, `case-value`, `case-unsupported`.
pub fn parse(file: &SourceFile, directory: &Path) -> (Vec<Case>, Vec<Finding>) {
    let (documents, mut findings) = document::parse(file);
    let mut cases = Vec::new();
    if documents.is_empty() && findings.is_empty() {
        findings.push(Finding {
            severity: Severity::Error,
            id: "case-value",
            place: Place::new(&file.name, Position { line: 1, column: 1 }),
            document: 1,
            object: String::new(),
            path: String::new(),
            message: "no case in this file".into(),
        });
    }
    for document in &documents {
        let mut reader = Reader {
            document,
            case: format!("document {}", document.stand.number()),
            findings: Vec::new(),
        };
        cases.extend(case(&mut reader, directory));
        findings.append(&mut reader.findings);
    }
    (cases, findings)
}

fn case(reader: &mut Reader, directory: &Path) -> Option<Case> {
    let document = reader.document;
    let mut fields = reader.fields(&document.root, "")?;
    let id = fields.take("id");
    let title = fields.take("title");
    if let Some(name) = id.or(title) {
        reader.case = reader.text(name)?;
    }
    for free_text in ["system", "source", "upstream", "title"] {
        fields.take(free_text);
    }
    let compatibility = compatibility(reader, &mut fields, Compatibility::default());
    let manifests = manifests(reader, &mut fields, directory);
    let before = fields.take("manifests_before");
    let manifests_before = before.map(|before| Manifests::Inline(objects(reader, before)));
    let names = names::table(reader, &mut fields);
    let probes = fields.take("probes");
    let reject_cases = fields.take("reject_cases");
    let config_cases = fields.take("config_cases");
    let is_empty = |list: &Option<(&Node, String)>| {
        let items = list.as_ref().map(|(node, _)| node.as_sequence());
        items.is_none_or(|items| items.is_some_and(<[Node]>::is_empty))
    };
    let nothing = is_empty(&probes) && is_empty(&reject_cases) && is_empty(&config_cases);
    let findings_before = reader.findings.len();
    reader.finish(fields, CASE_KEYS);
    // A misspelt key may be the very one that is missed.
    if nothing && reader.findings.len() == findings_before {
        let message = "nothing to check: neither probes nor reject_cases";
        reader.error("case-value", document.root.position, "", message);
    }
    // What is wrong above changes what the probes are about; what is wrong in one of them does not
    // keep the others from being run.
    if !reader.findings.is_empty() {
        return None;
    }
    if let Some((node, path)) = config_cases {
        reader.unsupported(node, &path, "config_cases");
    }
    Some(Case {
        name: reader.case.clone(),
        place: document.place(document.root.position),
        compatibility,
        manifests,
        manifests_before,
        names,
        probes: each(reader, probes, probe_case),
        reject_cases: each(reader, reject_cases, |reader, node, path| {
            reject_case(reader, node, path, compatibility)
        }),
    })
}

/// Reads every item of a list and keeps those without an error.
fn each<'d, T>(
    reader: &mut Reader<'d>,
    list: Option<(&'d Node, String)>,
    mut read: impl FnMut(&mut Reader<'d>, &'d Node, &str) -> Option<T>,
) -> Vec<T> {
    let Some((list, path)) = list else {
        return Vec::new();
    };
    let mut kept = Vec::new();
    for (number, node) in reader.items(list, &path).iter().enumerate() {
        let findings_before = reader.findings.len();
        let item = read(reader, node, &format!("{path}[{number}]"));
        kept.extend(item.filter(|_| reader.findings.len() == findings_before));
    }
    kept
}

fn compatibility<'d>(
    reader: &mut Reader<'d>,
    fields: &mut Fields<'d>,
    mut base: Compatibility,
) -> Compatibility {
    let Some((node, path)) = fields.take("compat") else {
        return base;
    };
    let Some(switches) = node.as_mapping() else {
        let message = format!("must be a mapping of switches, found {}", described(node));
        reader.bad_value(node, &path, message);
        return base;
    };
    for switch in switches {
        let path = format!("{path}.{}", switch.key);
        let Some(value) = reader.text((&switch.node, path.clone())) else {
            continue;
        };
        if let Err(error) = base.set(&switch.key, &value) {
            reader.error("case-value", switch.key_position, &path, error.to_string());
        }
    }
    base
}

fn manifests<'d>(reader: &mut Reader<'d>, fields: &mut Fields<'d>, directory: &Path) -> Manifests {
    let inline = fields.take("manifests");
    let outside = fields.take("manifests_dir");
    match (inline, outside) {
        (Some(_), Some((node, path))) => {
            reader.bad_value(node, &path, "manifests are given inline already");
            Manifests::Inline(Vec::new())
        }
        (None, Some((node, path))) => {
            let name = reader.text((node, path)).unwrap_or_default();
            Manifests::Directory {
                path: directory.join(name),
                place: reader.document.place(node.position),
            }
        }
        (Some(inline), None) => Manifests::Inline(objects(reader, inline)),
        (None, None) => Manifests::Inline(Vec::new()),
    }
}

/// Every object of a list as a document of its own, which keeps its place in the case file.
fn objects<'d>(reader: &mut Reader<'d>, (list, path): (&'d Node, String)) -> Vec<Document> {
    let mut documents = Vec::new();
    for (number, node) in reader.items(list, &path).iter().enumerate() {
        if reader.fields(node, &format!("{path}[{number}]")).is_some() {
            documents.push(as_document(reader, node));
        }
    }
    documents
}

fn as_document(reader: &Reader, node: &Node) -> Document {
    Document {
        // Messages name the case; the number of its document would only repeat it.
        stand: Arc::new(Stand::new(reader.document.stand.file(), 1, 0)),
        root: node.clone(),
    }
}

fn probe_case<'d>(reader: &mut Reader<'d>, node: &'d Node, path: &str) -> Option<ProbeCase> {
    let mut fields = reader.fields(node, path)?;
    let probe = probe(reader, &mut fields);
    let expectation = expectation(reader, &mut fields);
    let why = fields.take("why").and_then(|why| reader.text(why));
    fields.take("upstream");
    let at_s = fields.take("at").and_then(|at| names::second(reader, at));
    for later in ["via", "method", "status"] {
        if let Some((node, path)) = fields.take(later) {
            reader.unsupported(node, &path, later);
        }
    }
    reader.finish(fields, PROBE_KEYS);
    Some(ProbeCase {
        path: path.to_owned(),
        place: reader.document.place(node.position),
        probe: probe?,
        at_s: at_s.unwrap_or_default(),
        expectation: expectation?,
        why,
    })
}

fn probe<'d>(reader: &mut Reader<'d>, fields: &mut Fields<'d>) -> Option<Probe> {
    let from = endpoint(reader, fields, "from");
    let to = endpoint(reader, fields, "to");
    let protocol: Option<ProbeProtocol> = fields
        .require(reader, "proto")
        .and_then(|proto| reader.parsed(proto));
    let port = if protocol.is_some_and(ProbeProtocol::has_ports) {
        fields.require(reader, "port")
    } else {
        fields.take("port")
    };
    let port = port.and_then(|port| reader.number(port, u16::MAX));
    let mut number = |key: &str, last: u16| {
        let found = fields.take(key)?;
        reader.number(found, last)
    };
    let source_port = number("src_port", u16::MAX);
    let icmp_type = number("icmp_type", 255).map(|icmp_type| icmp_type as u8);
    let hop_limit = number("hop_limit", 255).map(|hop_limit| hop_limit as u8);
    let mut address = |key: &str| -> Option<IpAddr> {
        let (node, path) = fields.take(key)?;
        let parsed = node.as_str().and_then(|text| text.parse().ok());
        if parsed.is_none() {
            let message = format!("must be an IPv4 or IPv6 address, found {}", described(node));
            reader.bad_value(node, &path, message);
        }
        parsed
    };
    let source = address("src_ip");
    let destination = address("dst_ip");
    let family = fields.take("family").and_then(|(node, path)| {
        let text = reader.text((node, path.clone()))?;
        let family = probe::family(&text);
        family
            .map_err(|error| reader.bad_value(node, &path, error.to_string()))
            .ok()
    });
    let state = fields.take("state").and_then(|state| reader.parsed(state));
    let FrameFields {
        source_mac,
        destination_mac,
        vlan,
        arp,
        nd,
    } = frame(reader, fields, protocol);
    Some(Probe {
        from: from?,
        to: to?,
        protocol: protocol?,
        port,
        source_port,
        icmp_type: icmp_type.or(nd.is_some().then_some(probe::NEIGHBOUR_ADVERTISEMENT)),
        hop_limit,
        family,
        source,
        destination,
        state: state.unwrap_or(State::New),
        source_mac,
        destination_mac,
        vlan,
        arp,
        nd,
    })
}

fn endpoint<'d>(reader: &mut Reader<'d>, fields: &mut Fields<'d>, key: &str) -> Option<Endpoint> {
    let (node, path) = fields.require(reader, key)?;
    let endpoint: Endpoint = reader.parsed((node, path.clone()))?;
    if let Endpoint::Host(_) = &endpoint {
        reader.unsupported(node, &path, format!("proxied host {endpoint}"));
    }
    Some(endpoint)
}

fn expectation<'d>(reader: &mut Reader<'d>, fields: &mut Fields<'d>) -> Option<Expectation> {
    let expect = fields
        .require(reader, "expect")
        .and_then(|expect| reader.word(expect, &["allow", "deny"]));
    let mut socket = |key: &str| {
        let (node, path) = fields.take(key)?;
        let parsed = node.as_str().and_then(|text| text.parse().ok());
        if parsed.is_none() {
            let found = described(node);
            let message = format!("must be ADDRESS or ADDRESS:PORT, found {found}");
            reader.bad_value(node, &path, message);
        }
        parsed
    };
    let destination = socket("expect_dst");
    let source = socket("expect_src");
    let mut of_denial = |key: &str, words: &[&'static str]| {
        let (node, path) = fields.take(key)?;
        if expect == Some("allow") {
            reader.bad_value(node, &path, "only a packet that is denied has one");
        }
        reader.word((node, path), words).map(str::to_owned)
    };
    let deny_stage = of_denial("deny_stage", STAGES);
    let reject = of_denial("reject", &["tcp-rst", "port-unreachable"]);
    Some(Expectation {
        allow: expect? == "allow",
        destination,
        source,
        deny_stage,
        reject,
    })
}

fn reject_case<'d>(
    reader: &mut Reader<'d>,
    node: &'d Node,
    path: &str,
    base: Compatibility,
) -> Option<RejectCase> {
    let mut fields = reader.fields(node, path)?;
    let name = fields.take("name").and_then(|name| reader.text(name));
    let manifest = fields.require(reader, "manifest");
    let manifest = manifest.and_then(|(node, path)| match node.as_str() {
        Some("ALL") => Some(None),
        _ if node.as_mapping().is_some() => Some(Some(as_document(reader, node))),
        _ => {
            let found = described(node);
            reader.bad_value(
                node,
                &path,
                format!("must be an object or ALL, found {found}"),
            );
            None
        }
    });
    let expect = fields.require(reader, "expect").and_then(|expect| {
        let receptions = [Reception::Accept, Reception::Reject, Reception::Warn];
        let word = reader.word(expect, &receptions.map(Reception::name))?;
        receptions
            .into_iter()
            .find(|reception| reception.name() == word)
    });
    let finding_path = fields.take("path").and_then(|path| reader.text(path));
    let reason = fields.take("reason_contains");
    let reason_contains = reason.and_then(|reason| reader.text(reason));
    let findings_before = reader.findings.len();
    let compatibility = compatibility(reader, &mut fields, base);
    // An unknown switch refuses the load, which may be just what is expected.
    let refused_switches = match expect {
        Some(Reception::Reject) => reader.findings.split_off(findings_before),
        _ => Vec::new(),
    };
    fields.take("why");
    fields.take("upstream");
    reader.finish(fields, REJECT_KEYS);
    Some(RejectCase {
        refused_switches,
        path: path.to_owned(),
        name: name.unwrap_or_default(),
        place: reader.document.place(node.position),
        manifest: manifest?,
        expect: expect?,
        finding_path,
        reason_contains,
        compatibility,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::cases::Socket;
    use crate::policy::compatibility::Established;
    use crate::policy::names::Resolver;
    use crate::wire::Family;

    fn read(text: &str) -> (Vec<Case>, Vec<String>) {
        let file = SourceFile {
            name: "c.yaml".into(),
            text: text.into(),
        };
        let (cases, findings) = parse(&file, Path::new("dir"));
        (cases, findings.iter().map(Finding::to_string).collect())
    }

    /// The one finding of a probe with these further fields.
    fn probe_finding(fields: &str) -> String {
        let text = format!(
            "id: c\nprobes:\n- {{from: x/a, to: x/b, proto: tcp, port: 80, expect: deny, {fields}}}"
        );
        let (cases, findings) = read(&text);
        assert_eq!(cases.len(), 1);
        assert!(cases[0].probes.is_empty(), "{fields} was taken");
        assert_eq!(findings.len(), 1, "{findings:?}");
        let place = "c.yaml:3:";
        assert!(findings[0].starts_with(place), "{findings:?}");
        findings[0].clone()
    }

    #[test]
    fn a_probe_with_every_field_of_this_version_is_read() {
        let (cases, findings) = read(
            "id: 7\ntitle: t\nsystem: np\nsource: s\nupstream: undefined\n\
             compat: {established: keep}\nmanifests_dir: objects\nmanifests_before: []\nprobes:\n\
             - {from: x/a, to: svc:x/b, proto: udp, port: 53, expect: deny, why: w, family: 6,\n\
             \x20  src_port: 1024, icmp_type: 8, hop_limit: 1, src_ip: 2001:db8::1,\n\
             \x20  dst_ip: 2001:db8::2, state: established-reply, expect_dst: '[2001:db8::3]:54',\n\
             \x20  expect_src: 2001:db8::1, deny_stage: NP, reject: tcp-rst, upstream: u}\n",
        );
        assert_eq!(findings, [""; 0]);
        let case = &cases[0];
        assert_eq!(case.name, "7");
        assert_eq!(case.compatibility.established, Established::Keep);
        assert!(matches!(&case.manifests, Manifests::Directory { path, .. }
            if path == Path::new("dir/objects")));
        assert!(case.manifests_before.is_some());
        let ProbeCase {
            path,
            place,
            probe,
            at_s: _,
            expectation,
            why,
        } = &case.probes[0];
        assert_eq!((&**path, place.line, place.column), ("probes[0]", 10, 3));
        assert_eq!(why.as_deref(), Some("w"));
        assert_eq!((probe.family, probe.port), (Some(Family::V6), Some(53)));
        assert_eq!((probe.source_port, probe.icmp_type), (Some(1024), Some(8)));
        assert_eq!(probe.state, State::EstablishedReply);
        let expected = Expectation {
            allow: false,
            destination: Some(Socket {
                address: "2001:db8::3".parse().unwrap(),
                port: Some(54),
            }),
            source: Some(Socket {
                address: "2001:db8::1".parse().unwrap(),
                port: None,
            }),
            deny_stage: Some("NP".into()),
            reject: Some("tcp-rst".into()),
        };
        assert_eq!(*expectation, expected);
    }

    #[test]
    fn unknown_keys_are_errors_at_their_place() {
        assert_eq!(
            probe_finding("prot: tcp"),
            "c.yaml:3:60: error: c: probes[0].prot: unknown key \"prot\"; did you mean \"proto\"? \
             [case-unknown-key]"
        );
        assert!(probe_finding("interface: eth0").contains("\"interface\"; known are from, to,"));
        let (cases, findings) = read("id: c\nprobe: []\nprobes: []");
        assert!(cases.is_empty());
        assert_eq!(
            findings,
            [
                "c.yaml:2:1: error: c: probe: unknown key \"probe\"; did you mean \"probes\"? \
              [case-unknown-key]"
            ]
        );
        let (_, findings) = read("id: c\nreject_cases:\n- {manifest: ALL, expect: warn, pth: x}");
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].contains("reject_cases[0].pth: unknown key"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_key_given_twice_is_reported_once() {
        let probe = "{from: x/a, from: x/a, to: x/b, proto: arp, expect: allow}";
        let (_, findings) = read(&format!("id: c\nprobes: [{probe}]"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("duplicate field \"probes[0].from\""));
    }

    #[test]
    fn a_case_or_file_that_checks_nothing_is_an_error() {
        for text in [
            "id: c",
            "id: c\nprobes: []",
            "id: c\nprobes: []\nreject_cases: []",
        ] {
            let (cases, findings) = read(text);
            assert!(cases.is_empty(), "{text}");
            assert_eq!(findings.len(), 1, "{text}");
            assert!(
                findings[0].contains("c.yaml:1:1: error: c: nothing to check"),
                "{text}"
            );
        }
        for text in ["", "# nothing\n", "---\n"] {
            let (_, findings) = read(text);
            assert_eq!(
                findings,
                ["c.yaml:1:1: error: no case in this file [case-value]"]
            );
        }
    }

    #[test]
    fn every_wrong_value_names_what_is_allowed() {
        for (fields, message) in [
            ("family: 5", "\"5\" is no family: 4 or 6"),
            (
                "src_port: 65536",
                "must be a number from 0 to 65535, found 65536",
            ),
            (
                "src_port: '80'",
                "must be a number from 0 to 65535, found \"80\"",
            ),
            (
                "icmp_type: 256",
                "must be a number from 0 to 255, found 256",
            ),
            ("hop_limit: -1", "must be a number from 0 to 255, found -1"),
            (
                "src_ip: x/a",
                "must be an IPv4 or IPv6 address, found \"x/a\"",
            ),
            ("dst_ip: 10.0.0.0/8", "must be an IPv4 or IPv6 address"),
            ("state: old", "\"old\" is no state: new, reply, related"),
            (
                "expect_dst: web",
                "must be ADDRESS or ADDRESS:PORT, found \"web\"",
            ),
            ("deny_stage: np", "must be one of L2, SG, Admin, NP, "),
            (
                "reject: icmp",
                "must be one of tcp-rst, port-unreachable, found \"icmp\"",
            ),
            ("why: [a]", "must be a text, found a list"),
            ("src_mac: 02-00", "no MAC address: six bytes in hexadecimal"),
            ("vlan: 4096", "must be a number from 0 to 4095, found 4096"),
            ("arp: {op: 1}", "only proto arp has one"),
            ("nd: {}", "only proto icmpv6 has one"),
        ] {
            let finding = probe_finding(fields);
            assert!(finding.contains(message), "{finding}");
            assert!(finding.ends_with("[case-value]"), "{finding}");
        }
    }

    #[test]
    fn names_and_their_timeline_are_read() {
        let probe = "probes: [{from: ip:::1, to: ip:::1, proto: arp, expect: allow, at: 7}]";
        let names = "dns: {n.example: {a: [192.0.2.1], aaaa: ['2001:db8::1'], ttl: 60}}\n\
                     dns_timeline:\n- {at: 5, fail: true}\n\
                     - {at: 9, records: {N.example.: {a: []}}}\n";
        let (cases, findings) = read(&format!("id: c\n{names}{probe}"));
        assert_eq!(findings, [""; 0]);
        assert_eq!(cases[0].probes[0].at_s, 7);
        let table = &cases[0].names;
        let answer = table.ask("n.example", 4).unwrap();
        assert_eq!(
            (answer.a.len(), answer.aaaa.len(), answer.ttl_s),
            (1, 1, Some(60))
        );
        assert_eq!(table.ask("n.example", 5), None);
        assert_eq!(table.ask("n.example", 9), Some(Default::default()));
        for (wrong, message) in [
            ("dns: []", "dns: must be a mapping of names, found a list"),
            (
                "dns: {a: {a: [x]}}",
                "dns.a.a[0]: must be an IPv4 address, found \"x\"",
            ),
            (
                "dns: {a: {ttl: -1}}",
                "dns.a.ttl: must be a number from 0 to",
            ),
            ("dns: {a: {mx: []}}", "dns.a.mx: unknown key"),
            (
                "dns_timeline: [{at: 1}]",
                "must have either records or fail: true",
            ),
            ("dns_timeline: [{fail: true}]", "\"at\" is required"),
        ] {
            let (cases, findings) = read(&format!("id: c\n{wrong}\n{probe}"));
            assert!(cases.is_empty(), "{wrong}");
            assert!(findings[0].contains(message), "{findings:?}");
        }
    }

    #[test]
    fn what_later_systems_need_is_refused_as_not_supported() {
        for fields in ["via: x/proxy", "method: GET", "status: 403"] {
            let finding = probe_finding(fields);
            assert!(
                finding.contains("is not supported yet [case-unsupported]"),
                "{finding}"
            );
        }
        let probe = "probes: [{from: ip:::1, to: ip:::1, proto: arp, expect: allow}]";
        // Egress-router environments say nothing of the probes beside them.
        let (cases, findings) = read(&format!("id: c\nconfig_cases: []\n{probe}"));
        assert_eq!((cases[0].probes.len(), findings.len()), (1, 1));
        let (_, findings) =
            read("probes: [{from: host:example.com, to: ip:::1, proto: arp, expect: allow}]");
        assert!(findings[0].contains("not supported yet"), "{findings:?}");
    }

    #[test]
    fn what_a_probe_must_have_is_asked_for() {
        let (cases, findings) = read("probes: [{}]");
        assert!(cases[0].probes.is_empty());
        for (finding, key) in findings.iter().zip(["from", "to", "proto", "expect"]) {
            assert!(finding.contains(&format!("document 1: probes[0]: \"{key}\" is required")));
        }
        assert_eq!(findings.len(), 4, "{findings:?}");
        let (_, findings) = read("probes: [{from: x/a, to: x/b, proto: sctp, expect: deny}]");
        assert!(findings[0].contains("\"port\" is required"), "{findings:?}");
        let (cases, findings) = read("probes: [{from: x/a, to: x/b, proto: icmp, expect: deny}]");
        assert_eq!((cases[0].probes.len(), findings.len()), (1, 0));
    }

    #[test]
    fn a_slip_in_one_probe_leaves_the_others() {
        let good = "{from: x/a, to: x/b, proto: icmp, expect: deny}";
        let (cases, findings) = read(&format!("probes: [{good}, {{from: x}}, {good}]"));
        let paths: Vec<_> = cases[0].probes.iter().map(|probe| &*probe.path).collect();
        assert_eq!(paths, ["probes[0]", "probes[2]"]);
        assert!(findings.iter().all(|finding| finding.contains("probes[1]")));
    }

    #[test]
    fn a_denial_that_is_not_expected_has_no_stage() {
        let probe = "{from: x/a, to: x/b, proto: icmp, expect: allow, deny_stage: NP}";
        let (_, findings) = read(&format!("probes: [{probe}]"));
        assert!(
            findings[0].contains("only a packet that is denied has one"),
            "{findings:?}"
        );
    }

    #[test]
    fn reject_cases_take_an_object_or_all_and_their_own_switches() {
        let (cases, findings) = read(
            "compat: {icmp: always}\nreject_cases:\n\
             - {name: n, manifest: {kind: Pod}, expect: reject, path: p, reason_contains: r,\n\
             \x20  compat: {established: keep}}\n\
             - {name: all, manifest: ALL, expect: accept}\n",
        );
        assert_eq!(findings, [""; 0]);
        let [one, all] = &cases[0].reject_cases[..] else {
            panic!()
        };
        assert_eq!(one.compatibility.established, Established::Keep);
        assert_ne!(one.compatibility.icmp, Compatibility::default().icmp);
        assert_eq!(one.manifest.as_ref().unwrap().root.position.line, 3);
        assert_eq!(one.expect, Reception::Reject);
        assert!(all.manifest.is_none());
        assert_ne!(all.compatibility, one.compatibility);
        for (reject_case, message) in [
            (
                "{manifest: all, expect: accept}",
                "must be an object or ALL, found \"all\"",
            ),
            ("{expect: accept}", "\"manifest\" is required"),
            (
                "{manifest: ALL, expect: deny}",
                "must be one of accept, reject, warn",
            ),
        ] {
            let (_, findings) = read(&format!("reject_cases: [{reject_case}]"));
            assert!(findings[0].contains(message), "{findings:?}");
        }
        let unknown = "{manifest: ALL, expect: reject, compat: {icmp: sometimes}}";
        let (cases, findings) = read(&format!("reject_cases: [{unknown}]"));
        assert_eq!(findings, [""; 0]);
        let refused = &cases[0].reject_cases[0].refused_switches;
        assert!(refused[0].message.contains("unknown value \"sometimes\""));
    }

    #[test]
    fn a_document_that_is_no_case_says_so_and_the_next_is_read() {
        let case = "probes: [{from: ip:::1, to: ip:::2, proto: icmp, expect: allow}]";
        let (cases, findings) = read(&format!("- a\n---\nid: c\n---\n---\n{case}\n"));
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].name, "document 4");
        assert_eq!(findings.len(), 2);
        assert!(
            findings[0].contains("must be a mapping, found a list"),
            "{findings:?}"
        );
        assert!(findings[1].contains("nothing to check"), "{findings:?}");
    }
}
