//! Runs a case: loads its manifests, judges its probes, compares.

use std::net::IpAddr;

use super::{Case, Manifests, ProbeCase, Reception, RejectCase, Socket};
use crate::classifier::RuleVerdict;
use crate::classifier::tree::Limits;
use crate::control::decide::Decider;
use crate::control::explain;
use crate::control::judge::{self, JudgeError, Judgement};
use crate::control::layer2;
use crate::policy::document::{self, Document};
use crate::policy::openshift::{SourceAfter, source_after};
use crate::policy::{self, Compatibility, Finding, Loaded, Names, Place, Severity};

/// What running a case gave.
#[derive(Debug, Default)]
pub struct Run {
    /// One per probe and reject case that could be run, in order.
    pub outcomes: Vec<Outcome>,
    /// Why others could not; and warnings about manifests this version does not read.
    pub findings: Vec<Finding>,
}

/// What one probe or reject case gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the case.
    pub case: String,
    /// `probes[3]` or `reject_cases[0]`.
    pub path: String,
    /// Where it is written.
    pub place: Place,
    /// The packet, or the reject case's name.
    pub subject: String,
    /// What was expected, with whatever else was expected if only that differs.
    pub expect: String,
    /// What came, in the same words: equal to `expect` exactly when all expectations are met.
    pub got: String,
    /// Short name of the family that decided.
    pub stage: Option<&'static str>,
    /// Label of the deciding rule.
    pub rule: Option<String>,
    /// Where that rule, or the deciding finding, is written.
    pub rule_place: Option<Place>,
    /// Why, in one line.
    pub reason: String,
    /// The author's reason for the expectation.
    pub why: Option<String>,
}

impl Outcome {
    /// Were all expectations met?
    pub fn passed(&self) -> bool {
        self.expect == self.got
    }
}

/// Runs every probe and reject case.
pub fn run(case: &Case) -> Run {
    let mut run = Run::default();
    // Manifests that nothing is asked of are held to be in order all the same.
    if !case.probes.is_empty() || case.reject_cases.is_empty() {
        run.probes(case);
    }
    for reject_case in &case.reject_cases {
        run.reject_case(case, reject_case);
    }
    run
}

impl Run {
    fn probes(&mut self, case: &Case) {
        let names = |at_s| Names::at(&case.names, case.compatibility.enp_generation, at_s);
        let Some(now) = self.decider(case, &case.manifests, &names(0)) else {
            return;
        };
        // One for each state of the names that a probe meets.
        let mut later: Vec<Decider> = Vec::new();
        let before = match &case.manifests_before {
            Some(manifests) => match self.decider(case, manifests, &names(0)) {
                Some(before) => Some(before),
                None => return,
            },
            None => None,
        };
        for probe in &case.probes {
            let names = names(probe.at_s);
            let has_names = |decider: &&Decider| decider.policy().names == names;
            if !has_names(&&now) && !later.iter().any(|one| has_names(&one)) {
                later.extend(self.decider(case, &case.manifests, &names));
            }
            let now = later.iter().find(has_names).unwrap_or(&now);
            match judge::judge(&probe.probe, now, before.as_ref().unwrap_or(now)) {
                Ok(judgement) => {
                    let decider = match (judgement.question, &before) {
                        (judge::Question::Kept, Some(before)) => before,
                        _ => now,
                    };
                    self.outcomes
                        .push(outcome(case, probe, decider, &judgement));
                }
                Err(error) => {
                    let id = match error {
                        JudgeError::Resolve(_) => "case-endpoint",
                        JudgeError::Disagreement(_) => "internal",
                    };
                    self.error(case, id, &probe.place, &probe.path, error.to_string());
                }
            }
        }
    }

