//! What follows `--network pasta:` and `--network slirp4netns:`, and values of `network create`.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use model::network::{BridgeOptions, IpamPolicy, NetworkRoute};
use model::{PastaOptions, SlirpOptions};

fuzz_target!(|text: &str| {
    for pair in [PastaOptions::parse(text), PastaOptions::parse(text)].windows(2) {
        assert_eq!(pair[0].as_ref().err(), pair[1].as_ref().err());
    }
    let _ = (text.parse::<SlirpOptions>(), text.parse::<NetworkRoute>(), text.parse::<IpamPolicy>());
    let _ = text.parse::<linux::Signal>();
    let options: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let _ = BridgeOptions::parse(&options);
});
