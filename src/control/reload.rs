//! When the manifests are read again, and what is remembered of the last attempts.
//!
//! A change is noticed by file notification, and by comparing the content once a second: symbolic
//! link swaps and events lost under load are noticed that way. A file that is being written is not
//! loaded half: the content must be the same in two readings a moment apart. Who asks for a reload
//! has finished writing.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::policy::{PolicyRefused, PolicySource, Prepared, Preparer};
use crate::classifier::tree::Limits;
use crate::policy::Compatibility;
use crate::policy::source::{Manifests, ReadError, Reading, SourceDigest};

/// Time between the two equal readings that make a change worth loading.
const SETTLE: Duration = Duration::from_millis(20);
/// Readings before a set that never comes to rest is loaded as it is.
const READINGS_MAX: u32 = 20;

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadCause {
    /// The process starts.
    Start,
    /// SIGHUP or `portcullis reload`: read everything, and say again what is wrong with it.
    Request,
    /// The watch: load only content that has not been tried yet.
    Watch,
}

/// What came of one attempt.
pub enum Attempt {
    /// The content is the one in force, or the one refused last.
    Unchanged,
    /// Ready to come into force.
    Prepared(Arc<Prepared>, SourceDigest),
    /// Refused; the digest is missing when the set could not be read.
    Refused(PolicyRefused, Option<SourceDigest>),
}

/// Reads and compiles manifests off the control loop.
#[derive(Clone)]
pub struct Reloader {
    source: Arc<dyn PolicySource>,
    /// Attempts are made one at a time.
    preparer: Arc<Mutex<Preparer>>,
    /// Content already tried, and whether it was refused; it is in force otherwise.
    tried: Option<(SourceDigest, bool)>,
    /// Message of a failed reading already reported.
    unreadable: Option<String>,
}

impl Reloader {
    /// Nothing tried yet.
    pub fn new(
        source: Arc<dyn PolicySource>,
        compatibility: Compatibility,
        limits: Limits,
    ) -> Self {
        Reloader {
            source,
            preparer: Arc::new(Mutex::new(Preparer::new(compatibility, limits))),
            tried: None,
            unreadable: None,
        }
    }

    /// What is read, for messages.
    pub fn describe(&self) -> String {
        self.source.describe()
    }

    /// Reads, and loads and compiles what has changed. Takes as long as it takes: not for the
    /// control loop's own thread.
    pub fn attempt(&self, cause: ReloadCause) -> Attempt {
        let Manifests { files, digest } = match self.read_settled(cause) {
            Ok(Some(read)) => read,
            Ok(None) => return Attempt::Unchanged,
            Err(error) if self.already_reported(cause, &error) => return Attempt::Unchanged,
            Err(error) => return Attempt::Refused(error.into(), None),
        };
        let mut preparer = self.preparer.lock().unwrap_or_else(PoisonError::into_inner);
        match preparer.prepare(&files) {
            Ok(prepared) => Attempt::Prepared(prepared, digest),
            Err(refused) => Attempt::Refused(refused, Some(digest)),
        }
    }

    /// Remembers what has been tried, so that the watch does not try it again.
    pub fn remember(&mut self, attempt: &Attempt) {
        match attempt {
            Attempt::Unchanged => {}
            Attempt::Prepared(_, digest) => {
                self.tried = Some((*digest, false));
                self.unreadable = None;
            }
            Attempt::Refused(_, Some(digest)) => {
                self.tried = Some((*digest, true));
                self.unreadable = None;
            }
            Attempt::Refused(error, None) => self.unreadable = Some(error.to_string()),
        }
    }

    /// Whether this very content has been tried before, or this reading has failed so before: what
    /// is wrong with it has been said then.
    pub fn has_seen(&self, attempt: &Attempt) -> bool {
        match attempt {
            Attempt::Unchanged => true,
            Attempt::Prepared(_, digest) | Attempt::Refused(_, Some(digest)) => {
                self.has_tried(*digest) && self.unreadable.is_none()
            }
            Attempt::Refused(error, None) => self.unreadable.as_deref() == Some(&error.to_string()),
        }
    }

