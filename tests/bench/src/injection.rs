//! What it adds to a plugin's request that the host puts the token in, holds the
//! origin to the grants and keeps the token out of the response.

use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokenwell::{Grants, TokenOptions};
use tokio::runtime;
use wasmtime_wasi_http::{WasiBody, WasiHttpHooks};

use crate::report::{Group, Limit, Row, Unit};
use crate::server::Server;
use crate::{Failure, Rig, median};

const BEFORE: usize = 200;
const ROUNDS: usize = 3000;

/// Measures, and gives the rows.
pub fn measure() -> Result<Group, Failure> {
    let server = Server::http()?;
    let rig = Rig::in_memory(&server)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut with, mut without) = (vec![], vec![]);
    runtime.block_on(async {
        let connection = rig.connection("crm").await?;
        let token = connection.token(TokenOptions::default()).await?;
        let grants = Grants::of(["plugin"], [connection]).allow("plugin", "crm", &server.origin)?;
        let mut hooks = grants.hooks("plugin")?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let plain: Client<_, WasiBody> = Client::builder(TokioExecutor::new()).build(tcp);
        let authorization = format!("Bearer {}", token.access_token);
        let request = || {
            let body = Full::new(Bytes::from_static(br#"{"name":"Ada"}"#));
            let body = body.map_err(|never| match never {});
            let request = Request::post(format!("{}/contacts", server.origin));
            request.body(body.boxed_unsync())
        };
        for round in 0..BEFORE + ROUNDS {
            let plugins = request()?;
            let begun = Instant::now();
            let sending = hooks.send_request(plugins, None, Box::new(async { Ok(()) }));
            let (response, _) = Box::into_pin(sending).await?;
            let status = response.status();
            response.into_body().collect().await?;
            let injected = begun.elapsed();
            if !status.is_success() {
                return Err(format!("the API answered {status}").into());
            }

            let mut hosts = request()?;
            let begun = Instant::now();
            hosts
                .headers_mut()
                .insert(AUTHORIZATION, authorization.parse()?);
            plain.request(hosts).await?.into_body().collect().await?;
            let sent = begun.elapsed();
            if round >= BEFORE {
                with.push(injected.as_secs_f64() * 1e6);
                without.push(sent.as_secs_f64() * 1e6);
            }
        }
        Ok::<_, Failure>(())
    })?;
    let (with, without) = (median(with), median(without));
    Ok(Group {
        title: "A plugin's request, beside one with the token already in it".to_owned(),
        rows: vec![
            Row::new("injected", "with injection", Unit::Microseconds, with).beside(without),
            Row::new(
                "injection",
                "what injection adds",
                Unit::Microseconds,
                with - without,
            )
            .limited(Limit::AtMost(20.0)),
        ],
    })
}
