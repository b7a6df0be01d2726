use crate::contract::SecretError;
use crate::contract::bindings::tokenwell::oauth2::secrets::{Host, SealingKey};
use crate::engine::State;

impl Host for State {
    async fn resolve(
        &mut self,
        reference: String,
    ) -> wasmtime::Result<Result<String, SecretError>> {
        Ok(self.services.secrets.resolve(&reference).await)
    }

    async fn sealing_keys(
        &mut self,
        needed: Option<String>,
    ) -> wasmtime::Result<Result<Vec<SealingKey>, SecretError>> {
        let secrets = &self.services.secrets;
        let keys = secrets.sealing_keys(needed.as_deref()).await;
        Ok(keys.map(|keys| {
            keys.iter()
                .map(|key| SealingKey {
                    id: key.id.clone(),
                    key: key.key.to_vec(),
                })
                .collect()
        }))
    }

    async fn sign(
        &mut self,
        key: String,
        algorithm: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, SecretError>> {
        Ok(self.services.secrets.sign(&key, &algorithm, &data).await)
    }

    async fn public_key(&mut self, key: String) -> wasmtime::Result<Result<String, SecretError>> {
        Ok(self.services.secrets.public_key(&key).await)
    }

    async fn verify(
        &mut self,
        jwk: String,
        algorithm: String,
        data: Vec<u8>,
        signature: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, SecretError>> {
        let secrets = &self.services.secrets;
        Ok(secrets.verify(&jwk, &algorithm, &data, &signature).await)
    }
}
