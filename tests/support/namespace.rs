//! Network namespaces that vanish with their value.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One network namespace; its processes and interfaces go with it.
pub struct Namespace {
    name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// Makes a namespace with a name nobody else has.
    pub fn new(role: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pc-test-{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        // Duplicate address detection would delay every address by a second or two.
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "0");
        }
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command to its end.
    pub fn output(&self, command: &[&str]) -> Output {
        let mut built = self.command(command[0]);
        let output = built.args(&command[1..]).output();
        output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a command that must succeed; gives its standard output.
    pub fn run(&self, command: &[&str]) -> String {
        succeeded(command, &self.output(command))
    }

    /// `ip` inside the namespace.
    pub fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Sets a kernel parameter of the namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(&["sysctl", "-qw", &format!("{name}={value}")]);
    }

    /// Runs a closure in a thread of its own inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            run()
        })
    }

    /// Runs a closure inside the namespace and waits for its result. Sockets made in it stay there.
    pub fn enter<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        match self.spawn(run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A counter of the namespace's own stack, by its name in `nstat`.
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.run(&["nstat", "-asz", name]);
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no counter {name} in {text}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let listed = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        // Threads of this test may still be inside.
        let own = std::process::id().to_string();
        for pid in String::from_utf8_lossy(&listed)
            .lines()
            .filter(|pid| *pid != own)
        {
            let _ = Command::new("kill").args(["-KILL", pid]).output();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
    }
}

/// `ip`, which must succeed.
pub fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("ip is installed (iproute2)");
    succeeded(arguments, &output)
}

fn succeeded(command: &[&str], output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout
}
