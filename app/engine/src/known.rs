//! What there is by name, for shells that complete command lines.

use store::{Store, StoreError};

use crate::definitions::DEFAULT_NETWORK;
use crate::engine::EngineOptions;

/// Names of what is in a store.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Containers, and whether each runs.
    pub containers: Vec<(String, bool)>,
    /// Images.
    pub images: Vec<String>,
    /// Networks.
    pub networks: Vec<String>,
    /// Pods.
    pub pods: Vec<String>,
    /// Volumes.
    pub volumes: Vec<String>,
}

/// Reads the names from the store as it is: nothing is repaired or made, no namespace entered. Nothing is known of a
/// store that is not there or cannot be read.
pub fn known(options: &EngineOptions) -> Known {
    if !options.root.join(Store::FILE).exists() {
        return Known::default();
    }
    let read = |store: Store| {
        store.read(|tx| {
            let containers = tx.containers()?.into_iter();
            let mut networks: Vec<String> =
                tx.networks_of_all_scopes()?.into_iter().map(|network| network.name.to_string()).collect();
            networks.push(DEFAULT_NETWORK.to_owned());
            networks.sort();
            networks.dedup();
            Ok::<_, StoreError>(Known {
                containers: containers.map(|(row, _)| (row.name, row.state.starts_with("running"))).collect(),
                images: tx.names()?.into_iter().map(|(name, _)| name).collect(),
                networks,
                pods: tx.pods::<serde_json::Value>()?.into_iter().map(|(row, _)| row.name).collect(),
                volumes: tx.volumes()?.into_iter().map(|(name, _)| name).collect(),
            })
        })
    };
    Store::open(&options.root).and_then(read).unwrap_or_default()
}
