//! A token at hand and a token from a new instance, which take microseconds:
//! Criterion measures them, in a process of its own, since it prints
//! a report of its own.

use std::fs;
use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use serde_json::Value;
use tempfile::TempDir;
use tokenwell::{FileStore, LocalSecrets, TokenOptions, TokenStore};
use tokenwell_core::connection::TokenOptions as CoreOptions;
use tokio::runtime::{self, Runtime};

use crate::report::{Group, Limit, Row, Unit};
use crate::server::Server;
use crate::{Failure, Rig};

const NAME: &str = "crm";

/// Measures, and gives the rows.
pub fn measure() -> Result<Group, Failure> {
    let directory = TempDir::new()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--criterion").arg(directory.path());
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("Criterion's part of the benchmarks failed: {told}").into());
    }
    let median = |id: &str| -> Result<f64, Failure> {
        let estimates = directory.path().join(id).join("new/estimates.json");
        let estimates: Value = serde_json::from_slice(&fs::read(estimates)?)?;
        let nanoseconds = estimates["median"]["point_estimate"].as_f64();
        Ok(nanoseconds.ok_or("Criterion's estimates have no median")? / 1000.0)
    };
    let row = |id: &'static str, what: &'static str| -> Result<Row, Failure> {
        let row = Row::new(id, what, Unit::Microseconds, median(id)?);
        Ok(row.beside(median(&format!("{id}-core"))?))
    };
    Ok(Group {
        title: "A fresh token, beside the core compiled natively".to_owned(),
        rows: vec![
            row("warm-memory", "at hand, in memory")?.limited(Limit::AtMost(2.0)),
            row("warm-files", "at hand, in files")?,
            row("instance-memory", "of a new instance, in memory")?.limited(Limit::AtMost(30.0)),
        ],
    })
}

/// Has Criterion measure, and leave its estimates in that directory.
pub fn estimate(directory: &Path) -> Result<(), Failure> {
    let server = Server::http()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(directory)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));

    let memory = Rig::in_memory(&server)?;
    let folder = TempDir::new()?;
    let store: Arc<dyn TokenStore> = Arc::new(FileStore::new(folder.path()));
    let secrets = LocalSecrets::in_memory().with_store(Arc::clone(&store));
    let files = Rig::new(store, secrets, &server)?;
    for (place, rig) in [("memory", &memory), ("files", &files)] {
        let connection = runtime.block_on(rig.connection(NAME))?;
        runtime.block_on(connection.token(TokenOptions::default()))?;
        let core = rig.native.open(NAME, &rig.config)?;
        runtime.block_on(core.token(&CoreOptions::default()))?;
        // A file that was written just now may be written again within the
        // resolution of its time.
        thread::sleep(Duration::from_secs(3));
        bench(
            &mut criterion,
            &runtime,
            &format!("warm-{place}"),
            async || {
                connection.token(black_box(TokenOptions::default())).await?;
                Ok(())
            },
        );
        bench(
            &mut criterion,
            &runtime,
            &format!("warm-{place}-core"),
            async || {
                core.token(black_box(&CoreOptions::default())).await?;
                Ok(())
            },
        );
    }

    let config = runtime.block_on(memory.host.parse_config(&memory.config))?;
    bench(&mut criterion, &runtime, "instance-memory", async || {
        // It has handed out nothing yet.
        let connection = memory.host.connection(NAME, config.clone());
        connection.token(TokenOptions::default()).await?;
        Ok(())
    });
    let config =
        tokenwell_core::config::parse(&memory.config).map_err(|found| format!("{found:?}"))?;
    bench(
        &mut criterion,
        &runtime,
        "instance-memory-core",
        async || {
            let native = memory.native.clone();
            let core = tokenwell_core::connection::Connection::open(NAME, config.clone(), native)?;
            core.token(&CoreOptions::default()).await?;
            Ok(())
        },
    );
    // What was at hand was not asked for.
    match server
        .state
        .issued
        .load(std::sync::atomic::Ordering::Relaxed)
    {
        2 => Ok(()),
        more => Err(format!("{more} tokens were issued where 2 were needed").into()),
    }
}

fn bench<F: Future<Output = Result<(), Failure>>>(
    criterion: &mut Criterion,
    runtime: &Runtime,
    id: &str,
    work: impl Fn() -> F,
) {
    criterion.bench_function(id, |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let begun = Instant::now();
                for _ in 0..times {
                    work().await.expect("a token is at hand");
                }
                begun.elapsed()
            })
        });
    });
}
