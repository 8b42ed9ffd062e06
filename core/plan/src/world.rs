//! A model kernel.
