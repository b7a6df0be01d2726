//! From the command line through the component to an authorization server and
//! back: the real ones, and one that answers as the test dictates.

mod authorization;
mod bad_callback;
mod bad_config;
mod bad_response;
mod concurrency;
mod keys;
mod machine;
mod operate;
mod protocol;
mod quirks;
mod second_server;
mod secrecy;
mod stores;
mod support;
mod tls;
