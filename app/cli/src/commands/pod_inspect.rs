//! `podwire pod inspect`

use engine::{Engine, Kind};

use super::inspect::show;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::pods;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct PodInspect {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for PodInspect {
    fn run(mut self, podwire: &Podwire) -> Outcome {
        let engine = podwire.engine()?;
        if self.latest {
            self.arguments = vec![pods::one(&engine, &self.arguments, true)?.to_string()];
        }
        if self.arguments.is_empty() {
            return Err(Failure::new("no names or ids specified"));
        }
        show(&engine, &self.arguments, &self.format, pod)
    }
}

/// What stands in the place of a field that is left out when empty.
type Empty = fn() -> Value;

/// Go's names of what has others in JSON and is left out there when empty, and what is then in its place.
const GO_NAMES: &[(&str, &str, Empty)] = &[
    ("CPUPeriod", "cpu_period", || Value::Int(0)),
    ("CPUQuota", "cpu_quota", || Value::Int(0)),
    ("CPUShares", "cpu_shares", || Value::Int(0)),
    ("CPUSetCPUs", "cpuset_cpus", || Value::text("")),
    ("CPUSetMems", "cpuset_mems", || Value::text("")),
    ("MemoryLimit", "memory_limit", || Value::Int(0)),
    ("MemorySwap", "memory_swap", || Value::Int(0)),
    ("BlkioWeight", "blkio_weight", || Value::Int(0)),
    ("BlkioWeightDevice", "blkio_weight_device", || Value::list([])),
    ("BlkioDeviceReadBps", "device_read_bps", || Value::list([])),
    ("BlkioDeviceWriteBps", "device_write_bps", || Value::list([])),
    ("Mounts", "mounts", || Value::list([])),
    ("Devices", "devices", || Value::list([])),
    ("VolumesFrom", "volumes_from", || Value::list([])),
    ("SecurityOpts", "security_opt", || Value::list([])),
    ("CgroupParent", "CgroupParent", || Value::text("")),
    ("CgroupPath", "CgroupPath", || Value::text("")),
    ("RestartPolicy", "RestartPolicy", || Value::text("")),
];

/// The pod of that name, or the words for that there is none.
pub(super) fn pod(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.inspect_pod(name) {
        Ok(json) => {
            let value = Value::from_json(&json, &["Labels", "PortBindings"]);
            let id = value.field_or_nil("Id");
            let named = |value: Value, (name, key, empty): &(&str, &str, fn() -> Value)| {
                let field = match value.field_or_nil(key) {
                    Value::Nil => empty(),
                    field => field,
                };
                value.with(Field::method(name, field))
            };
            Ok(Ok(GO_NAMES.iter().fold(value.with(Field::method("ID", id)), named)))
        }
        Err(error) if error.kind == Kind::NotFound => Ok(Err(format!("no such pod {name}"))),
        Err(error) => Err(error.into()),
    }
}
