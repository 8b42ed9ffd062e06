//! What commands, netd, the relay and its lookout say to each other: read, said again and read, it is the same.
#![no_main]

use std::net::SocketAddr;

use engine::{netd, relay_client};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: Serialize + DeserializeOwned>(text: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(text) else { return };
    let said = serde_json::to_string(&message).expect("JSON");
    let again: T = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), said);
}

fuzz_target!(|text: &[u8]| {
    read::<netd::Request>(text);
    read::<netd::Answer>(text);
    read::<netd::Order>(text);
    read::<relay_client::Request>(text);
    read::<relay_client::Answer>(text);
    read::<relay_client::Order>(text);
    read::<Vec<SocketAddr>>(text);
});
