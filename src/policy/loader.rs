//! Loading a set of manifests again and again, reading only what has changed.
//!
//! Files are taken apart at their document markers ([`split`]). A document whose text is the same as
//! before, wherever it stands now, is not read again; while only policies change, neither are pods,
//! namespaces, nodes and networks put together again, and the rules of what stayed are taken over
//! ([`compile::Before`]). Anything else is loaded from the beginning. Both ways give the same set.
//!
//! [`split`]: super::document::split

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

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
    /// The policies in it, if any.
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
        policies: (!own.policies.is_empty()).then(|| Box::new(own.policies.clone())),
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

/// How files differ from those read before.
struct Difference {
    /// In the order of the new files.
    files: Vec<FileDifference>,
    /// Positions of files that are not there any more.
    removed: Vec<usize>,
}

struct FileDifference {
    file: Arc<SourceFile>,
    /// Position of the file before; `None` where there was none.
    before: Option<usize>,
    /// Documents at its beginning and end that stay.
    stay: (usize, usize),
    /// What is between them now.
    new: Vec<Chunk>,
    /// Documents at its end, where they stand now.
    moved: Vec<(Range<usize>, u32, u32)>,
}

impl Difference {
    /// `None` where something else than policies differs, or where it cannot be told.
    fn new(
        before: &[ReadFile],
        files: &[SourceFile],
        compatibility: &Compatibility,
    ) -> Option<Self> {
        let names = before.iter().map(|one| &*one.file.name).zip(0..);
        let mut names: HashMap<&str, usize> = names.collect();
        let mut difference = Difference {
            files: Vec::new(),
            removed: Vec::new(),
        };
        for file in files {
            let position = names.remove(&*file.name);
            let known = position.map(|position| &before[position]);
            let of_file = FileDifference::new(known, position, file, compatibility)?;
            difference.files.push(of_file);
        }
        difference.removed = names.into_values().collect();
        let gone = difference.gone(before);
        let new = difference.files.iter().flat_map(|file| &file.new);
        let mut touched = gone.into_iter().chain(new);
        (!touched.any(|chunk| chunk.has_world)).then_some(difference)
    }

    /// Every policy there is now, in the order of files.
    fn policies(&self, before: &[ReadFile]) -> Policies {
        let mut policies = Policies::default();
        for file in &self.files {
            let known = file
                .before
                .map_or(&[][..], |position| &before[position].chunks);
            let (first, last) = file.stay;
            let stay = (&known[..first], &known[known.len() - last..]);
            for chunk in stay.0.iter().chain(&file.new).chain(stay.1) {
                if let Some(own) = &chunk.policies {
                    policies.append((**own).clone());
                }
            }
        }
        policies
    }

    /// The documents that are not there any more.
    fn gone<'b>(&self, before: &'b [ReadFile]) -> Vec<&'b Chunk> {
        let of_file = |(position, first, last): (usize, usize, usize)| {
            let chunks = &before[position].chunks;
            &chunks[first..chunks.len() - last]
        };
        let changed = self.files.iter().filter_map(|file| {
            let (first, last) = file.stay;
            Some((file.before?, first, last))
        });
        let removed = self.removed.iter().map(|position| (*position, 0, 0));
        changed.chain(removed).flat_map(of_file).collect()
    }

    /// Everything there is to say of the documents there are now.
    fn findings(&self, before: &[ReadFile]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for file in &self.files {
            let known = file
                .before
                .map_or(&[][..], |position| &before[position].chunks);
            for chunk in known[..file.stay.0].iter().chain(&file.new) {
                findings.extend(chunk.findings.iter().cloned());
            }
            for (chunk, (_, lines, documents)) in file.stay_behind(before).iter().zip(&file.moved) {
                findings.extend(chunk.findings_at(*lines, *documents));
            }
        }
        findings
    }

    /// Lets messages name the lines documents have now.
    fn move_documents(&self, before: &[ReadFile]) {
        for file in &self.files {
            let stay = file.stay_behind(before).iter().zip(&file.moved);
            for (chunk, (_, lines_before, documents_before)) in stay {
                chunk.move_stands(*lines_before, *documents_before);
            }
        }
    }

    /// And those they had when they were loaded.
    fn move_documents_back(&self, before: &[ReadFile]) {
        let stay = self.files.iter().flat_map(|file| file.stay_behind(before));
        stay.for_each(|chunk| chunk.move_stands(chunk.lines_before, chunk.documents_before));
    }

    /// What has been read now.
    fn apply(self, before: Vec<ReadFile>) -> Vec<ReadFile> {
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let files = self.files.into_iter().map(|file| {
            let known = file.before.and_then(|position| before[position].take());
            file.apply(known)
        });
        files.collect()
    }
}

impl FileDifference {
    fn new(
        known: Option<&ReadFile>,
        before: Option<usize>,
        file: &SourceFile,
        compatibility: &Compatibility,
    ) -> Option<Self> {
        let old = known.map_or(&[][..], |known| &known.chunks);
        if let Some(known) = known.filter(|known| known.file.text == file.text) {
            return Some(FileDifference {
                file: known.file.clone(),
                before,
                stay: (old.len(), 0),
                new: Vec::new(),
                moved: Vec::new(),
            });
        }
        if known.is_some_and(|known| known.is_whole) {
            return None;
        }
        let text = text_of(file);
        let old_text = known.map_or("", |known| text_of(&known.file));
        let mut pieces = split(text)?;
        let same = |(chunk, piece): &(&Chunk, &super::document::split::Piece)| {
            old_text[chunk.bytes.clone()] == text[piece.bytes.clone()]
        };
        let first = old.iter().zip(&pieces).take_while(same).count();
        let rest = (&old[first..], &pieces[first..]);
        let last = rest
            .0
            .iter()
            .rev()
            .zip(rest.1.iter().rev())
            .take_while(same);
        let last = last.count();
        let moved = pieces.split_off(pieces.len() - last).into_iter();
        let moved = moved.map(|one| (one.bytes, one.lines_before, one.documents_before));
        let mut unused = Objects::default();
        let mut new = Vec::new();
        for piece in pieces.into_iter().skip(first) {
            let part = Part {
                file: Arc::from(&*file.name),
                documents_before: piece.documents_before,
                lines_before: piece.lines_before,
                text: &text[piece.bytes.clone()],
            };
            let read = read_part(&part, piece.bytes, compatibility, &mut unused);
            if read.is_broken || read.aliased > 0 {
                return None;
            }
            new.push(read.chunk);
        }
        Some(FileDifference {
            file: Arc::new(file.clone()),
            before,
            stay: (first, last),
            new,
            moved: moved.collect(),
        })
    }

    /// The documents at its end that stay.
    fn stay_behind<'b>(&self, before: &'b [ReadFile]) -> &'b [Chunk] {
        let chunks = self
            .before
            .map_or(&[][..], |position| &before[position].chunks);
        &chunks[chunks.len() - self.stay.1..]
    }

    fn apply(self, known: Option<ReadFile>) -> ReadFile {
        let is_whole = known.as_ref().is_some_and(|known| known.is_whole);
        let mut chunks = known.map(|known| known.chunks).unwrap_or_default();
        let (first, last) = self.stay;
        let behind = chunks.len() - last;
        for (chunk, (bytes, lines_before, documents_before)) in
            chunks[behind..].iter_mut().zip(self.moved)
        {
            chunk.move_to(bytes, lines_before, documents_before);
        }
        chunks.splice(first..behind, self.new);
        ReadFile {
            file: self.file,
            chunks,
            is_whole,
        }
    }
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
