//! Pins: what keeps the steering program attached when this process is gone.
//!
//! ```text
//! /sys/fs/bpf/portcullis/            pin directory, on bpffs
//!   4026532581-eth0%2e100/           one port: inode of its network namespace, interface name
//!     link                           the pinned link
//! ```
//!
//! The port's directory is locked (`flock`) by the process that holds the port: a second one finds
//! the port in use, and the kernel releases the lock however the process ends.
//!
//! A pin lives as long as its bpffs is mounted somewhere. `ip netns exec` and service managers give
//! a process mounts of its own, and a bpffs mounted there goes with the process: the port would be
//! open after a crash. So all work on pins is done in the mount namespace of PID 1 (or, where that
//! is out of reach, of the nearest parent that has another one), by a helper thread that joins it
//! for the purpose.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::mount::{MountFlags, mount};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, capabilities, move_into_link_name_space,
    unshare_unsafe,
};

use super::{Pin, XdpError, bpf};

/// How long to wait for a process that is about to end to let go of a port or an interface.
pub const RETRY_FOR: Duration = Duration::from_secs(2);
/// Pause between two tries.
pub const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
/// `MNT_NS_INIT_INO` of linux/nsfs.h, since Linux 6.18.
const FIRST_MOUNT_NAMESPACE: u64 = 0xefff_fff8;
const BPF_FS_MOUNT_POINT: &str = "/sys/fs/bpf";
const LINK: &str = "link";
/// A link on its way to replace the one pinned.
const NEW_LINK: &str = "link-new";

/// A directory on bpffs, and the mount namespace to see it in.
#[derive(Debug, Clone)]
pub struct PinDirectory {
    path: PathBuf,
    /// The mount namespace that outlives us, when it is not ours.
    mounts: Option<Arc<OwnedFd>>,
}

/// The pins of one port, locked.
#[derive(Debug)]
pub struct PortPins {
    directory: PinDirectory,
    path: PathBuf,
    /// The lock goes with the descriptor.
    _lock: OwnedFd,
}

impl PinDirectory {
    /// Makes sure that the directory is there, on a bpffs that outlives this process.
    pub fn open(path: &Path) -> Result<Self, XdpError> {
        let failed = |reason: String| pin_directory_error(path, reason);
        let mut directory = PinDirectory {
            path: path.to_owned(),
            mounts: None,
        };
        match lasting_mounts() {
            Ok(mounts) => directory.mounts = mounts.map(Arc::new),
            Err(reason) => return directory.in_own_mounts(&reason),
        }
        match directory.run(|| prepare(path, Mounting::Allowed)) {
            Entered::Yes(prepared) => prepared.map_err(failed)?,
            Entered::No(error) => {
                directory.mounts = None;
                let reason = format!("the mounts of PID 1 cannot be entered: {error}");
                return directory.in_own_mounts(&reason);
            }
        }
        Ok(directory)
    }

