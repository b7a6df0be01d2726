//! Many connections in one host: what a token costs, and what a connection
//! costs that nobody asks anything.

use std::time::Instant;

use tokenwell::{Connection, Loaded, TokenOptions};
use tokenwell_core::connection::TokenOptions as CoreOptions;
use tokio::runtime;

use crate::report::{Group, Limit, Row, Unit};
use crate::server::Server;
use crate::{Failure, Rig, allocations, median};

const SIZES: [(usize, &str, &str); 4] = [
    (1, "fleet-1", "1 connection"),
    (100, "fleet-100", "100 connections"),
    (10_000, "fleet-10000", "10,000 connections"),
    (100_000, "fleet-100000", "100,000 connections"),
];

/// How many tokens are drawn before it is the next host's turn.
const TURN: usize = 20_000;
const ROUNDS: usize = 25;

/// A host, its connections, and who is next.
struct Fleet {
    connections: Vec<Connection>,
    next: usize,
    /// What a token took, in microseconds.
    times: Vec<f64>,
    /// What an idle connection holds, in bytes.
    memory: f64,
}

/// Measures, and gives the rows.
pub fn measure() -> Result<Vec<Group>, Failure> {
    let server = Server::http()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut fleets = runtime.block_on(fleets(&server))?;
    for _ in 0..ROUNDS {
        for fleet in &mut fleets {
            runtime.block_on(fleet.draw(TURN))?;
        }
    }
    let memory = fleets.last().map_or(f64::NAN, |fleet| fleet.memory);
    let medians: Vec<f64> = fleets
        .iter_mut()
        .map(|fleet| median(std::mem::take(&mut fleet.times)))
        .collect();
    let row = |(&(size, id, what), &median): (&(usize, &'static str, &'static str), &f64)| {
        let row = Row::new(id, what, Unit::Microseconds, median);
        if size == 1 {
            return row;
        }
        let row = row.beside(medians[0]);
        if size == SIZES[SIZES.len() - 1].0 {
            return row.limited(Limit::RatioAtMost(1.5));
        }
        row
    };
    Ok(vec![
        Group {
            title: "Fresh tokens of many connections in one host, beside those of one".to_owned(),
            rows: SIZES.iter().zip(&medians).map(row).collect(),
        },
        Group {
            title: "An idle connection among 100,000".to_owned(),
            rows: vec![
                Row::new(
                    "fleet-memory",
                    "allocated beyond its record",
                    Unit::Bytes,
                    memory,
                )
                .limited(Limit::AtMost(4096.0)),
            ],
        },
    ])
}

async fn fleets(server: &Server) -> Result<Vec<Fleet>, Failure> {
    let first = Rig::in_memory(server)?;
    let mut fleets = Vec::new();
    // The core obtains the tokens, as the component would, in less time.
    let (most, ..) = SIZES[SIZES.len() - 1];
    for number in 0..most {
        let core = first.native.open(&name(number), &first.config)?;
        core.token(&CoreOptions::default()).await?;
    }
    for (size, ..) in SIZES {
        let rig = Rig::in_memory_like(&first, server)?;
        for number in 0..size {
            let key = format!("{}.tokens", name(number));
            if let Loaded::Entry(entry) = first.store.load(&key, None).await? {
                rig.store
                    .compare_and_swap(&key, None, entry.value, None)
                    .await?;
            }
        }
        fleets.push(Fleet::of(&rig, size).await?);
    }
    Ok(fleets)
}

fn name(number: usize) -> String {
    format!("connection-{number}")
}

impl Fleet {
    /// Connections that have each handed out their token, which is fresh.
    async fn of(rig: &Rig, size: usize) -> Result<Self, Failure> {
        let config = rig.host.parse_config(&rig.config).await?;
        let mut connections = Vec::with_capacity(size);
        // What the first call of a host sets up is not any connection's.
        rig.connection(&name(0))
            .await?
            .token(TokenOptions::default())
            .await?;
        allocations::begin();
        for number in 0..size {
            let connection = rig.host.connection(&name(number), config.clone());
            connection.token(TokenOptions::default()).await?;
            connections.push(connection);
        }
        let memory = allocations::held() as f64 / size as f64;
        // Nobody asks for tokens in the order in which memory was allocated.
        let mut state: u64 = 1;
        for place in (1..size).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            connections.swap(place, (state >> 33) as usize % (place + 1));
        }
        Ok(Self {
            connections,
            next: 0,
            times: Vec::new(),
            memory,
        })
    }

    async fn draw(&mut self, count: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        for _ in 0..count {
            self.connections[self.next]
                .token(TokenOptions::default())
                .await?;
            self.next = (self.next + 1) % self.connections.len();
        }
        self.times
            .push(begun.elapsed().as_secs_f64() * 1e6 / count as f64);
        Ok(())
    }
}
