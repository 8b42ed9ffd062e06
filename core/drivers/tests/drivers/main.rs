//! Drivers, plan and model kernel together: stories in `tests/plans/*.txt`, and properties.

mod machine;
mod plans;
mod properties;
