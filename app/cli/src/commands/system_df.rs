//! `podwire system df`

use engine::DiskUsage;
use jiff::Timestamp;

use super::images::split;
use crate::ages::{human_duration, human_size_4};
use crate::flags::{self, Command};
use crate::formats::{self, Listing};
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct SystemDf {
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for SystemDf {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        if self.verbose && !self.format.is_empty() {
            return Err(Failure::new("cannot combine --format and --verbose flags"));
        }
        let usage = podwire.engine()?.disk_usage()?;
        match self.verbose {
            true => verbose(&usage)?,
            false => self.summary(&usage)?,
        }
        Ok(0)
    }
}

impl SystemDf {
    fn summary(&self, usage: &DiskUsage) -> Result<(), Failure> {
        let rows: Vec<Value> = totals(usage).iter().map(Total::shown).collect();
        if self.format == "json" {
            let list: serde_json::Value = rows.iter().map(Value::to_json).collect();
            return write(&formats::indented(&list, "    "));
        }
        let default = "table {{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
        Listing { name: "df", format: &self.format, default, headings: &[], header: true }.print(&rows)
    }
}

/// One line of the table.
struct Total {
    kind: &'static str,
    total: usize,
    active: usize,
    size: u64,
    /// So much would be free if what is not active were removed.
    reclaimable: u64,
}

/// Podman counts an image once for each of its names, and a volume as active once for each container.
fn totals(usage: &DiskUsage) -> [Total; 3] {
    let used = || usage.images.iter().filter(|(_, users)| *users > 0);
    let images = Total {
        kind: "Images",
        total: usage.images.iter().map(|(image, _)| image.image.names.len().max(1)).sum(),
        active: used().count(),
        size: usage.layers,
        reclaimable: usage.layers.saturating_sub(used().map(|(image, _)| image.own).sum()),
    };
    let idle = usage.containers.iter().filter(|c| c.summary.state != engine::State::Running);
    let containers = Total {
        kind: "Containers",
        total: usage.containers.len(),
        active: usage.containers.iter().filter(|c| c.summary.state == engine::State::Running).count(),
        size: usage.containers.iter().map(|c| c.written).sum(),
        reclaimable: idle.map(|c| c.written).sum(),
    };
    let volumes = Total {
        kind: "Local Volumes",
        total: usage.volumes.len(),
        active: usage.volumes.iter().map(|v| v.users).sum(),
        size: usage.volumes.iter().map(|v| v.size).sum(),
        reclaimable: usage.volumes.iter().filter(|v| v.users == 0).map(|v| v.size).sum(),
    };
    [images, containers, volumes]
}

impl Total {
    fn shown(&self) -> Value {
        let percent = match self.size {
            0 => 0,
            size => (self.reclaimable as f64 / size as f64 * 100.0).round() as u64,
        };
        Value::record(
            "*system.dfSummary",
            vec![
                Field::same("Type", self.kind),
                Field::same("Total", self.total as i64),
                Field::same("Active", self.active as i64),
                Field::same("RawSize", Value::Int(self.size as i64)),
                Field::same("RawReclaimable", Value::Int(self.reclaimable as i64)),
                Field::same("TotalCount", self.total as i64),
                Field::same("Size", human_size_4(self.size)),
                Field::same("Reclaimable", format!("{} ({percent}%)", human_size_4(self.reclaimable))),
            ],
        )
    }
}

fn verbose(usage: &DiskUsage) -> Result<(), Failure> {
    let now = Timestamp::now();
    let age = |then: Timestamp| human_duration(now.duration_since(then));
    let mut images = Vec::new();
    for (image, users) in &usage.images {
        let names = image.image.names.iter().map(|name| split(name));
        let names: Vec<_> = if image.image.names.is_empty() { vec![("<none>", "<none>")] } else { names.collect() };
        images.extend(names.into_iter().map(|(repository, tag)| {
            Value::record(
                "*system.dfImage",
                vec![
                    Field::same("Repository", repository),
                    Field::same("Tag", tag),
                    Field::same("ImageID", image.image.id.short()),
                    Field::same("Created", age(image.image.created.unwrap_or(Timestamp::UNIX_EPOCH))),
                    Field::same("Size", human_size_4(image.image.size)),
                    Field::same("SharedSize", human_size_4(image.shared)),
                    Field::same("UniqueSize", human_size_4(image.own)),
                    Field::same("Containers", *users as i64),
                ],
            )
        }));
    }
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .map(|c| {
            let of = &c.summary;
            Value::record(
                "*system.dfContainer",
                vec![
                    Field::same("ContainerID", of.id.short()),
                    Field::same("Image", of.image_id.map_or_else(String::new, |id| id.short())),
                    Field::same("Command", of.command.join(" ")),
                    Field::same("LocalVolumes", c.volumes as i64),
                    Field::same("RWSize", human_size_4(c.written)),
                    Field::same("Created", age(of.created)),
                    Field::same("Status", of.state.to_string()),
                    Field::same("Names", of.name.as_str()),
                ],
            )
        })
        .collect();
    let volumes: Vec<Value> = usage
        .volumes
        .iter()
        .map(|volume| {
            Value::record(
                "*system.dfVolume",
                vec![
                    Field::same("VolumeName", volume.name.as_str()),
                    Field::same("Links", volume.users as i64),
                    Field::same("Size", human_size_4(volume.size)),
                ],
            )
        })
        .collect();
    for (heading, row, rows) in [
        ("Images space usage:\n\n", IMAGE_ROW, images),
        ("\nContainers space usage:\n\n", CONTAINER_ROW, containers),
        ("\nLocal Volumes space usage:\n\n", VOLUME_ROW, volumes),
    ] {
        write(heading)?;
        Listing { name: "df", format: "", default: row, headings: HEADINGS, header: true }.print(&rows)?;
    }
    Ok(())
}

const IMAGE_ROW: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ImageID}}\t{{.Created}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINER_ROW: &str = "table {{.ContainerID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.RWSize}}\t{{.Created}}\t{{.Status}}\t{{.Names}}";
const VOLUME_ROW: &str = "table {{.VolumeName}}\t{{.Links}}\t{{.Size}}";
const HEADINGS: &[(&str, &str)] = &[
    ("ImageID", "IMAGE ID"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("ContainerID", "CONTAINER ID"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("RWSize", "SIZE"),
    ("VolumeName", "VOLUME NAME"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_podmans_keys_in_its_order() {
        let total = Total { kind: "Images", total: 2, active: 1, size: 4_000_000, reclaimable: 1_000_000 };
        assert_eq!(
            total.shown().to_json().to_string(),
            r#"{"Type":"Images","Total":2,"Active":1,"RawSize":4000000,"RawReclaimable":1000000,"TotalCount":2,"Size":"4MB","Reclaimable":"1MB (25%)"}"#
        );
        let nothing = Total { size: 0, reclaimable: 0, ..total };
        assert!(nothing.shown().to_json().to_string().ends_with(r#""Reclaimable":"0B (0%)"}"#));
    }
}
