//! Every rule of the demo server, over HTTP.

mod authorization;
mod support;
mod tokens;
