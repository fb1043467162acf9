//! Log lines on standard error. Workers never write any: they count, and tell control.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use crate::settings::{Log, LogFormat, LogLevel};

/// Starts logging; only the first call has an effect.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(level)
        .with_target(false);
    let _ = match log.format {
        LogFormat::Text => lines.try_init().map_err(drop),
        LogFormat::Json => lines.json().try_init().map_err(drop),
    };
}
