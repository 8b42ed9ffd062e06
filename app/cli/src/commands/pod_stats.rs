//! `podwire pod stats`

use std::time::Duration;

use engine::{Measured, Stats as Reading};
use model::PodId;

use super::stats::{Load, Meters, Rhythm, count, has_gone, memory_percent, memory_usage, network, pair, percent};
use crate::ages;
use crate::flags::Command;
use crate::formats::Listing;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::pods;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct PodStats {
    /// All pods that run
    #[arg(short, long)]
    all: bool,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    /// Do not clear the screen between readings
    #[arg(long)]
    no_reset: bool,
    /// Read once and end
    #[arg(long)]
    no_stream: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// As Podman's.
const INTERVAL: Duration = Duration::from_secs(5);

impl Command for PodStats {
    fn run(self, podwire: &Podwire) -> Outcome {
        if usize::from(self.all) + usize::from(self.latest) + usize::from(!self.arguments.is_empty()) > 1 {
            return Err(Failure::new("--all, --latest and pods cannot be used together"));
        }
        let engine = podwire.engine()?;
        let named: Vec<PodId> = match self.latest {
            true => vec![pods::one(&engine, &[], true)?],
            false => self.arguments.iter().map(|name| engine.find_pod(name)).collect::<Result<_, _>>()?,
        };
        let rhythm = Rhythm { interval: INTERVAL, once: self.no_stream, clear: !self.no_reset };
        let mut meters = Meters::default();
        rhythm.beat(|| {
            let readings = match named.is_empty() {
                false => engine.stats(&Measured::Pods(named.clone()))?,
                true => {
                    let running =
                        |pod: &engine::pods::PodSummary| matches!(pod.status, "Running" | "Degraded" | "Paused");
                    let running: Vec<PodId> =
                        engine.pods()?.iter().filter(|pod| running(pod)).map(|pod| pod.id).collect();
                    match engine.stats(&Measured::Pods(running)) {
                        // One of them went meanwhile: the next reading is without it.
                        Err(error) if has_gone(&error) && !self.no_stream => Vec::new(),
                        readings => readings?,
                    }
                }
            };
            let rows: Vec<Value> = readings.iter().map(|now| row(now, &meters.of(now))).collect();
            meters.keep(&readings);
            self.show(&rows)
        })
    }
}

impl PodStats {
    fn show(&self, rows: &[Value]) -> Result<(), Failure> {
        let headings = &[
            ("CPU", "CPU %"),
            ("MemUsage", "MEM USAGE/ LIMIT"),
            ("MemUsageBytes", "MEM USAGE/ LIMIT"),
            ("Mem", "MEM %"),
            ("NetIO", "NET IO"),
            ("BlockIO", "BLOCK IO"),
        ];
        Listing { name: "stats", format: &self.format, default: TABLE, headings, header: true }.print(rows)
    }
}

const TABLE: &str =
    "table {{.Pod}}\t{{.CID}}\t{{.Name}}\t{{.CPU}}\t{{.MemUsage}}\t{{.Mem}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}";

fn row(reading: &Reading, load: &Load) -> Value {
    let (rx, tx) = network(reading);
    Value::record(
        "entities.PodStatsReport",
        vec![
            Field::same("CPU", percent(load.now)),
            Field::same("MemUsage", memory_usage(reading, ages::human_size_4)),
            Field::same("MemUsageBytes", memory_usage(reading, super::stats::binary_size)),
            Field::same("Mem", percent(memory_percent(reading))),
            Field::same("NetIO", pair(rx, tx, ages::human_size_4)),
            Field::same("BlockIO", pair(reading.block_input, reading.block_output, ages::human_size_4)),
            Field::same("PIDS", count(reading.pids)),
            Field::same("Pod", reading.pod.map_or_else(String::new, |pod| pod.short())),
            Field::same("CID", reading.id.short()),
            Field::same("Name", reading.name.as_str()),
        ],
    )
}
