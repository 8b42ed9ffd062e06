//! Kubernetes' files: what can be played can be taken down by its names, and mounts nothing that it does not name.
#![no_main]

use std::path::PathBuf;

use engine::config::NetworkConfig;
use kube::Around;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let around = Around {
        network: NetworkConfig::default(),
        publish: Vec::new(),
        publish_all: text.len().is_multiple_of(2),
        volumes: PathBuf::from("/volumes"),
        tls_verify: true,
        create_command: Vec::new(),
    };
    match kube::read(text, &[text.to_owned()], &around).or_else(|_| kube::read(text, &[], &around)) {
        Ok(plays) => {
            let names = kube::names(text).expect("what is played can be taken down");
            let played: Vec<String> =
                plays.iter().filter_map(|play| Some(play.pod.name.as_ref()?.to_string())).collect();
            assert_eq!(names.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), played);
            for volume in plays.iter().flat_map(|play| &play.containers).flat_map(|container| &container.volumes) {
                assert!(volume.target.starts_with('/'), "{volume:?}");
            }
            for claim in plays.iter().flat_map(|play| &play.claims) {
                assert!(claim.parse::<model::ContainerName>().is_ok(), "{claim:?} is no name of a volume");
            }
        }
        Err(refused) => assert!(!refused.0.is_empty() && !refused.0.contains('\n'), "{refused:?}"),
    }
    let _ = kube::names(text);
});
