//! What happened, for whoever asks or follows.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::{Result, Tx, text_of};

/// How many events are remembered; older ones are dropped one by one.
pub const EVENTS_KEPT: i64 = 10_000;

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Its place in the order of events; given by the store.
    #[serde(skip)]
    pub seq: i64,
    /// When, in nanoseconds of Unix time; given by the store.
    #[serde(skip)]
    pub time: i64,
    /// What it happened to: `container`, `image`, `network` or `volume`.
    pub kind: String,
    /// What happened: `create`, `start`, `died` …
    pub status: String,
    /// The container's, image's or network's id; empty for volumes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container's, image's or volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A container's image, by name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// A network's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// With `died` and `exec_died`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// With `health_status`: `healthy` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// A container's labels, a network's driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
}

impl Event {
    /// `status` happened to the image of this id and name.
    pub fn image(status: &str, id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), ..Self::of("image", status) }
    }

    /// `status` happened to a volume.
    pub fn volume(status: &str, name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::of("volume", status) }
    }

    /// `status` (`create`, `remove`, `update`) happened to a network.
    pub fn network(status: &str, network: &model::Network) -> Self {
        // Its JSON form has the driver's word.
        let form = serde_json::to_value(network).unwrap_or_default();
        let driver = form["driver"].as_str().unwrap_or_default().to_owned();
        Self {
            id: network.id.to_string(),
            network: network.name.to_string(),
            attributes: Some(BTreeMap::from([("driver".to_owned(), driver)])),
            ..Self::of("network", status)
        }
    }

    /// Does it tell of a container that joined or left a network?
    pub fn is_attachment(&self) -> bool {
        self.kind == "network" && matches!(self.status.as_str(), "connect" | "disconnect")
    }

    /// `status` happened to a thing of this kind.
    pub fn of(kind: &str, status: &str) -> Self {
        Self { kind: kind.to_owned(), status: status.to_owned(), ..Self::default() }
    }
}

impl Tx<'_> {
    /// Remembers that it happened, now.
    pub fn event_add(&self, event: &Event) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        self.change("INSERT INTO event(time, doc) VALUES(?1, ?2)", params![now, text_of(event)])?;
        self.change("DELETE FROM event WHERE seq <= last_insert_rowid() - ?1", [EVENTS_KEPT]).map(drop)
    }

    /// The place of the last event, from which on new ones follow; 0 when there was none yet.
    pub fn event_last(&self) -> Result<i64> {
        Ok(self.row("SELECT max(seq) FROM event", [], |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0))
    }

    /// The events behind the place `after`, in order.
    pub fn events_after(&self, after: i64) -> Result<Vec<Event>> {
        let sql = "SELECT seq, time, doc FROM event WHERE seq > ?1 ORDER BY seq";
        let rows = self.rows(sql, [after], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
        let read =
            |(seq, time, doc): (i64, i64, String)| Ok(Event { seq, time, ..self.document::<Event>("an event", &doc)? });
        rows.into_iter().map(read).collect()
    }
}
