//! `portcullis check`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::excerpt::Sources;
use super::{Exit, sarif};
use crate::control::compatibility::compatibility;
use crate::policy::{
    self, Compatibility, Finding, Names, Place, Severity, SourceFile, read_directory,
};
use crate::settings::{Problem, Settings, SettingsError};

/// Arguments of `portcullis check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manifest files, or directories of them; they are judged as one set. The settings' own
    /// directory, if none is given.
    #[arg(required_unless_present = "config", value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Settings to validate; their compatibility switches are those the manifests are judged by.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Do not report warnings of this id.
    #[arg(long, value_name = "ID")]
    allow: Vec<String>,

    /// How much of a finding is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// How results are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// SARIF 2.1.0, for code review tools.
    Sarif,
}

/// How much of a finding is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// With the lines it is about.
    #[default]
    Long,
    /// One line each.
    Short,
}

/// Runs the verb.
///
/// # Errors
/// Settings or manifests that cannot be read; a switch that is not supported.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut paths = arguments.paths;
    let mut switches = Compatibility::default();
    let mut findings = Vec::new();
    if let Some(config) = &arguments.config {
        match Settings::load(config) {
            Ok(settings) => {
                switches = compatibility(&settings.policy.compat)?;
                if paths.is_empty() {
                    paths.push(settings.policy.directory);
                }
            }
            Err(SettingsError::Invalid(problems)) => {
                findings.extend(problems.iter().map(of_settings));
            }
            Err(error @ SettingsError::Read { .. }) => return Err(error.into()),
        }
    }
    let files = read(&paths)?;
    findings.extend(policy::load(&files, &switches, &Names::default()).findings);
    let allowed = |finding: &Finding| {
        finding.severity == Severity::Warning && arguments.allow.iter().any(|id| id == finding.id)
    };
    findings.retain(|finding| !allowed(finding));

    let mut output = std::io::stdout().lock();
    match arguments.output {
        Output::Json => json(&findings, &mut output)?,
        Output::Sarif => writeln!(output, "{}", sarif::log(&findings))?,
        Output::Text => text(&files, &findings, arguments.format, &mut output)?,
    }
    output.flush()?;
    Ok(if count(&findings, Severity::Error) > 0 {
        Exit::BadInput
    } else if findings.is_empty() {
        Exit::Fine
    } else {
        Exit::Differs
    })
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<SourceFile>> {
    let mut files: Vec<SourceFile> = Vec::new();
    for path in paths {
        let found = read_directory(path)?;
        let nothing = "no *.yaml, *.yml or *.json in it";
        anyhow::ensure!(!found.is_empty(), "{}: {nothing}", path.display());
        for file in found {
            // A file named twice is one file.
            if files.iter().all(|known| known.name != file.name) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// A problem of the settings among the findings of the manifests.
fn of_settings(problem: &Problem) -> Finding {
    let place = Place {
        file: problem.file.display().to_string(),
        line: problem.line.try_into().unwrap_or(u32::MAX),
        column: problem.column.try_into().unwrap_or(u32::MAX),
    };
    let text = problem.to_string();
    let message = text.strip_prefix(&format!("{place}: ")).unwrap_or(&text);
    Finding {
        severity: Severity::Error,
        id: "settings",
        place,
        document: 1,
        object: String::new(),
        // The message names the field.
        path: String::new(),
        message: message.to_owned(),
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    let of_severity = |finding: &&Finding| finding.severity == severity;
    findings.iter().filter(of_severity).count()
}

fn text(
    files: &[SourceFile],
    findings: &[Finding],
    format: Format,
    output: &mut impl Write,
) -> std::io::Result<()> {
    let mut sources = Sources::default();
    for file in files {
        sources.insert(&file.name, &file.text);
    }
    for finding in findings {
        writeln!(output, "{finding}")?;
        if format == Format::Long {
            let excerpt = sources.line(&finding.place, "");
            if !excerpt.is_empty() {
                writeln!(output, "{excerpt}\n")?;
            }
        }
    }
    let errors = counted(count(findings, Severity::Error), "error");
    let warnings = counted(count(findings, Severity::Warning), "warning");
    let files = counted(files.len(), "file");
    writeln!(output, "{errors}, {warnings} in {files}")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn json(findings: &[Finding], output: &mut impl Write) -> anyhow::Result<()> {
    for finding in findings {
        serde_json::to_writer(&mut *output, &line(finding))?;
        writeln!(output)?;
    }
    Ok(())
}

/// One line of `-o json`.
#[derive(Serialize)]
struct Line<'f> {
    severity: &'static str,
    id: &'static str,
    file: &'f str,
    line: u32,
    column: u32,
    document: u32,
    object: &'f str,
    path: &'f str,
    message: &'f str,
}

fn line(finding: &Finding) -> Line<'_> {
    Line {
        severity: match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        },
        id: finding.id,
        file: &finding.place.file,
        line: finding.place.line,
        column: finding.place.column,
        document: finding.document,
        object: &finding.object,
        path: &finding.path,
        message: &finding.message,
    }
}