    fn already_reported(&self, cause: ReloadCause, error: &ReadError) -> bool {
        cause == ReloadCause::Watch && self.unreadable.as_deref() == Some(&error.to_string())
    }

    fn has_tried(&self, digest: SourceDigest) -> bool {
        self.tried.is_some_and(|(tried, _)| tried == digest)
    }

    /// The files once they have come to rest; `None` when they are those in force, or when the
    /// watch finds nothing new.
    fn read_settled(&self, cause: ReloadCause) -> Result<Option<Manifests>, ReadError> {
        let reading = match cause {
            ReloadCause::Watch => Reading::Changes,
            ReloadCause::Start | ReloadCause::Request => Reading::Everything,
        };
        let mut manifests = self.source.read(reading)?;
        let in_force = self.tried == Some((manifests.digest, false));
        let seen = cause == ReloadCause::Watch && self.has_tried(manifests.digest);
        if (in_force || seen) && self.unreadable.is_none() {
            return Ok(None);
        }
        // Who asks for it has finished writing.
        if cause != ReloadCause::Watch {
            return Ok(Some(manifests));
        }
        for _ in 0..READINGS_MAX {
            std::thread::sleep(SETTLE);
            let again = self.source.read(reading)?;
            let is_same = again.digest == manifests.digest;
            manifests = again;
            if is_same {
                break;
            }
        }
        Ok(Some(manifests))
    }
}

/// Sends a message for every burst of changes below a path. The watcher stops when dropped.
///
/// # Errors
/// The system has no notification to give; the caller goes on with reading once a second.
pub fn watch(
    path: &Path,
) -> Result<(notify::RecommendedWatcher, mpsc::Receiver<()>), notify::Error> {
    // One message is enough to say that something has changed.
    let (changed, changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, _>| {
        let reads_only = event.as_ref().is_ok_and(|event| event.kind.is_access());
        if !reads_only {
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    Ok((watcher, changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::policy::PolicyDirectory;

    fn reloader(directory: &Path) -> Reloader {
        let source = Arc::new(PolicyDirectory::new(directory));
        Reloader::new(source, Compatibility::default(), Limits::default())
    }

    #[test]
    fn the_watch_tries_each_content_once_and_a_request_always() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(&file, "kind: [\n").unwrap();
        let mut reloader = reloader(directory.path());
        let first = reloader.attempt(ReloadCause::Start);
        assert!(matches!(
            first,
            Attempt::Refused(PolicyRefused::Findings(_), Some(_))
        ));
        reloader.remember(&first);
        assert!(matches!(
            reloader.attempt(ReloadCause::Watch),
            Attempt::Unchanged
        ));
        let requested = reloader.attempt(ReloadCause::Request);
        assert!(matches!(requested, Attempt::Refused(..)));
        assert!(reloader.has_seen(&requested), "not to be said again");
        std::fs::write(&file, "kind: [}\n").unwrap();
        let changed = reloader.attempt(ReloadCause::Watch);
        assert!(matches!(changed, Attempt::Refused(..)));
        assert!(!reloader.has_seen(&changed));
    }

    #[test]
    fn a_directory_that_vanishes_is_reported_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut reloader = reloader(&directory.path().join("missing"));
        let first = reloader.attempt(ReloadCause::Start);
        assert!(matches!(
            first,
            Attempt::Refused(PolicyRefused::Read(_), None)
        ));
        reloader.remember(&first);
        assert!(matches!(
            reloader.attempt(ReloadCause::Watch),
            Attempt::Unchanged
        ));
        let requested = reloader.attempt(ReloadCause::Request);
        assert!(matches!(requested, Attempt::Refused(..)));
        assert!(reloader.has_seen(&requested), "not to be said again");
    }
}
