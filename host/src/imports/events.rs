use crate::contract::Event;
use crate::contract::bindings::tokenwell::oauth2::events::Host;
use crate::engine::State;

impl Host for State {
    async fn emit(&mut self, event: Event) -> wasmtime::Result<()> {
        self.services.events.emit(event);
        Ok(())
    }
}
