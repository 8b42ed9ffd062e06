//! `podwire stats`

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{Kind, Measured, Stats as Reading, Traffic, go_duration};
use jiff::Timestamp;
use model::ContainerId;

use crate::ages;
use crate::flags::{Command, unsigned};
use crate::formats::Listing;
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct Stats {
    /// Show all containers (default: those that run)
    #[arg(short, long)]
    all: bool,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Seconds between two readings
    #[arg(short, long, value_name = "int", value_parser = unsigned, default_value = "5")]
    interval: u32,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    /// Do not clear the screen between readings
    #[arg(long)]
    no_reset: bool,
    /// Read once and end
    #[arg(long)]
    no_stream: bool,
    /// Show ids in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Stats {
    fn run(self, podwire: &Podwire) -> Outcome {
        if usize::from(self.all) + usize::from(self.latest) + usize::from(!self.arguments.is_empty()) > 1 {
            return Err(Failure::new("--all, --latest and containers cannot be used together"));
        }
        if self.interval == 0 {
            return Err(Failure::new("invalid interval, must be a positive number of seconds"));
        }
        let engine = podwire.engine()?;
        let whose = match (self.all, self.latest) {
            (true, _) => Measured::All,
            (_, true) => Measured::Named(vec![podwire.latest(&engine)?]),
            _ if self.arguments.is_empty() => Measured::Running,
            _ => Measured::Named(self.arguments.clone()),
        };
        let rhythm =
            Rhythm { interval: Duration::from_secs(self.interval.into()), once: self.no_stream, clear: !self.no_reset };
        let mut meters = Meters::default();
        rhythm.beat(|| {
            let readings = engine.stats(&whose)?;
            let rows: Vec<Value> = readings.iter().map(|now| row(now, &meters.of(now), self.no_trunc)).collect();
            meters.keep(&readings);
            Listing { name: "stats", format: &self.format, default: TABLE, headings: HEADINGS, header: true }
                .print(&rows)
        })
    }
}

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}\t{{.UpTime}}\t{{.AVGCPU}}";

