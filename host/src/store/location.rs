//! A store by the URL that names it.

use std::sync::Arc;

use super::{FileStore, InvalidUrl, TokenStore};

/// The store that a URL names. Nothing is connected to yet.
///
/// | URL | is |
/// |---|---|
/// | `file:DIR` | a [`FileStore`] in that directory |
/// | `postgres://…` | a `PostgresStore`, which says what the rest may be |
/// | `redis://…`, `rediss://…` | a `RedisStore`, likewise |
///
/// # Errors
/// Where the URL is malformed or the store is none of these. The text repeats
/// nothing that may be a password.
pub fn open(url: &str) -> Result<Arc<dyn TokenStore>, InvalidUrl> {
    if let Some(directory) = directory_of(url) {
        return match directory {
            "" => Err(InvalidUrl("`file:` names no directory".to_owned())),
            directory => Ok(Arc::new(FileStore::new(directory))),
        };
    }
    match url.split_once("://").map(|(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        Some("postgres" | "postgresql") => Ok(Arc::new(super::PostgresStore::new(url)?)),
        #[cfg(feature = "redis")]
        Some("redis" | "rediss") => Ok(Arc::new(super::RedisStore::new(url)?)),
        Some(scheme) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Err(InvalidUrl(
            format!("there is no store `{scheme}:`; {EXPECTED}"),
        )),
        _ => Err(InvalidUrl(format!("that is no store; {EXPECTED}"))),
    }
}

const EXPECTED: &str = "expected file:DIR, postgres://USER@HOST/DATABASE or redis://HOST";

/// The directory of the store that a URL names, `file:DIR` or `file:///DIR`;
/// `None` where the store is not one of files.
pub fn directory_of(url: &str) -> Option<&str> {
    let path = url.strip_prefix("file:")?;
    Some(path.strip_prefix("//").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match open(url) {
            Ok(_) => panic!("{url} names a store"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_directory_is_named_by_file() {
        assert_eq!(directory_of("file:here/there"), Some("here/there"));
        assert_eq!(directory_of("file:///srv/tokens"), Some("/srv/tokens"));
        assert!(open("file:here").is_ok());
        assert!(refusal("file:").contains("no directory"));
    }

    #[test]
    fn what_is_no_store_is_refused_without_repeating_it() {
        for url in [
            "",
            "/srv/tokens",
            "mysql://user:hunter2@host/db",
            "postgre://user:hunter2@host/db",
            "user:hunter2@host",
            "user:hunter2://host",
        ] {
            let refusal = refusal(url);
            assert!(refusal.contains("expected file:DIR"), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
