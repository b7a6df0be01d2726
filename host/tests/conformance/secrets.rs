//! The cases of `secrets/`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenwell::{LocalSecrets, SecretError, Secrets};

use super::matching::{Bindings, Outcome, known, text};
use super::{Place, failed, steps};

/// Runs a case.
pub async fn run(case: &Value) -> Outcome<()> {
    known(case, &["case", "directory", "files", "password", "steps"])?;
    let place = Place::make(case)?;
    let (_, secrets) = place.parts(case);
    let mut bindings = Bindings::default();
    for (number, step) in steps(case)?.iter().enumerate() {
        let done = run_step(&secrets, &mut bindings, step).await;
        done.map_err(|why| format!("step {}: {why}", number + 1))?;
    }
    Ok(())
}

async fn run_step(secrets: &LocalSecrets, bindings: &mut Bindings, step: &Value) -> Outcome<()> {
    known(
        step,
        &[
            "call",
            "reference",
            "needed",
            "key",
            "algorithm",
            "data",
            "jwk",
            "signature",
            "gives",
            "includes",
            "fails",
        ],
    )?;
    let member = |name| text(step, name);
    let answer = match member("call")? {
        "resolve" => {
            let resolved = secrets.resolve(member("reference")?).await;
            resolved.map(Value::String)
        }
        "sealing-keys" => {
            let needed = step.get("needed").and_then(Value::as_str);
            secrets.sealing_keys(needed).await.map(|keys| {
                let keys = keys.iter();
                keys.map(|key| json!({"id": key.id, "key": STANDARD.encode(key.key)}))
                    .collect()
            })
        }
        "sign" => {
            let (key, algorithm) = (member("key")?, member("algorithm")?);
            let signed = secrets.sign(key, algorithm, member("data")?.as_bytes());
            let signed = signed.await;
            signed.map(|signature| Value::String(URL_SAFE_NO_PAD.encode(signature)))
        }
        "public-key" => match secrets.public_key(member("key")?).await {
            Ok(jwk) => Ok(serde_json::from_str(&jwk).map_err(failed)?),
            Err(error) => Err(error),
        },
        "verify" => {
            let signature = bindings.fill(member("signature")?)?;
            let signature = URL_SAFE_NO_PAD.decode(signature).map_err(failed)?;
            let (jwk, algorithm) = (step["jwk"].to_string(), member("algorithm")?);
            let data = member("data")?.as_bytes();
            let verified = secrets.verify(&jwk, algorithm, data, &signature).await;
            verified.map(Value::Bool)
        }
        other => return Err(format!("`{other}` is not known here")),
    };
    match (answer, step.get("fails")) {
        (Err(error), Some(expected)) => bindings.expect(expected, Some(&failure(&error)), "error"),
        (Ok(found), None) => match (step.get("gives"), step.get("includes")) {
            (Some(expected), None) => bindings.expect(expected, Some(&found), "result"),
            (None, Some(expected)) => {
                let mut found = found.as_array().into_iter().flatten();
                if found.any(|key| bindings.expect(expected, Some(key), "key").is_ok()) {
                    Ok(())
                } else {
                    Err(format!("{expected} is not among the keys"))
                }
            }
            _ => Err("`gives`, `includes` or `fails` is missing".to_owned()),
        },
        (answer, expected) => Err(format!("expected {expected:?}, found {answer:?}")),
    }
}

fn failure(error: &SecretError) -> Value {
    json!(match error {
        SecretError::NotFound(_) => "not-found",
        SecretError::Denied(_) => "denied",
        SecretError::Unavailable(_) => "unavailable",
        SecretError::Unsupported(_) => "unsupported",
    })
}
