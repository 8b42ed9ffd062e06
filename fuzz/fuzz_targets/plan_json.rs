//! The journal: a plan that is read is written and read again as the same, and can be taken back from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plan::Plan;

fuzz_target!(|text: &str| {
    let Ok(plan) = serde_json::from_str::<Plan>(text) else { return };
    let written = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&written).expect(&written), plan);
    assert!(plan.to_string().lines().count() >= plan.ops.len());
    assert_eq!(plan.steps().map(<[_]>::len).sum::<usize>(), plan.ops.len());
    for done in 0..=plan.ops.len() {
        let back = serde_json::to_string(&plan.undo_first(done)).expect("JSON");
        serde_json::from_str::<Plan>(&back).expect(&back);
    }
});
