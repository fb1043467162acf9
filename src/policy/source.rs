//! Manifest files: found, read, bounded, and read again.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Largest sum of file sizes one directory may have, in bytes.
pub const SOURCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Deepest nesting of directories followed, so that a symbolic link to a parent ends.
const DEPTH_MAX: usize = 16;

/// Age a file's times must have to tell that it has not changed since: two changes within one tick
/// of the file system's clock (10 ms; seconds on old systems) leave the same times.
const SETTLED_AGE: Duration = Duration::from_secs(2);

/// One file of manifests: YAML (any number of documents) or JSON.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path as messages name it.
    pub name: String,
    /// Its whole text; the very same one as long as it does not change.
    pub text: Arc<str>,
}

/// How thoroughly files are read that have been read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All of them.
    Everything,
    /// Not those whose size and times tell that they are what they were.
    Changes,
}

/// A complete set of manifests.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The files, sorted by path.
    pub files: Vec<SourceFile>,
    /// Of their names and texts.
    pub digest: SourceDigest,
}

/// Content of a set of manifests: changes exactly when a name or a text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceDigest(blake3::Hash);

/// Why manifest files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or directory is missing or unreadable.
    #[error("{path}: {source}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is no UTF-8 text.
    #[error("{path}: not UTF-8 text (first wrong byte at offset {offset}); manifests are UTF-8")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is no UTF-8.
        offset: usize,
    },
    /// The files together are too large.
    #[error("{path}: more than {SOURCE_BYTES_MAX} bytes of manifests")]
    TooLarge {
        /// The file that reached the limit.
        path: PathBuf,
    },
    /// Directories are nested too deeply, or a link leads back to a parent.
    #[error("{path}: directories nested more than {DEPTH_MAX} deep")]
    TooDeep {
        /// The directory.
        path: PathBuf,
    },
}

/// Reads the manifests of a directory, or one file.
///
/// Of a directory: every `*.yaml`, `*.yml` and `*.json`, sorted by path, of sub directories too.
/// Entries whose name starts with a dot are skipped; symbolic links are followed. That is how a
/// mounted ConfigMap wants to be read: the visible names are links through the hidden `..data`.
/// A single file is read whatever its name.
///
/// # Errors
/// The first file that cannot be read, is no text, or exceeds [`SOURCE_BYTES_MAX`] in sum.
pub fn read_directory(path: &Path) -> Result<Vec<SourceFile>, ReadError> {
    let manifests = SourceReader::default().read(path, Reading::Everything)?;
    Ok(manifests.files)
}

/// Reads the same directory again and again.
#[derive(Debug, Default)]
pub struct SourceReader {
    known: HashMap<PathBuf, KnownFile>,
    /// Kept, since fresh memory costs more than reading into it.
    buffer: Vec<u8>,
}

/// A file as it was read last.
#[derive(Debug)]
struct KnownFile {
    stamp: Stamp,
    /// Were its times old enough then to tell of every later change?
    settled: bool,
    text: Arc<str>,
    digest: blake3::Hash,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Device and number.
    file: (u64, u64),
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Cannot be set by hand, as the time of modification can.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        // A second begun counts as a whole one.
        let changed = self.changed.0.max(self.modified.0) + 1;
        let changed = Duration::from_secs(u64::try_from(changed).unwrap_or(0));
        SystemTime::UNIX_EPOCH + changed + SETTLED_AGE < now
    }
}

impl SourceReader {
    /// As [`read_directory`].
    ///
    /// # Errors
    /// As [`read_directory`].
    pub fn read(&mut self, path: &Path, reading: Reading) -> Result<Manifests, ReadError> {
        let mut reader = Reader {
            known: std::mem::take(&mut self.known),
            buffer: &mut self.buffer,
            reading,
            now: SystemTime::now(),
            read: Vec::new(),
            bytes: 0,
        };
        let metadata = std::fs::metadata(path).map_err(|source| io(path, source))?;
        if metadata.is_dir() {
            reader.directory(path, 0)?;
        } else {
            reader.file(path)?;
        }
        let read = reader.read;
        let mut digest = blake3::Hasher::new();
        let mut files = Vec::with_capacity(read.len());
        for (path, file) in &read {
            let name = path.display().to_string();
            digest.update(&(name.len() as u64).to_le_bytes());
            digest.update(name.as_bytes());
            digest.update(file.digest.as_bytes());
            let text = file.text.clone();
            files.push(SourceFile { name, text });
        }
        self.known = read.into_iter().collect();
        let digest = SourceDigest(digest.finalize());
        Ok(Manifests { files, digest })
    }
}

struct Reader<'r> {
    known: HashMap<PathBuf, KnownFile>,
    buffer: &'r mut Vec<u8>,
    reading: Reading,
    now: SystemTime,
    read: Vec<(PathBuf, KnownFile)>,
    bytes: u64,
}

