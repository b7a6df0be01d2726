//! Ten thousand connections whose tokens expire at the same time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokenwell::{Connection, NetworkPolicy, TokenOptions};
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time;

use crate::native::Peer;
use crate::report::{Group, Limit, Row, Unit};
use crate::server::Server;
use crate::{Failure, Rig, median};

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 5;

/// The lifetime of a token, in seconds.
const LIFETIME: u64 = 2;

/// How long the server considers a request, in milliseconds, so that there is
/// something to be in flight.
const CONSIDERS: u64 = 2;

/// Measures, and gives the rows.
pub fn measure() -> Result<Group, Failure> {
    let server = Server::http()?;
    server.state.expires_in.store(LIFETIME, Ordering::Relaxed);
    server.state.considers.store(CONSIDERS, Ordering::Relaxed);
    let rig = Rig::in_memory(&server)?;
    let peer = Arc::new(Peer::new(&server)?);
    let most = NetworkPolicy::default().in_flight_per_origin.get();
    let places = Arc::new(Semaphore::new(most));
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut ours, mut theirs, mut peak) = (vec![], vec![], 0);
    runtime.block_on(async {
        let config = rig.host.parse_config(&rig.config).await?;
        let connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|number| {
                rig.host
                    .connection(&format!("connection-{number}"), config.clone())
            })
            .collect();
        // The first round is the first token of each.
        for round in 0..=ROUNDS {
            server.state.peak();
            let rate = rate(
                &server,
                connections.iter().map(|connection| {
                    let connection = connection.clone();
                    async move {
                        connection.token(TokenOptions::default()).await?;
                        Ok(())
                    }
                }),
            )
            .await?;
            peak = peak.max(server.state.peak());
            let expired = time::sleep(Duration::from_secs(LIFETIME + 1));
            let their_rate = self::rate(
                &server,
                (0..CONNECTIONS).map(|_| {
                    let (peer, places) = (Arc::clone(&peer), Arc::clone(&places));
                    async move {
                        let _place = places.acquire().await?;
                        peer.token().await
                    }
                }),
            )
            .await?;
            if round > 0 {
                ours.push(rate);
                theirs.push(their_rate);
            }
            expired.await;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(Group {
        title: "10,000 connections that expire together, beside the oauth2 crate".to_owned(),
        rows: vec![
            Row::new(
                "together-rate",
                "token requests per second",
                Unit::PerSecond,
                median(ours),
            )
            .beside(median(theirs))
            .limited(Limit::RatioAtLeast(0.8)),
            Row::new(
                "together-peak",
                "most in flight to the origin",
                Unit::Requests,
                peak as f64,
            )
            .limited(Limit::AtMost(most as f64)),
        ],
    })
}

/// Does all of it at once; tokens per second.
async fn rate<F>(server: &Server, work: impl Iterator<Item = F>) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let before = server.state.issued.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut tasks: JoinSet<_> = work.collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let issued = server.state.issued.load(Ordering::Relaxed) - before;
    if issued != CONNECTIONS {
        return Err(format!("{issued} tokens were issued where {CONNECTIONS} had expired").into());
    }
    Ok(issued as f64 / elapsed)
}
