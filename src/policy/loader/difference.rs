//! How the files of a set differ from those read before.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Chunk, ReadFile, read_part, text_of};
use crate::policy::decode::Objects;
use crate::policy::document::Part;
use crate::policy::document::split::{Piece, split};
use crate::policy::{Compatibility, Finding, Policies, SourceFile};

/// How files differ from those read before.
pub(super) struct Difference {
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
    pub(super) fn new(
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
    pub(super) fn policies(&self, before: &[ReadFile]) -> Policies {
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
    pub(super) fn gone<'b>(&self, before: &'b [ReadFile]) -> Vec<&'b Chunk> {
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
    pub(super) fn findings(&self, before: &[ReadFile]) -> Vec<Finding> {
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
    pub(super) fn move_documents(&self, before: &[ReadFile]) {
        for file in &self.files {
            let stay = file.stay_behind(before).iter().zip(&file.moved);
            for (chunk, (_, lines_before, documents_before)) in stay {
                chunk.move_stands(*lines_before, *documents_before);
            }
        }
    }

    /// And those they had when they were loaded.
    pub(super) fn move_documents_back(&self, before: &[ReadFile]) {
        let stay = self.files.iter().flat_map(|file| file.stay_behind(before));
        stay.for_each(|chunk| chunk.move_stands(chunk.lines_before, chunk.documents_before));
    }

    /// What has been read now.
    pub(super) fn apply(self, before: Vec<ReadFile>) -> Vec<ReadFile> {
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
        let same = |(chunk, piece): &(&Chunk, &Piece)| {
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
