//! A round trip of the client credentials grant over the loopback interface.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokenwell::TokenOptions;
use tokenwell_core::connection::TokenOptions as CoreOptions;
use tokio::runtime;

use crate::native::Peer;
use crate::report::{Group, Limit, Row, Unit};
use crate::server::Server;
use crate::{Failure, Rig, median};

/// More than a connection's history has room for, which is stored with each
/// renewal.
const BEFORE: usize = 150;
const ROUNDS: usize = 1500;

/// Measures, and gives the rows.
pub fn measure() -> Result<Group, Failure> {
    let http = medians(&Server::http()?)?;
    let https = medians(&Server::https()?)?;
    let row = |id: &'static str, what: &'static str, value, beside| {
        Row::new(id, what, Unit::Microseconds, value).beside(beside)
    };
    let limit = Limit::RatioAtMost(1.2);
    Ok(Group {
        title: "Client credentials, beside the oauth2 crate on a pooled reqwest client".to_owned(),
        rows: vec![
            row("exchange-http", "http", http.host, http.peer).limited(limit),
            row("exchange-https", "https, HTTP/2", https.host, https.peer).limited(limit),
            row(
                "exchange-core",
                "http, core natively, same store",
                http.core,
                http.peer,
            ),
        ],
    })
}

/// Medians, in microseconds.
struct Medians {
    host: f64,
    core: f64,
    peer: f64,
}

fn medians(server: &Server) -> Result<Medians, Failure> {
    let rig = Rig::in_memory(server)?;
    let peer = Peer::new(server)?;
    // One thread for the client, whichever it is, and one for the server.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let connection = rig.connection("host").await?;
        let core = rig.native.open("core", &rig.config)?;
        let mut options = TokenOptions::default();
        let mut core_options = CoreOptions::default();
        let (mut host_times, mut core_times, mut peer_times) = (vec![], vec![], vec![]);
        for round in 0..BEFORE + ROUNDS {
            let begun = Instant::now();
            let drawn = connection.token(options).await?;
            let host = begun.elapsed();
            // As if a resource server had refused it: the next call renews it.
            options = TokenOptions {
                rejected: Some(drawn.access_token),
                ..TokenOptions::default()
            };
            let begun = Instant::now();
            peer.token().await?;
            let peer = begun.elapsed();
            let begun = Instant::now();
            let drawn = core.token(&core_options).await?;
            let core = begun.elapsed();
            core_options.rejected = Some(drawn.access_token);
            if round >= BEFORE {
                host_times.push(host.as_secs_f64() * 1e6);
                core_times.push(core.as_secs_f64() * 1e6);
                peer_times.push(peer.as_secs_f64() * 1e6);
            }
        }
        let issued = server.state.issued.load(Ordering::Relaxed);
        if issued != 3 * (BEFORE + ROUNDS) {
            return Err(
                format!("{issued} tokens were issued in {} rounds", BEFORE + ROUNDS).into(),
            );
        }
        Ok(Medians {
            host: median(host_times),
            core: median(core_times),
            peer: median(peer_times),
        })
    })
}
