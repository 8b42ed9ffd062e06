//! Podman's and CNI's JSON of a network: what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{Network, NetworkId};

fn check(network: &Network) {
    let written = serde_json::to_string(&network).expect("JSON");
    let again: Network = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{e}: {written}"));
    assert_eq!(again, *network);
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    let file = network.to_podman_file();
    assert_eq!(serde_json::from_str::<Network>(&file).unwrap_or_else(|e| panic!("{e}: {file}")), *network);
    for subnet in &network.subnets {
        assert!(subnet.gateway.is_none_or(|gateway| subnet.subnet.contains(gateway)));
    }
}

fuzz_target!(|text: &str| {
    if let Ok(network) = serde_json::from_str::<Network>(text) {
        check(&network);
    }
    if let Ok(network) = model::cni::read(text, |_| NetworkId::from_bytes([7; 32]), "2026-11-24T12:00:00Z") {
        check(&network);
    }
});
