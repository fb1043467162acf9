//! Loading a set of manifests again and again, reading only what has changed.
//!
//! Files are taken apart at their document markers ([`split`]). A document whose text is the same
//! as before, wherever it stands now, is not read again; while only policies change, neither are
//! pods, namespaces, nodes and networks put together again, and the rules of what stayed are taken
//! over ([`compile::Before`]). Anything else is loaded from the beginning. Both ways give the same
//! set.
//!
//! [`split`]: super::document::split
//! [`compile::Before`]: super::compile::Before

mod difference;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use self::difference::Difference;
use super::compatibility::MultiNetworkDialect;
use super::decode::{Objects, decode};
use super::document::split::split;
use super::document::{ALIASED_NODES_MAX, Part, Stand, parse_part};
use super::finding::id;
use super::load::{self, assemble_after, is_refused, lint_all, report_policies};
use super::{Compatibility, Finding, Names, Policies, PolicySet, SourceFile, Subnet};

/// Pods and policies up to which warnings are worked out before a set comes into force.
const LINTED_AT_ONCE_MAX: usize = 5_000;

/// Loads sets of manifests, one after another.
pub struct Loader {
    compatibility: Compatibility,
    names: Names,
    last: Option<Last>,
}

/// What loading gave.
pub struct Loading {
    /// Everything there is to say, sorted by place; warnings that ask for the whole set may be yet
    /// to come.
    pub findings: Vec<Finding>,
    /// The policies in force; `None` exactly when a finding is an error.
    pub policy: Option<Arc<PolicySet>>,
    /// Works out the warnings that are yet to come.
    pub later: Option<LaterFindings>,
}

/// Warnings that need not be known before a set is in force.
pub struct LaterFindings {
    set: Arc<PolicySet>,
    subnets: Arc<[Subnet]>,
}

impl LaterFindings {
    /// Works them out; sorted by place.
    pub fn find(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        lint_all(&self.set, &self.subnets, &mut findings);
        findings.sort_by(|one, other| one.place.cmp(&other.place));
        findings
    }
}

/// The set loaded last, and what it was read from.
struct Last {
    files: Vec<ReadFile>,
    set: Arc<PolicySet>,
    subnets: Arc<[Subnet]>,
}

/// A file that has been read.
struct ReadFile {
    file: Arc<SourceFile>,
    /// In order, together the whole text.
    chunks: Vec<Chunk>,
    /// The text cannot be taken apart: all of it is one chunk.
    is_whole: bool,
}

/// A document as it was read.
struct Chunk {
    /// Of the text behind a byte order mark.
    bytes: Range<usize>,
    lines_before: u32,
    documents_before: u32,
    /// Nothing where the document is empty.
    stands: Vec<Arc<Stand>>,
    /// The policies in it, and what it says of OpenShift's network, if anything.
    policies: Option<Box<Policies>>,
    /// Is there anything else in it that counts?
    has_world: bool,
    findings: Vec<Finding>,
}

impl Loader {
    /// Nothing loaded yet. Names in rules have the addresses of `names`.
    pub fn new(compatibility: Compatibility, names: Names) -> Self {
        Loader {
            compatibility,
            names,
            last: None,
        }
    }

    /// Loads a set. One that is refused changes nothing of what is remembered.
    pub fn load(&mut self, files: &[SourceFile]) -> Loading {
        if let Some(loading) = self.load_difference(files) {
            return loading;
        }
        let mut objects = Objects::default();
        let mut findings = Vec::new();
        let read: Vec<_> = files
            .iter()
            .map(|file| read_file(file, &self.compatibility, &mut objects, &mut findings))
            .collect();
        let subnets: Arc<[Subnet]> = objects.subnets.clone().into();
        let loaded = load::complete(objects, findings, &self.compatibility, &self.names);
        let policy = loaded.policy.map(Arc::new);
        if let Some(set) = &policy {
            self.last = Some(Last {
                files: read,
                set: set.clone(),
                subnets,
            });
        }
        Loading {
            findings: loaded.findings,
            policy,
            later: None,
        }
    }

    /// As [`Loader::load`], where no more than policies have changed.
    fn load_difference(&mut self, files: &[SourceFile]) -> Option<Loading> {
        let last = self.last.as_mut()?;
        let difference = Difference::new(&last.files, files, &self.compatibility)?;
        let policies = difference.policies(&last.files);
        let gone = difference.gone(&last.files);
        if !last.set.has_namespaces_of(&policies, gone) {
            return None;
        }
        let ovn = self.compatibility.mnp_compat == MultiNetworkDialect::OvnKubernetes;
        let before = &last.set.policies.multi_network_policies;
        if ovn && *before != policies.multi_network_policies {
            return None;
        }
        let mut findings = difference.findings(&last.files);
        difference.move_documents(&last.files);
        let policies = report_policies(policies, &mut findings);
        if is_refused(&findings) {
            difference.move_documents_back(&last.files);
            findings.sort_by(|one, other| one.place.cmp(&other.place));
            return Some(Loading {
                findings,
                policy: None,
                later: None,
            });
        }
        let set = Arc::new(assemble_after(policies, &last.set));
        last.files = difference.apply(std::mem::take(&mut last.files));
        last.set = set.clone();
        let mut later = Some(LaterFindings {
            set: set.clone(),
            subnets: last.subnets.clone(),
        });
        if set.policies.len() + set.inventory.pods().len() <= LINTED_AT_ONCE_MAX {
            findings.extend(later.take().into_iter().flat_map(|later| later.find()));
        }
        findings.sort_by(|one, other| one.place.cmp(&other.place));
        Some(Loading {
            findings,
            policy: Some(set),
            later,
        })
    }
}

