//! A running `portcullis` in a lab's gateway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::lab::Lab;
use super::{seconds, within};

/// The process, its settings and its policies; ends with its value.
pub struct Appliance<'lab> {
    lab: &'lab Lab,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

/// The two ports every lab has.
pub const PORTS: &str = "
[[port]]
name = \"inside\"
interface = \"inside\"

[[port]]
name = \"outside\"
interface = \"outside\"
";

impl<'lab> Appliance<'lab> {
    /// Starts it with the two ports, further settings and manifests, and waits until it answers.
    pub fn start(lab: &'lab Lab, settings: &str, manifests: &[(&str, &str)]) -> Self {
        let mut appliance = Self::prepare(lab, settings, manifests);
        appliance.restart();
        appliance
    }

    /// Everything but the process.
    pub fn prepare(lab: &'lab Lab, settings: &str, manifests: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("pc-test-").tempdir();
        let folder = folder.expect("a temporary folder");
        let appliance = Appliance {
            lab,
            folder,
            process: None,
        };
        fs::create_dir(appliance.path("bpf")).expect("the folder is ours");
        fs::create_dir(appliance.path("policies")).expect("the folder is ours");
        // Pins are to outlive the process: a bpffs mounted inside `ip netns exec` would not.
        let bpf = appliance.path("bpf");
        let mounted = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(bpf)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "bpffs can be mounted"
        );
        let settings = format!(
            "{PORTS}\n{settings}\n[admin]\nsocket = {:?}\n[steering]\npin_directory = {:?}\n",
            appliance.path("admin.sock"),
            appliance.path("bpf")
        );
        let settings = match settings.contains("[policy]") {
            true => settings,
            false => format!("{settings}\n[policy]\ndirectory = \"policies\"\n"),
        };
        fs::write(appliance.path("portcullis.toml"), settings).expect("the folder is ours");
        for (name, text) in manifests {
            appliance.write_policy(name, text);
        }
        appliance
    }

    /// Puts settings that belong to no table before all others.
    pub fn prepend_settings(&self, settings: &str) {
        let path = self.path("portcullis.toml");
        let text = fs::read_to_string(&path).expect("it was written before");
        fs::write(path, format!("{settings}{text}")).expect("the folder is ours");
    }

    /// Starts the process (again) and waits until it answers; gives the time that took.
    pub fn restart(&mut self) -> Duration {
        let started = self.launch();
        let ready = within(seconds(10), || self.ask(&["status"]).status.success());
        assert!(ready, "the appliance does not answer:\n{}", self.log());
        started.elapsed()
    }

    /// Starts the process without waiting; gives the moment.
    pub fn launch(&mut self) -> Instant {
        let mut options = fs::File::options();
        let log = options.create(true).append(true).open(self.path("log"));
        let log = log.expect("the folder is ours");
        let started = Instant::now();
        let mut command = self.lab.gateway.command(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(["run", "--config"])
            .arg(self.path("portcullis.toml"));
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("the program was built"));
        started
    }

    /// Ends the process without giving it a chance to do anything.
    pub fn kill_9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is ours");
        process.wait().expect("it is ours");
    }

    /// Asks it to end, waits for it, gives its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut process = self.process.take().expect("it runs");
        let gone = within(seconds(5), || process.try_wait().is_ok_and(|s| s.is_some()));
        assert!(gone, "it does not end:\n{}", self.log());
        process.wait().expect("it is ours").code()
    }

    /// Sends it a signal, `HUP`.
    pub fn signal(&self, name: &str) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Does the process still run?
    pub fn runs(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Runs a verb against the admin socket: `ask(&["status", "-o", "json"])`.
    pub fn ask(&self, verb: &[&str]) -> Output {
        let mut command = self.lab.gateway.command(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(verb)
            .arg("--socket")
            .arg(self.path("admin.sock"));
        command.output().expect("the program was built")
    }

    /// Status as data.
    pub fn status(&self) -> serde_json::Value {
        let output = self.ask(&["status", "-o", "json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Metrics as Prometheus reads them.
    pub fn metrics(&self) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--unix-socket"])
            .arg(self.path("admin.sock"))
            .arg("http://portcullis/metrics")
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes it read its policies; gives exit code and everything it printed.
    pub fn reload(&self) -> (Option<i32>, String) {
        let output = self.ask(&["reload"]);
        let printed = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&printed).into_owned(),
        )
    }

    /// Writes a manifest in one step, as `kubectl` and configuration management do.
    pub fn write_policy(&self, name: &str, text: &str) {
        let hidden = self.path("next.tmp");
        fs::write(&hidden, text).expect("the folder is ours");
        fs::rename(hidden, self.path("policies").join(name)).expect("the folder is ours");
    }

    /// Removes a manifest.
    pub fn remove_policy(&self, name: &str) {
        fs::remove_file(self.path("policies").join(name)).expect("it was written before");
    }

    /// A file of the appliance's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything it has written to standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Appliance<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the appliance\n{}---", self.log());
        }
        unmount(&self.path("bpf"));
    }
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg(path).output();
}
