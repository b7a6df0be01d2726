//! The stores on real servers.

mod both;
mod certificates;
mod postgres;
mod redis;
