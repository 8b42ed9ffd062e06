//! Go templates for `--format`; the first line, if it is JSON, is what they are rendered over.
#![no_main]

use libfuzzer_sys::fuzz_target;

const SAMPLE: &str = r#"{"Id": "0123456789ab", "Name": "web", "Names": ["web", "www"], "Size": 1.5, "N": -3,
    "State": {"Status": "running", "Pid": 42, "OOMKilled": false}, "Created": "2026-11-24T12:00:00.5Z",
    "NetworkSettings": {"Networks": {"b": {"IPAddress": "10.89.0.2"}, "a": {"IPAddress": "10.88.0.2"}}},
    "Config": {"Labels": {"a": "1", "b": "2"}, "Cmd": null}}"#;

fuzz_target!(|text: &str| {
    match text.split_once('\n') {
        Some((json, template)) if json.starts_with('{') => podwire::fuzzing::template(template, json),
        _ => podwire::fuzzing::template(text, SAMPLE),
    }
});
