//! The references in a config to secrets that the host holds.

use serde_json::Value;
use tokenwell::{LocalSecrets, Problem, SecretError, Severity};

/// What is wrong with them here. What is not there yet may be there when it is
/// needed, in another environment for instance; what is no reference never is.
pub async fn problems(secrets: &LocalSecrets, document: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (field, value) in document.as_object().into_iter().flatten() {
        let Some(reference) = value.get("ref").and_then(Value::as_str) else {
            continue;
        };
        let (severity, message, mend) = match secrets.look_for(reference).await {
            Ok(()) => continue,
            Err(SecretError::Unsupported(what)) => (
                Severity::Error,
                format!("refers to what cannot be had: {what}"),
                "write it so, or give the value itself",
            ),
            Err(
                SecretError::NotFound(what)
                | SecretError::Unavailable(what)
                | SecretError::Denied(what),
            ) => (
                Severity::Warning,
                format!("cannot be had here: {what}"),
                "provide what the reference names, or change it",
            ),
        };
        problems.push(Problem {
            field: field.clone(),
            severity,
            message,
            mend: mend.to_owned(),
        });
    }
    problems
}
