//! Faults on real parts: hosts that are killed at every effect of a renewal,
//! stores that fail, races on every store. What is promised is in
//! `guest/core/RENEWAL.md`; `cargo xtask test --faults` runs all of it.

mod authorized;
mod child;
mod clock;
mod kills;
mod races;
mod sick_stores;