const HEADINGS: &[(&str, &str)] = &[
    ("UpTime", "CPU TIME"),
    ("Up", "CPU TIME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("PIDS", "PIDS"),
    ("AVGCPU", "AVG CPU %"),
];

/// How often there is a reading.
pub(super) struct Rhythm {
    pub(super) interval: Duration,
    /// One, and no more.
    pub(super) once: bool,
    /// Is the screen cleared before each?
    pub(super) clear: bool,
}

impl Rhythm {
    /// Until it is interrupted, or who is watched has gone.
    pub(super) fn beat(&self, mut show: impl FnMut() -> Result<(), Failure>) -> Outcome {
        loop {
            if self.clear && !self.once {
                // As Podman does: the screen, then the cursor to its beginning.
                write("\x1b[2J\x1b[1;1H")?;
            }
            show()?;
            if self.once {
                return Ok(0);
            }
            std::thread::sleep(self.interval);
        }
    }
}

/// What was read before of each container, to tell what it did since.
#[derive(Default)]
pub(super) struct Meters {
    last: BTreeMap<ContainerId, (Timestamp, u64)>,
    /// The mean of the percentages shown so far, and their number.
    means: BTreeMap<ContainerId, (f64, f64)>,
}

/// Of one processor, in hundredths.
pub(super) struct Load {
    pub(super) now: Option<f64>,
    pub(super) mean: Option<f64>,
}

impl Meters {
    /// Since the last reading; before there is one, since its start.
    pub(super) fn of(&self, reading: &Reading) -> Load {
        let (Some(started), Some((cpu, _))) = (reading.started, reading.cpu) else {
            return Load { now: None, mean: None };
        };
        let since = self.last.get(&reading.id).filter(|(at, used)| *at >= started && *used <= cpu);
        let (from, used) = since.copied().unwrap_or((started, 0));
        let elapsed = reading.at.duration_since(from).as_nanos().max(1) as f64;
        let now = (cpu - used) as f64 / elapsed * 100.0;
        let (mean, count) = self.means.get(&reading.id).copied().unwrap_or((0.0, 0.0));
        Load { now: Some(now), mean: Some((mean * count + now) / (count + 1.0)) }
    }

    /// For the next reading.
    pub(super) fn keep(&mut self, readings: &[Reading]) {
        for reading in readings {
            if let (Some(mean), Some((cpu, _))) = (self.of(reading).mean, reading.cpu) {
                let count = self.means.get(&reading.id).map_or(0.0, |(_, count)| *count);
                self.means.insert(reading.id, (mean, count + 1.0));
                self.last.insert(reading.id, (reading.at, cpu));
            }
        }
    }
}

/// Podman's two dashes stand for nothing, and for what nobody counts.
const NOTHING: &str = "--";

pub(super) fn percent(value: Option<f64>) -> String {
    match value.filter(|value| *value > 0.0) {
        Some(value) => format!("{value:.2}%"),
        None => NOTHING.to_owned(),
    }
}

pub(super) fn pair(a: u64, b: u64, size: fn(u64) -> String) -> String {
    if a == 0 && b == 0 { format!("{NOTHING} / {NOTHING}") } else { format!("{} / {}", size(a), size(b)) }
}

pub(super) fn memory_percent(reading: &Reading) -> Option<f64> {
    let used = reading.memory.filter(|_| reading.memory_limit > 0)?;
    Some(used as f64 / reading.memory_limit as f64 * 100.0)
}

pub(super) fn memory_usage(reading: &Reading, size: fn(u64) -> String) -> String {
    match reading.memory {
        Some(used) => pair(used, reading.memory_limit, size),
        None => pair(0, 0, size),
    }
}

pub(super) fn network(reading: &Reading) -> (u64, u64) {
    let sum = |bytes: fn(&Traffic) -> u64| reading.networks.values().map(bytes).sum();
    (sum(|traffic| traffic.rx_bytes), sum(|traffic| traffic.tx_bytes))
}

pub(super) fn count(pids: Option<u64>) -> String {
    pids.filter(|pids| *pids > 0).map_or_else(|| NOTHING.to_owned(), |pids| pids.to_string())
}

/// Powers of 1024, as `MemUsageBytes` has them: `3.5MiB`.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let text = format!("{size:.*}", if size >= 1000.0 { 0 } else { 3 - (size.max(1.0).log10() as usize).min(3) });
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    format!("{text}{}", UNITS[unit])
}

/// What templates see of a reading, and its JSON object.
fn row(reading: &Reading, load: &Load, full: bool) -> Value {
    let id = if full { reading.id.to_string() } else { reading.id.short() };
    let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let (cpu, system) = reading.cpu.unwrap_or_default();
    let (rx, tx) = network(reading);
    let net = pair(rx, tx, ages::human_size_4);
    let block = pair(reading.block_input, reading.block_output, ages::human_size_4);
    let usage = memory_usage(reading, ages::human_size_4);
    let time = go_duration(cpu);
    let pids = count(reading.pids);
    let link = |(name, traffic): (&String, &Traffic)| {
        let fields = [
            ("RxBytes", traffic.rx_bytes),
            ("RxDropped", traffic.rx_dropped),
            ("RxErrors", traffic.rx_errors),
            ("RxPackets", traffic.rx_packets),
            ("TxBytes", traffic.tx_bytes),
            ("TxDropped", traffic.tx_dropped),
            ("TxErrors", traffic.tx_errors),
            ("TxPackets", traffic.tx_packets),
        ];
        let fields = fields.iter().map(|(name, number)| Field::same(name, int(*number))).collect();
        (name.clone(), Value::record("define.ContainerNetworkStats", fields))
    };
    let links = Value::Map(std::rc::Rc::new(reading.networks.iter().map(link).collect()));
    Value::record(
        "containers.containerStats",
        vec![
            Field::named("ID", "id", id),
            Field::named("Name", "name", reading.name.as_str()),
            Field::named("UpTime", "cpu_time", time.as_str()),
            Field::named("CPUPerc", "cpu_percent", percent(load.now)),
            Field::named("AVGCPU", "avg_cpu", percent(load.mean)),
            Field::named("MemUsage", "mem_usage", usage),
            Field::named("MemPerc", "mem_percent", percent(memory_percent(reading))),
            Field::named("NetIO", "net_io", net),
            Field::named("BlockIO", "block_io", block),
            Field::named("PIDS", "pids", pids),
            Field::method("Up", time.as_str()),
            Field::method("MemUsageBytes", memory_usage(reading, binary_size)),
            Field::method("ContainerID", reading.id.to_string()),
            Field::method("CPU", Value::Float(load.now.unwrap_or_default())),
            Field::method("AvgCPU", Value::Float(load.mean.unwrap_or_default())),
            Field::method("CPUNano", int(cpu)),
            Field::method("CPUSystemNano", int(system)),
            Field::method("SystemNano", int(reading.at.as_nanosecond().try_into().unwrap_or_default())),
            Field::method("Duration", int(cpu)),
            Field::method("PerCPU", Value::Nil),
            Field::method("MemLimit", int(reading.memory_limit)),
            Field::method("NetInput", int(rx)),
            Field::method("NetOutput", int(tx)),
            Field::method("Network", links),
            Field::method("BlockInput", int(reading.block_input)),
            Field::method("BlockOutput", int(reading.block_output)),
            Field::method("PIDs", int(reading.pids.unwrap_or_default())),
        ],
    )
}

