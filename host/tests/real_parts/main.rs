//! What needs real parts: hosts that are killed, stores on real servers and on
//! disks that fail, races on every store. What is promised is in
//! `guest/core/RENEWAL.md`; `cargo xtask test --faults` runs all of it.

#![cfg(target_os = "linux")]

mod authorized;
mod child;
mod clock;
mod kills;
mod races;
mod sick_stores;
mod stores;