impl Reader<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            return Err(ReadError::TooDeep { path: path.into() });
        }
        let entries = std::fs::read_dir(path).map_err(|source| io(path, source))?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| io(path, source))?;
            // What is no manifest may be gone any moment: editors write files of their own.
            let is_other = entry.file_type().is_ok_and(|kind| kind.is_file());
            let is_other = is_other && !is_manifest(&entry.path());
            if !is_other && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                paths.push(entry.path());
            }
        }
        paths.sort();
        for path in paths {
            // `metadata` follows links; a dangling one is an error: something is missing.
            let metadata = std::fs::metadata(&path).map_err(|source| io(&path, source))?;
            if metadata.is_dir() {
                self.directory(&path, depth + 1)?;
            } else if metadata.is_file() && is_manifest(&path) {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), ReadError> {
        use std::io::Read;
        let file = std::fs::File::open(path).map_err(|source| io(path, source))?;
        let metadata = file.metadata().map_err(|source| io(path, source))?;
        // Of the file before it is read: what changes meanwhile is seen the next time.
        let stamp = Stamp::of(&metadata);
        let known = self.known.remove(path);
        let is_same = |known: &KnownFile| known.settled && known.stamp == stamp;
        let known = match known {
            Some(known) if self.reading == Reading::Changes && is_same(&known) => {
                self.bytes += known.text.len() as u64;
                self.read.push((path.into(), known));
                return Ok(());
            }
            known => known,
        };
        let left = SOURCE_BYTES_MAX.saturating_sub(self.bytes);
        self.buffer.clear();
        file.take(left + 1)
            .read_to_end(self.buffer)
            .map_err(|source| io(path, source))?;
        if self.buffer.len() as u64 > left {
            return Err(ReadError::TooLarge { path: path.into() });
        }
        self.bytes += self.buffer.len() as u64;
        let text = std::str::from_utf8(self.buffer).map_err(|error| ReadError::NotText {
            path: path.into(),
            offset: error.valid_up_to(),
        })?;
        let settled = stamp.is_settled(self.now);
        let same = known.filter(|known| *known.text == *text);
        let (text, digest) = match same {
            Some(known) => (known.text, known.digest),
            None => (Arc::from(text), blake3::hash(text.as_bytes())),
        };
        let file = KnownFile {
            stamp,
            settled,
            text,
            digest,
        };
        self.read.push((path.into(), file));
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    })
}

fn io(path: &Path, source: std::io::Error) -> ReadError {
    ReadError::Io {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let files = read_directory(path).unwrap();
        let name = |file: &SourceFile| {
            let relative = Path::new(&file.name).strip_prefix(path).unwrap();
            relative.display().to_string()
        };
        files.iter().map(name).collect()
    }

    #[test]
    fn manifests_are_read_in_order_and_hidden_entries_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("sub/.git")).unwrap();
        for name in [
            "b.yml",
            "a.yaml",
            ".c.yaml",
            "d.txt",
            "sub/e.json",
            "sub/.git/f.yaml",
        ] {
            std::fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(names(root), ["a.yaml", "b.yml", "sub/e.json"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_through_its_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("..2026_01_01")).unwrap();
        std::fs::write(root.join("..2026_01_01/p.yaml"), "x: 1").unwrap();
        std::os::unix::fs::symlink("..2026_01_01", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/p.yaml", root.join("p.yaml")).unwrap();
        let files = read_directory(root).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(&*files[0].text, "x: 1");
    }

    #[test]
    fn a_single_file_is_read_whatever_its_name_and_errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest");
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = read_directory(&path).unwrap_err().to_string();
        assert!(error.contains("manifest: not UTF-8"), "{error}");
        assert!(error.contains("offset 2"), "{error}");
        let error = read_directory(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none: "), "{error}");
    }

    #[test]
    fn what_has_not_changed_is_the_very_same_text() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["a.yaml", "b.yaml"].map(|name| directory.path().join(name));
        std::fs::write(&one, "x: 1").unwrap();
        std::fs::write(&other, "x: 2").unwrap();
        let mut reader = SourceReader::default();
        let first = reader.read(directory.path(), Reading::Everything).unwrap();
        for reading in [Reading::Everything, Reading::Changes] {
            let again = reader.read(directory.path(), reading).unwrap();
            assert_eq!(again.digest, first.digest);
            for (again, first) in again.files.iter().zip(&first.files) {
                assert!(Arc::ptr_eq(&again.text, &first.text));
            }
        }
        // Of the same length, and at once: its times may be those of before.
        std::fs::write(&other, "x: 3").unwrap();
        let changed = reader.read(directory.path(), Reading::Changes).unwrap();
        assert_ne!(changed.digest, first.digest);
        assert_eq!(&*changed.files[1].text, "x: 3");
        assert!(Arc::ptr_eq(&changed.files[0].text, &first.files[0].text));

        std::fs::remove_file(&one).unwrap();
        let fewer = reader.read(directory.path(), Reading::Changes).unwrap();
        assert_eq!(fewer.files.len(), 1);
        assert_ne!(fewer.digest, changed.digest);
    }

    #[test]
    fn settled_files_are_not_read_while_their_times_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        std::fs::write(&path, "x: 1").unwrap();
        let mut reader = SourceReader::default();
        let mut read = |reading, settled: bool, text: &str| {
            if let Some(known) = reader.known.get_mut(&path) {
                // As if it had been read so long after it was written, or not; and with another
                // text, to see whose is given.
                known.settled = settled;
                known.text = "seen: before".into();
            }
            let manifests = reader.read(directory.path(), reading).unwrap();
            assert_eq!(&*manifests.files[0].text, text);
        };
        read(Reading::Everything, false, "x: 1");
        read(Reading::Changes, false, "x: 1");
        read(Reading::Changes, true, "seen: before");
        read(Reading::Everything, true, "x: 1");
        std::fs::write(&path, "x: 12").unwrap();
        read(Reading::Changes, true, "x: 12");
    }

    #[test]
    fn a_link_to_its_own_directory_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(".", directory.path().join("loop")).unwrap();
        let error = read_directory(directory.path()).unwrap_err();
        assert!(matches!(error, ReadError::TooDeep { .. }), "{error}");
    }
}
