//! What a replay has come to, for people and as data.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::control::status::VolumeStatus;

/// Everything counted and measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Frames read.
    pub received: VolumeStatus,
    /// Of these, frames a snap length has cut short; they were judged as captured.
    pub frames_cut: u64,
    /// By verdict.
    pub verdicts: BTreeMap<&'static str, VolumeStatus>,
    /// Dropped frames by reason.
    pub drops: BTreeMap<&'static str, VolumeStatus>,
    /// Flows created.
    pub flows_created: u64,
    /// BLAKE3 of all verdict lines, hexadecimal.
    pub digest: String,
    /// What ended the replay before the captures' end.
    pub damage: Option<String>,
    /// What the measured passes have come to.
    pub speed: Option<Speed>,
    /// Largest resident memory of the process so far; 0 where the system does not tell.
    pub memory_peak_bytes: u64,
}

/// Speed of the pipeline alone: reading captures and writing results are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// Measured passes.
    pub passes: u32,
    /// Frames of all of them.
    pub frames: u64,
    /// Million frames a second.
    pub mpps: f64,
    /// Nanoseconds a frame.
    pub frame_ns: f64,
    /// How long batches take.
    pub batch: BatchTimes,
}

/// Distribution of the time of one batch.
#[derive(Debug, Clone, Serialize)]
pub struct BatchTimes {
    /// Batches measured.
    pub batches: u64,
    /// Median, nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 take at most this, nanoseconds.
    pub p99_ns: u64,
    /// 999 of 1000 take at most this, nanoseconds.
    pub p99_9_ns: u64,
    /// The longest, nanoseconds.
    pub max_ns: u64,
}

impl Speed {
    /// From a histogram of batch times; `None` when nothing was measured.
    pub(super) fn of(passes: u32, frames: u64, ns: u64, times: &Histogram<u64>) -> Option<Self> {
        if frames == 0 || ns == 0 {
            return None;
        }
        Some(Speed {
            passes,
            frames,
            mpps: frames as f64 * 1_000.0 / ns as f64,
            frame_ns: ns as f64 / frames as f64,
            batch: BatchTimes {
                batches: times.len(),
                p50_ns: times.value_at_quantile(0.5),
                p99_ns: times.value_at_quantile(0.99),
                p99_9_ns: times.value_at_quantile(0.999),
                max_ns: times.max(),
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, volume: &VolumeStatus| {
            let VolumeStatus { packets, bytes } = volume;
            writeln!(f, "{name:<24} {packets:>12} frames {bytes:>15} bytes")
        };
        row(f, "received", &self.received)?;
        if self.frames_cut > 0 {
            writeln!(
                f,
                "  cut by a snap length    {:>12} frames",
                self.frames_cut
            )?;
        }
        for (name, volume) in &self.verdicts {
            row(f, name, volume)?;
            if *name == "drop" {
                for (reason, volume) in &self.drops {
                    row(f, &format!("  {reason}"), volume)?;
                }
            }
        }
        writeln!(f, "flows created            {:>12}", self.flows_created)?;
        if let Some(speed) = &self.speed {
            let BatchTimes {
                p50_ns,
                p99_ns,
                p99_9_ns,
                max_ns,
                ..
            } = speed.batch;
            writeln!(
                f,
                "pipeline                 {:>12.2} Mpps, {:.1} ns a frame ({} frames in {} passes)",
                speed.mpps, speed.frame_ns, speed.frames, speed.passes
            )?;
            writeln!(
                f,
                "a batch                  p50 {p50_ns} ns, p99 {p99_ns} ns, p99.9 {p99_9_ns} ns, \
                 max {max_ns} ns"
            )?;
        }
        let mebibytes = self.memory_peak_bytes as f64 / f64::from(1 << 20);
        writeln!(f, "peak memory              {mebibytes:>12.1} MiB")?;
        writeln!(f, "digest                   {}", self.digest)?;
        if let Some(damage) = &self.damage {
            writeln!(f, "ended early              {damage}")?;
        }
        Ok(())
    }
}

/// `VmHWM` of this process.
pub(super) fn memory_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