/// Pods that went while they were watched are no error; a container that was named and has gone is.
pub(super) fn has_gone(error: &engine::Error) -> bool {
    error.kind == Kind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: i64, cpu: u64) -> Reading {
        Reading {
            id: ContainerId::from_bytes([7; 32]),
            name: "web".to_owned(),
            pod: None,
            at: Timestamp::from_second(seconds).unwrap(),
            started: Some(Timestamp::from_second(100).unwrap()),
            cpu: Some((cpu, cpu / 4)),
            memory: Some(5 << 20),
            memory_limit: 10 << 20,
            pids: Some(3),
            block_input: 4096,
            block_output: 0,
            networks: BTreeMap::from([(
                "eth0".to_owned(),
                Traffic { rx_bytes: 1500, tx_bytes: 42, ..Traffic::default() },
            )]),
        }
    }

    #[test]
    fn the_first_percentage_is_since_the_start_and_the_next_since_the_last() {
        let mut meters = Meters::default();
        let first = reading(110, 5_000_000_000);
        assert_eq!(percent(meters.of(&first).now), "50.00%");
        meters.keep(&[first]);
        let second = reading(120, 25_000_000_000);
        let load = meters.of(&second);
        assert_eq!((percent(load.now), percent(load.mean)), ("200.00%".to_owned(), "125.00%".to_owned()));
        meters.keep(&[second]);
        let again = Reading { started: Timestamp::from_second(130).ok(), ..reading(140, 1_000_000_000) };
        assert_eq!(percent(meters.of(&again).now), "10.00%", "it was started anew");
    }

    #[test]
    fn json_has_podmans_names_and_texts() {
        let reading = reading(110, 2_000_000);
        let load = Meters::default().of(&reading);
        assert_eq!(
            row(&reading, &load, false).to_json().to_string(),
            r#"{"id":"070707070707","name":"web","cpu_time":"2ms","cpu_percent":"0.02%","avg_cpu":"0.02%","mem_usage":"5.243MB / 10.49MB","mem_percent":"50.00%","net_io":"1.5kB / 42B","block_io":"4.096kB / 0B","pids":"3"}"#
        );
    }

    #[test]
    fn what_does_not_run_or_is_not_counted_is_two_dashes() {
        let down = Reading { started: None, cpu: None, memory: None, pids: None, ..reading(110, 0) };
        let load = Meters::default().of(&down);
        assert_eq!((percent(load.now), count(down.pids)), ("--".to_owned(), "--".to_owned()));
        assert_eq!(memory_usage(&down, ages::human_size_4), "-- / --");
    }

    #[test]
    fn durations_are_gos() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (15, "15ns"),
            (15_250, "15.25µs"),
            (15_250_000, "15.25ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_723_000_000_000, "1h2m3s"),
        ] {
            assert_eq!(go_duration(nanoseconds), text);
        }
        assert_eq!((binary_size(5 << 20), binary_size(1536)), ("5MiB".to_owned(), "1.5KiB".to_owned()));
    }
}
