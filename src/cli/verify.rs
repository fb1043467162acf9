//! `portcullis verify`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{Exit, OutputFormat};
use crate::control::cases::{self, Case, Outcome};
use crate::policy::{Finding, Severity, SourceFile};

/// Arguments of `portcullis verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Case files, directories of them, or - for standard input.
    #[arg(required = true, value_name = "CASES")]
    cases: Vec<PathBuf>,

    /// How results are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the verb.
///
/// # Errors
/// A case file that cannot be read, or an output that cannot be written.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut tally = Tally::default();
    let mut output = std::io::stdout().lock();
    for path in &arguments.cases {
        for (file, directory) in read(path)? {
            let (cases, findings) = cases::parse(&file, &directory);
            tally.report(&findings);
            for case in &cases {
                tally.case(case, arguments.output, &mut output)?;
            }
        }
    }
    writeln!(output, "{} passed, {} failed", tally.passed, tally.failed)?;
    output.flush()?;
    Ok(if tally.bad_input {
        Exit::BadInput
    } else if tally.failed > 0 {
        Exit::Differs
    } else {
        Exit::Fine
    })
}

/// Case files with the directory their own paths are relative to.
fn read(path: &Path) -> anyhow::Result<Vec<(SourceFile, PathBuf)>> {
    if path == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin()).context("standard input")?;
        let text = text.into();
        let name = "<stdin>".to_owned();
        return Ok(vec![(SourceFile { name, text }, PathBuf::from("."))]);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        // Not the directories in it: those are where the cases' manifests are.
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        for entry in entries {
            let path = entry.with_context(|| path.display().to_string())?.path();
            if path.is_file()
                && path
                    .extension()
                    .is_some_and(|it| it == "yaml" || it == "yml")
            {
                files.push(path);
            }
        }
        files.sort();
        anyhow::ensure!(!files.is_empty(), "{}: no *.yaml in it", path.display());
    } else {
        files.push(path.to_owned());
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (name, text) = (path.display().to_string(), text.into());
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok((SourceFile { name, text }, directory))
    };
    files.into_iter().map(read).collect()
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    bad_input: bool,
}

impl Tally {
    fn case(
        &mut self,
        case: &Case,
        format: OutputFormat,
        output: &mut impl Write,
    ) -> anyhow::Result<()> {
        let run = cases::run(case);
        self.report(&run.findings);
        for outcome in &run.outcomes {
            match outcome.passed() {
                true => self.passed += 1,
                false => self.failed += 1,
            }
            match format {
                OutputFormat::Json => {
                    serde_json::to_writer(&mut *output, &line(outcome))?;
                    writeln!(output)?;
                }
                OutputFormat::Text if outcome.passed() => {}
                OutputFormat::Text => text(outcome, output)?,
            }
        }
        Ok(())
    }

    /// Findings go to standard error: they are about the input, not results.
    fn report(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.bad_input |= finding.severity == Severity::Error;
            eprintln!("{finding}");
        }
    }
}

/// One line of `-o json`.
#[derive(Serialize)]
struct Line<'o> {
    case: &'o str,
    probe: &'o str,
    expect: &'o str,
    got: &'o str,
    stage: Option<&'o str>,
    rule: Option<&'o str>,
    file: Option<&'o str>,
    line: Option<u32>,
    reason: &'o str,
}

fn line(outcome: &Outcome) -> Line<'_> {
    let place = outcome.rule_place.as_ref();
    Line {
        case: &outcome.case,
        probe: &outcome.path,
        expect: &outcome.expect,
        got: &outcome.got,
        stage: outcome.stage,
        rule: outcome.rule.as_deref(),
        file: place.map(|place| &*place.file),
        line: place.map(|place| place.line),
        reason: &outcome.reason,
    }
}

fn text(outcome: &Outcome, output: &mut impl Write) -> std::io::Result<()> {
    let Outcome {
        case,
        path,
        place,
        subject,
        expect,
        got,
        reason,
        ..
    } = outcome;
    writeln!(
        output,
        "{place}: {case}: {path}: {subject}: expected {expect}, got {got}"
    )?;
    if let Some(rule) = &outcome.rule {
        match &outcome.rule_place {
            Some(place) => writeln!(output, "    rule    {rule}  {place}")?,
            None => writeln!(output, "    rule    {rule}")?,
        }
    }
    writeln!(output, "    reason  {reason}")?;
    if let Some(why) = &outcome.why {
        writeln!(output, "    why     {why}")?;
    }
    Ok(())
}