    fn decider(&mut self, case: &Case, manifests: &Manifests, names: &Names) -> Option<Decider> {
        let (documents, findings) = self.documents(case, manifests)?;
        let loaded = policy::load_documents(&documents, findings, &case.compatibility, names);
        let refused = loaded.policy.is_none();
        let worth_saying =
            |finding: &Finding| finding.severity == Severity::Error || finding.id == UNREAD_KIND;
        let findings = loaded.findings.into_iter().filter(worth_saying);
        for finding in findings.map(|finding| of_case(case, finding)) {
            // The same objects may be loaded again, with other addresses for names.
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        if refused {
            let message = "the manifests are refused, so no probe was run";
            self.error(
                case,
                "case-manifests",
                &case.place,
                "manifests",
                message.into(),
            );
        }
        match Decider::new(loaded.policy?, &Limits::default()) {
            Ok(decider) => Some(decider),
            Err(error) => {
                let message = error.to_string();
                self.error(case, "case-manifests", &case.place, "manifests", message);
                None
            }
        }
    }

    /// The objects, and what parsing them had to say.
    fn documents(
        &mut self,
        case: &Case,
        manifests: &Manifests,
    ) -> Option<(Vec<Document>, Vec<Finding>)> {
        match manifests {
            Manifests::Inline(documents) => Some((documents.clone(), Vec::new())),
            Manifests::Directory { path, place } => match policy::read_directory(path) {
                Ok(files) => {
                    let mut all = (Vec::new(), Vec::new());
                    for file in &files {
                        let (documents, findings) = document::parse(file);
                        all.0.extend(documents);
                        all.1.extend(findings);
                    }
                    Some(all)
                }
                Err(error) => {
                    let message = error.to_string();
                    self.error(case, "case-manifests", place, "manifests_dir", message);
                    None
                }
            },
        }
    }

    fn reject_case(&mut self, case: &Case, reject_case: &RejectCase) {
        let Some((documents, findings)) = self.documents(case, &case.manifests) else {
            return;
        };
        let load = |documents: &[Document], compatibility: &Compatibility| -> Loaded {
            let names = Names::at(&case.names, compatibility.enp_generation, 0);
            policy::load_documents(documents, findings.clone(), compatibility, &names)
        };
        if !reject_case.refused_switches.is_empty() {
            let outcome = reception(case, reject_case, &reject_case.refused_switches);
            self.outcomes.push(outcome);
            return;
        }
        let compatibility = &reject_case.compatibility;
        let without = load(&documents, compatibility);
        let Some(manifest) = &reject_case.manifest else {
            let outcome = reception(case, reject_case, &without.findings);
            self.outcomes.push(outcome);
            return;
        };
        // A set that is refused anyway says nothing of the object added to it.
        if without.policy.is_none() {
            let errors = without.findings.into_iter();
            let errors = errors.filter(|finding| finding.severity == Severity::Error);
            self.findings
                .extend(errors.map(|finding| of_case(case, finding)));
            let message = "the case's manifests are refused even without this object".to_owned();
            self.error(
                case,
                "case-manifests",
                &reject_case.place,
                &reject_case.path,
                message,
            );
            return;
        }
        let mut with = documents.clone();
        with.push(manifest.clone());
        let mut findings = load(&with, compatibility).findings;
        findings.retain(|finding| !without.findings.contains(finding));
        self.outcomes.push(reception(case, reject_case, &findings));
    }

    fn error(&mut self, case: &Case, id: &'static str, place: &Place, path: &str, message: String) {
        self.findings.push(Finding {
            severity: Severity::Error,
            id,
            place: place.clone(),
            document: 1,
            object: case.name.clone(),
            path: path.to_owned(),
            message,
        });
    }
}

/// The warning about an object of a kind that is not read: verdicts of the case may be wrong.
const UNREAD_KIND: &str = "unknown-kind";

fn of_case(case: &Case, mut finding: Finding) -> Finding {
    finding.object = match finding.object.is_empty() {
        true => case.name.clone(),
        false => format!("{}: {}", case.name, finding.object),
    };
    finding
}

fn outcome(case: &Case, probe: &ProbeCase, decider: &Decider, judgement: &Judgement) -> Outcome {
    let dropped = judgement.dropped();
    let opinion = judgement
        .decision
        .as_ref()
        .filter(|_| dropped.is_none())
        .and_then(|decision| decision.deciding());
    let secured = dropped.and_then(explain::secured_by);
    let origin = opinion.and_then(|opinion| decider.origin(opinion));
    let written = origin.and_then(|origin| origin.place());
    // What isolates is written somewhere, though the denial that follows from it is not.
    let isolating = || {
        let denial = opinion.filter(|opinion| opinion.verdict == RuleVerdict::Deny)?;
        let key = judgement.key()?;
        let isolation = explain::isolation(decider.policy(), key, denial);
        isolation.into_iter().find_map(|by| by.place)
    };
    let verdict = |allow| if allow { "allow" } else { "deny" };
    let mut expect = verdict(probe.expectation.allow).to_owned();
    let mut got = verdict(judgement.allow).to_owned();
    if expect == got {
        for (wanted, found) in details(probe, decider, judgement) {
            if wanted != found {
                expect.push_str(&format!(" {wanted}"));
                got.push_str(&format!(" {found}"));
            }
        }
    }
    Outcome {
        case: case.name.clone(),
        path: probe.path.clone(),
        place: probe.place.clone(),
        subject: probe.probe.to_string(),
        expect,
        got,
        stage: match dropped {
            Some(_) => Some(layer2::FAMILY),
            None => opinion.map(|opinion| opinion.family()),
        },
        rule: match &secured {
            Some(by) => Some(by.name.clone()),
            None => origin.map(|origin| origin.label.clone()),
        },
        rule_place: secured
            .and_then(|by| by.place)
            .or(written)
            .or_else(isolating),
        reason: explain::summary(decider, judgement),
        why: probe.why.clone(),
    }
}

/// What was expected beside the verdict, and what came instead.
fn details(probe: &ProbeCase, decider: &Decider, judgement: &Judgement) -> Vec<(String, String)> {
    let mut details = Vec::new();
    let expectation = &probe.expectation;
    if let Some(wanted) = &expectation.deny_stage {
        let denial = judgement
            .decision
            .as_ref()
            .and_then(|decision| decision.denial());
        let found = match judgement.dropped() {
            Some(_) => layer2::FAMILY,
            None => denial.map_or("none", |denial| denial.family()),
        };
        details.push((format!("at {wanted}"), format!("at {found}")));
    }
    if let Some(wanted) = &expectation.reject {
        // NetworkPolicy has no answer but silence.
        details.push((format!("with {wanted}"), "in silence".to_owned()));
    }
    let (source, destination) = on_the_wire(probe, decider, judgement);
    for (preposition, wanted, found) in [
        ("from", expectation.source, source),
        ("to", expectation.destination, destination),
    ] {
        let Some(wanted) = wanted else { continue };
        let found = found.map(|found| Socket {
            port: found.port.filter(|_| wanted.port.is_some()),
            ..found
        });
        let found = found.map_or("none".into(), |found| found.to_string());
        details.push((
            format!("{preposition} {wanted}"),
            format!("{preposition} {found}"),
        ));
    }
    details
}

/// Source and destination of the probe's packet after translation.
fn on_the_wire(
    probe: &ProbeCase,
    decider: &Decider,
    judgement: &Judgement,
) -> (Option<Socket>, Option<Socket>) {
    let Some(key) = judgement.key() else {
        return (None, None);
    };
    let has_ports = probe.probe.protocol.has_ports();
    let socket = |address: crate::wire::Address, port| Socket {
        address: address.to_ip(key.family),
        port: has_ports.then_some(port),
    };
    let source = socket(key.source, key.source_port);
    let destination = socket(key.destination, key.destination_port);
    if !judge::answers(probe.probe.state) {
        let wanted = probe.expectation.source.map(|wanted| wanted.address);
        let after = match source_after(decider.policy(), key) {
            SourceAfter::Own => Some(source.address),
            SourceAfter::Node(address) => Some(address),
            // Any of them may be taken.
            SourceAfter::Egress(all) => {
                let mut all = all.into_iter().map(IpAddr::V4);
                let first = all.clone().next();
                all.find(|one| Some(*one) == wanted).or(first)
            }
            SourceAfter::Dropped => None,
        };
        let source = after.map(|address| Socket { address, ..source });
        return (source, Some(destination));
    }
    // An answer of a translated flow leaves with the address its question was sent to.
    let translated = judgement.translation.as_ref().and_then(|translation| {
        Some(Socket {
            address: translation.cluster_address?,
            port: has_ports.then_some(translation.port),
        })
    });
    (Some(translated.unwrap_or(destination)), Some(source))
}

/// Compares how a set is received with what is expected of it.
fn reception(case: &Case, reject_case: &RejectCase, findings: &[Finding]) -> Outcome {
    let wanted = match reject_case.expect {
        Reception::Warn => Severity::Warning,
        Reception::Accept | Reception::Reject => Severity::Error,
    };
    let refusal = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    let warning = findings
        .iter()
        .find(|finding| finding.severity == Severity::Warning);
    let received = match (refusal, warning, reject_case.expect) {
        (Some(_), _, _) => Reception::Reject,
        (None, Some(_), Reception::Warn) => Reception::Warn,
        // A warning is no refusal: what only warns is accepted, unless the warning is wanted.
        (None, _, _) => Reception::Accept,
    };
    let mut expect = reject_case.expect.name().to_owned();
    let mut got = received.name().to_owned();
    let mut decisive = refusal.or(warning);
    if expect == got && reject_case.expect != Reception::Accept {
        let fits = |finding: &&Finding| {
            let path = reject_case.finding_path.as_ref();
            let reason = reject_case.reason_contains.as_ref();
            finding.severity == wanted
                && path.is_none_or(|path| finding.path == *path)
                && reason.is_none_or(|reason| finding.message.contains(reason.as_str()))
        };
        match findings.iter().find(fits) {
            Some(finding) => decisive = Some(finding),
            None => {
                let found = decisive.map_or(("", ""), |one| (&*one.path, &*one.message));
                if let Some(path) = &reject_case.finding_path {
                    expect.push_str(&format!(" at {path}"));
                    got.push_str(&format!(" at {}", found.0));
                }
                if let Some(reason) = &reject_case.reason_contains {
                    expect.push_str(&format!(" because {reason}"));
                    got.push_str(&format!(" because {}", found.1));
                }
            }
        }
    }
    Outcome {
        case: case.name.clone(),
        path: reject_case.path.clone(),
        place: reject_case.place.clone(),
        subject: reject_case.name.clone(),
        expect,
        got,
        stage: None,
        rule: decisive.map(|finding| finding.object.clone()),
        rule_place: decisive.map(|finding| finding.place.clone()),
        reason: decisive.map_or("nothing found".into(), |finding| match &*finding.path {
            "" => finding.message.clone(),
            path => format!("{path}: {}", finding.message),
        }),
        why: None,
    }
}
