use std::time::Duration;

use wasmtime::component::Resource;

use crate::contract::bindings::tokenwell::oauth2::user_agent::{Host, HostArrival, HostListener};
use crate::contract::{DeviceAuthorization, Outcome, Redirect, UserAgentError};
use crate::engine::State;
use crate::user_agent::{Arrival, Listener};

/// A listener in the hands of an instance.
pub struct HeldListener(Box<dyn Listener>);

/// An arrival in the hands of an instance.
pub struct HeldArrival(Box<dyn Arrival>);

impl Host for State {
    async fn listen(
        &mut self,
        connection: String,
        redirect_uri: Option<String>,
    ) -> wasmtime::Result<Result<Resource<HeldListener>, UserAgentError>> {
        let user_agent = &self.services.user_agent;
        match user_agent
            .listen(&connection, redirect_uri.as_deref())
            .await
        {
            Ok(listener) => Ok(Ok(self.table.push(HeldListener(listener))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn open_url(
        &mut self,
        connection: String,
        url: String,
    ) -> wasmtime::Result<Result<(), UserAgentError>> {
        Ok(self.services.user_agent.open_url(&connection, &url).await)
    }

    async fn show_device_code(
        &mut self,
        connection: String,
        device: DeviceAuthorization,
    ) -> wasmtime::Result<Result<(), UserAgentError>> {
        let user_agent = &self.services.user_agent;
        Ok(user_agent.show_device_code(&connection, &device).await)
    }
}

impl HostListener for State {
    async fn redirect_uri(&mut self, listener: Resource<HeldListener>) -> wasmtime::Result<String> {
        Ok(self.table.get(&listener)?.0.redirect_uri().to_owned())
    }

    async fn next(
        &mut self,
        listener: Resource<HeldListener>,
        wait_milliseconds: u64,
    ) -> wasmtime::Result<Result<Option<Resource<HeldArrival>>, UserAgentError>> {
        let wait = Duration::from_millis(wait_milliseconds);
        match self.table.get_mut(&listener)?.0.next(wait).await {
            Ok(Some(arrival)) => Ok(Ok(Some(self.table.push(HeldArrival(arrival))?))),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn drop(&mut self, listener: Resource<HeldListener>) -> wasmtime::Result<()> {
        self.table.delete(listener)?;
        Ok(())
    }
}

impl HostArrival for State {
    async fn redirect(&mut self, arrival: Resource<HeldArrival>) -> wasmtime::Result<Redirect> {
        Ok(self.table.get(&arrival)?.0.redirect())
    }

    async fn respond(
        &mut self,
        arrival: Resource<HeldArrival>,
        outcome: Outcome,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&arrival)?.0.respond(outcome).await;
        Ok(())
    }

    async fn drop(&mut self, arrival: Resource<HeldArrival>) -> wasmtime::Result<()> {
        self.table.delete(arrival)?;
        Ok(())
    }
}
