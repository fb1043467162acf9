//! The cases of a directory of ClassBench rule files and traces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::classifier::classbench;

use crate::{Case, Trace};

/// The cases of a directory whose name is wanted, by name.
pub fn cases<'a>(
    directory: &'a Path,
    wanted: &'a dyn Fn(&str) -> bool,
) -> impl Iterator<Item = Case> + 'a {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("CLASSBENCH_DIR is a directory")
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let name = name.strip_suffix(".xz").unwrap_or(&name);
            name.strip_suffix(".rules").map(str::to_owned)
        })
        .filter(|name| wanted(name))
        .collect();
    names.sort_unstable();
    names.into_iter().map(|name| case(directory, name))
}

fn case(directory: &Path, name: String) -> Case {
    let rules = read(directory.join(format!("{name}.rules"))).expect("rules are there");
    let traces = ["uniform", "mixed"].into_iter().filter_map(|trace| {
        let text = read(directory.join(format!("{name}.{trace}.tsv")))?;
        let keys = classbench::trace(&text).expect("a trace");
        let (keys, expected) = keys.into_iter().unzip();
        Some(Trace {
            name: trace,
            keys,
            expected: Some(expected),
        })
    });
    let traces: Vec<Trace> = traces.collect();
    assert!(!traces.is_empty(), "{name} has no trace");
    let rules = classbench::rules(&rules).expect("rules");
    Case {
        name,
        rules,
        traces,
    }
}

/// The file's text, or that of the file with `.xz` behind its name; `None` when neither is there.
fn read(path: PathBuf) -> Option<String> {
    if let Ok(text) = fs::read_to_string(&path) {
        return Some(text);
    }
    let packed = path.with_added_extension("xz");
    if !packed.exists() {
        return None;
    }
    let output = Command::new("xz").arg("-dc").arg(&packed).output();
    let output = output.expect("the program xz unpacks rule files");
    assert!(
        output.status.success(),
        "cannot unpack {}",
        packed.display()
    );
    Some(String::from_utf8(output.stdout).expect("rule files are text"))
}
