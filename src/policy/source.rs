//! Manifest files: found, read, bounded.

use std::path::{Path, PathBuf};

/// Largest sum of file sizes one directory may have, in bytes.
pub const SOURCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Deepest nesting of directories followed, so that a symbolic link to a parent ends.
const DEPTH_MAX: usize = 16;

/// One file of manifests: YAML (any number of documents) or JSON.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path as messages name it.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

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
    let mut reader = Reader::default();
    let metadata = std::fs::metadata(path).map_err(|source| io(path, source))?;
    if metadata.is_dir() {
        reader.directory(path, 0)?;
    } else {
        reader.file(path)?;
    }
    Ok(reader.files)
}

#[derive(Default)]
struct Reader {
    files: Vec<SourceFile>,
    bytes: u64,
}

impl Reader {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            return Err(ReadError::TooDeep { path: path.into() });
        }
        let entries = std::fs::read_dir(path).map_err(|source| io(path, source))?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| io(path, source))?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
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
        let left = SOURCE_BYTES_MAX - self.bytes;
        let mut bytes = Vec::new();
        file.take(left + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| io(path, source))?;
        if bytes.len() as u64 > left {
            return Err(ReadError::TooLarge { path: path.into() });
        }
        self.bytes += bytes.len() as u64;
        let text = String::from_utf8(bytes).map_err(|error| ReadError::NotText {
            path: path.into(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        self.files.push(SourceFile {
            name: path.display().to_string(),
            text,
        });
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
        assert_eq!(files[0].text, "x: 1");
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
    fn a_link_to_its_own_directory_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(".", directory.path().join("loop")).unwrap();
        let error = read_directory(directory.path()).unwrap_err();
        assert!(matches!(error, ReadError::TooDeep { .. }), "{error}");
    }
}