    /// Whether [`PinDirectory::open`] would succeed, as far as that shows without doing anything.
    pub fn check(path: &Path) -> Result<(), XdpError> {
        let failed = |reason: String| pin_directory_error(path, reason);
        let mounts = lasting_mounts();
        let (mounts, may_mount) = match mounts {
            Ok(mounts) => (mounts, true),
            Err(_) => (None, false),
        };
        let directory = PinDirectory {
            path: path.to_owned(),
            mounts: mounts.map(Arc::new),
        };
        let there = match directory.run(|| on_bpf_fs(path)) {
            Entered::Yes(there) => there,
            Entered::No(error) => {
                return Err(failed(format!(
                    "the mounts of PID 1 cannot be entered: {error}"
                )));
            }
        };
        let usual = path.starts_with(BPF_FS_MOUNT_POINT);
        let own = CapabilitySet::SYS_ADMIN;
        let capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(own));
        if there || (may_mount && usual && capable && std::process::id() != 1) {
            return Ok(());
        }
        Err(failed(format!("no bpffs is mounted at {}", path.display())))
    }

    /// The last resort: a bpffs that somebody has put into our own mounts.
    fn in_own_mounts(self, reason: &str) -> Result<Self, XdpError> {
        let failed = |own| pin_directory_error(&self.path, format!("{reason}; {own}"));
        prepare(&self.path, Mounting::Forbidden).map_err(failed)?;
        Ok(self)
    }

    /// Locks the port of an interface of this network namespace, waiting for a process that is
    /// about to end.
    pub fn lock_port(&self, interface: &str) -> Result<PortPins, XdpError> {
        let namespace = network_namespace().map_err(|source| XdpError::Pin {
            path: self.path.clone(),
            action: "find the network namespace for",
            source,
        })?;
        self.lock(interface, self.port_path(namespace, interface))
    }

    /// Locks the port of a pin found by [`PinDirectory::pins`].
    pub fn lock_pin(&self, pin: &Pin) -> Result<PortPins, XdpError> {
        self.lock(&pin.interface, pin.path.clone())
    }

    fn lock(&self, interface: &str, path: PathBuf) -> Result<PortPins, XdpError> {
        let since = Instant::now();
        loop {
            match self.work(|| try_lock(&path)) {
                Ok(lock) => {
                    return Ok(PortPins {
                        directory: self.clone(),
                        path,
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(source) => {
                    let action = "lock";
                    return Err(XdpError::Pin {
                        path,
                        action,
                        source,
                    });
                }
            }
            if since.elapsed() > RETRY_FOR {
                return Err(XdpError::InUse {
                    interface: interface.to_owned(),
                    process: self.work(|| lock_owner(&path)),
                });
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// The pins of every network namespace.
    pub fn pins(&self) -> Result<Vec<Pin>, XdpError> {
        self.work(|| read_pins(&self.path))
            .map_err(|source| XdpError::Pin {
                path: self.path.clone(),
                action: "list",
                source,
            })
    }

    /// The port directory of an interface.
    fn port_path(&self, namespace: u64, interface: &str) -> PathBuf {
        self.path.join(format!("{namespace}-{}", escape(interface)))
    }

    /// Runs `work` where the directory can be seen. Only called once that has worked before.
    fn work<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.run(work) {
            Entered::Yes(result) => result,
            Entered::No(error) => panic!("mounts that were entered before: {error}"),
        }
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Entered<T> {
        let Some(mounts) = &self.mounts else {
            return Entered::Yes(work());
        };
        let helper = || match enter(mounts.as_fd()) {
            Ok(()) => Entered::Yes(work()),
            Err(error) => Entered::No(error),
        };
        // The thread ends with the work: nothing else ever runs in PID 1's mounts.
        thread::scope(|scope| match scope.spawn(helper).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// The result of work in other mounts, if these could be entered.
enum Entered<T> {
    Yes(T),
    No(io::Error),
}

impl PortPins {
    /// The pinned link, if there is one.
    pub fn link(&self) -> Result<Option<OwnedFd>, XdpError> {
        match self.directory.work(|| bpf::open_pin(&self.path.join(LINK))) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("open", source)),
        }
    }

    /// Pins a link, in the place of one that may be pinned already, without a moment between.
    pub fn pin_link(&self, link: BorrowedFd<'_>) -> Result<(), XdpError> {
        let (new, place) = (self.path.join(NEW_LINK), self.path.join(LINK));
        let pin = || {
            remove_if_there(&new)?;
            bpf::pin(link, &new)?;
            fs::rename(&new, &place)
        };
        self.directory
            .work(pin)
            .map_err(|source| self.failed("pin the link at", source))
    }

    /// Removes the pins, and with the lock the port's directory.
    pub fn remove(self) -> Result<(), XdpError> {
        let remove = || {
            remove_if_there(&self.path.join(NEW_LINK))?;
            remove_if_there(&self.path.join(LINK))
        };
        self.directory
            .work(remove)
            .map_err(|source| self.failed("remove", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> XdpError {
        let path = self.path.clone();
        XdpError::Pin {
            path,
            action,
            source,
        }
    }
}

impl Drop for PortPins {
    /// Leaves no empty directory behind. One with a pin cannot be removed so.
    fn drop(&mut self) {
        let _ = self.directory.run(|| fs::remove_dir(&self.path));
    }
}

fn pin_directory_error(path: &Path, reason: String) -> XdpError {
    let command = match path.starts_with(BPF_FS_MOUNT_POINT) {
        true => format!("mount -t bpf bpf {BPF_FS_MOUNT_POINT}"),
        false => format!("mkdir -p {0} && mount -t bpf bpf {0}", path.display()),
    };
    XdpError::PinDirectory {
        directory: path.to_owned(),
        reason,
        command,
    }
}

/// Whether a bpffs may be mounted where it is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounting {
    Allowed,
    Forbidden,
}

/// Makes the directory, mounting bpffs at its usual place where that is missing.
fn prepare(path: &Path, mounting: Mounting) -> Result<(), String> {
    if !on_bpf_fs(path) {
        let usual = path.starts_with(BPF_FS_MOUNT_POINT);
        if !usual || mounting == Mounting::Forbidden {
            return Err(format!("no bpffs is mounted at {}", path.display()));
        }
        // As PID 1 of a container our mounts end with us, whatever we mount.
        if std::process::id() == 1 {
            return Err("no bpffs of the host is mounted in this container".to_owned());
        }
        mount(
            c"bpf",
            BPF_FS_MOUNT_POINT,
            c"bpf",
            MountFlags::empty(),
            c"mode=0700",
        )
        .map_err(|error| format!("bpffs cannot be mounted: {error}"))?;
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| format!("the directory cannot be made: {error}"))
}

/// Is the directory, or the part of it that exists, on bpffs?
fn on_bpf_fs(path: &Path) -> bool {
    let existing = path.ancestors().find(|part| part.exists());
    let Some(Ok(status)) = existing.map(rustix::fs::statfs) else {
        return false;
    };
    // The type is signed or not, depending on the architecture.
    status.f_type as u32 == BPF_FS_MAGIC
}

/// The mount namespace whose bpffs outlives us; `None` when it is ours.
fn lasting_mounts() -> Result<Option<OwnedFd>, String> {
    let own = mount_namespace("thread-self").map_err(|error| error.to_string())?;
    let other = |(inode, namespace)| (inode != own.0).then_some(OwnedFd::from(namespace));
    let error = match mount_namespace("1") {
        Ok(init) => return Ok(other(init)),
        Err(error) => error,
    };
    // Even root may not look at a PID 1 that has more capabilities.
    if own.0 == FIRST_MOUNT_NAMESPACE {
        return Ok(None);
    }
    let parents = std::iter::successors(parent_of("self"), |process| parent_of(process));
    let namespaces = parents.filter_map(|process| mount_namespace(&process).ok());
    let outer = namespaces.filter_map(other).next().or_else(first_mounts);
    outer
        .map(Some)
        .ok_or(format!("the mounts of PID 1 cannot be seen: {error}"))
}

/// The machine's first mount namespace, from any process that is in it.
fn first_mounts() -> Option<OwnedFd> {
    let processes = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .map(|entry| entry.file_name());
    let namespaces = processes.filter_map(|process| mount_namespace(process.to_str()?).ok());
    let mut first = namespaces.filter(|(inode, _)| *inode == FIRST_MOUNT_NAMESPACE);
    first.next().map(|(_, namespace)| namespace.into())
}

/// A process's mount namespace, and its inode number.
fn mount_namespace(process: &str) -> io::Result<(u64, fs::File)> {
    let namespace = fs::File::open(format!("/proc/{process}/ns/mnt"))?;
    Ok((namespace.metadata()?.ino(), namespace))
}

fn parent_of(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim();
    (parent != "0").then(|| parent.to_owned())
}

/// Moves the calling thread, which must be a thread of its own for this, into other mounts.
fn enter(mounts: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a thread of its own root and working directory; no descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    move_into_link_name_space(mounts, Some(LinkNameSpaceType::Mount))?;
    Ok(())
}

/// Inode number of the calling thread's network namespace.
pub fn network_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

fn try_lock(path: &Path) -> io::Result<OwnedFd> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(path, flags, Mode::empty())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    // Whoever held the lock may have removed the directory: then this locks nothing.
    let (ours, there) = (rustix::fs::fstat(&lock)?, rustix::fs::stat(path)?);
    if ours.st_ino != there.st_ino {
        return Err(ErrorKind::WouldBlock.into());
    }
    Ok(lock)
}

/// The process that holds the lock on a directory, as far as /proc/locks tells.
fn lock_owner(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 1234 00:1f:5678 0 EOF`; bpffs counts its inodes from 2, others
    // may use the same numbers, but hardly lock directories.
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, file, ..] = fields[..] else {
            return None;
        };
        (file.rsplit(':').next() == Some(&inode)).then(|| process.parse().ok())?
    })
}

fn read_pins(directory: &Path) -> io::Result<Vec<Pin>> {
    let mut pins = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((namespace, interface)) = name.and_then(|name| name.split_once('-')) else {
            continue;
        };
        let Ok(network_namespace) = namespace.parse() else {
            continue;
        };
        if path.join(LINK).exists() {
            pins.push(Pin {
                interface: unescape(interface),
                network_namespace,
                owner: lock_owner(&path),
                path,
            });
        }
    }
    pins.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pins)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// bpffs reserves names with dots (EPERM), which VLAN interfaces usually have.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_escaping() {
        for name in ["eth0", "eth0.100", "a%2eb", "%", "..", "x%252e.y"] {
            let escaped = escape(name);
            assert!(!escaped.contains('.'), "{escaped}");
            assert_eq!(unescape(&escaped), name);
        }
    }

    #[test]
    fn the_error_names_the_command_that_mends() {
        let usual = pin_directory_error(Path::new("/sys/fs/bpf/portcullis"), "gone".into());
        assert!(
            usual
                .to_string()
                .ends_with("run: mount -t bpf bpf /sys/fs/bpf")
        );
        let other = pin_directory_error(Path::new("/run/bpf"), "gone".into());
        assert!(other.to_string().contains("mount -t bpf bpf /run/bpf"));
    }

    #[test]
    fn an_ordinary_directory_is_not_on_bpffs() {
        assert!(!on_bpf_fs(Path::new("/tmp/none/such")));
        assert!(prepare(Path::new("/tmp/none/such"), Mounting::Allowed).is_err());
        assert!(!Path::new("/tmp/none").exists());
    }
}