/// Reads a file document by document, or as a whole where that is not possible.
fn read_file(
    file: &SourceFile,
    compatibility: &Compatibility,
    objects: &mut Objects,
    findings: &mut Vec<Finding>,
) -> ReadFile {
    let name: Arc<str> = Arc::from(&*file.name);
    let text = text_of(file);
    let by_piece = split(text).and_then(|pieces| {
        let mut of_file = Objects::default();
        let mut chunks = Vec::with_capacity(pieces.len());
        let mut aliased = 0;
        for piece in pieces {
            let part = Part {
                file: name.clone(),
                documents_before: piece.documents_before,
                lines_before: piece.lines_before,
                text: &text[piece.bytes.clone()],
            };
            let read = read_part(&part, piece.bytes, compatibility, &mut of_file);
            aliased += read.aliased;
            if read.is_broken || aliased > ALIASED_NODES_MAX {
                return None;
            }
            chunks.push(read.chunk);
        }
        Some((of_file, chunks))
    });
    let is_whole = by_piece.is_none();
    let (of_file, chunks) = by_piece.unwrap_or_else(|| {
        let mut of_file = Objects::default();
        let part = Part {
            file: name,
            documents_before: 0,
            lines_before: 0,
            text,
        };
        let read = read_part(&part, 0..text.len(), compatibility, &mut of_file);
        (of_file, vec![read.chunk])
    });
    findings.extend(chunks.iter().flat_map(|chunk| chunk.findings.clone()));
    objects.append(of_file);
    ReadFile {
        file: Arc::new(file.clone()),
        chunks,
        is_whole,
    }
}

/// A part of a file, read.
struct ReadPart {
    chunk: Chunk,
    aliased: usize,
    /// Only the file as a whole can tell what is meant.
    is_broken: bool,
}

fn read_part(
    part: &Part,
    bytes: Range<usize>,
    compatibility: &Compatibility,
    objects: &mut Objects,
) -> ReadPart {
    let parsed = parse_part(part);
    let mut findings = parsed.findings;
    let is_broken = findings.iter().any(|finding| finding.id == id::SYNTAX);
    let own = decode(&parsed.documents, compatibility, &mut findings);
    let chunk = Chunk {
        bytes,
        lines_before: part.lines_before,
        documents_before: part.documents_before,
        stands: parsed.documents.into_iter().map(|one| one.stand).collect(),
        has_world: own.has_world(),
        policies: own
            .policies
            .holds_any()
            .then(|| Box::new(own.policies.clone())),
        findings,
    };
    objects.append(own);
    ReadPart {
        chunk,
        aliased: parsed.aliased,
        is_broken,
    }
}

/// The text behind a byte order mark, from which columns count.
fn text_of(file: &SourceFile) -> &str {
    file.text.strip_prefix('\u{feff}').unwrap_or(&file.text)
}

impl Chunk {
    /// What there is to say of it when so many lines and documents stand before it.
    fn findings_at(&self, lines: u32, documents: u32) -> impl Iterator<Item = Finding> + '_ {
        self.findings.iter().cloned().map(move |mut finding| {
            finding.place.line = finding.place.line - self.lines_before + lines;
            finding.document = finding.document - self.documents_before + documents;
            finding
        })
    }

    fn move_stands(&self, lines_before: u32, documents_before: u32) {
        for (stand, number) in self.stands.iter().zip(1..) {
            stand.move_to(documents_before + number, lines_before);
        }
    }

    fn move_to(&mut self, bytes: Range<usize>, lines_before: u32, documents_before: u32) {
        let here = (self.lines_before, self.documents_before);
        self.bytes = bytes;
        if here == (lines_before, documents_before) {
            return;
        }
        self.findings = self.findings_at(lines_before, documents_before).collect();
        (self.lines_before, self.documents_before) = (lines_before, documents_before);
    }
}

impl PolicySet {
    /// Are the namespaces of these policies known, and do those of the ones that are gone exist
    /// without them?
    fn has_namespaces_of(&self, policies: &Policies, gone: Vec<&Chunk>) -> bool {
        let wanted: BTreeSet<_> = policies.namespaces().collect();
        let known = |name: &String| self.inventory.namespace(name).is_some();
        let gone = gone
            .into_iter()
            .filter_map(|chunk| chunk.policies.as_deref());
        let mut gone = gone.flat_map(|policies| policies.namespaces().collect::<Vec<_>>());
        let remains = |name: String| {
            let written = self
                .inventory
                .namespace(&name)
                .is_some_and(|one| one.source.is_some());
            written || wanted.contains(&name) || !self.inventory.pods_in(&name).is_empty()
        };
        wanted.iter().all(known) && gone.all(remains)
    }
}
