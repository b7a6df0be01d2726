//! Records in Redis (5 or later) or what speaks its language (Valkey), for any
//! number of processes on any number of machines. It is one server, the master:
//! neither a cluster nor Sentinel is asked where to go.
//!
//! # The hash, for hosts in other languages
//! The hash `tokenwell:KEY` keeps all that is known of a key (letters, digits,
//! `.`, `_`, `-`; no leading dot; at most 100):
//!
//! | field | content |
//! |---|---|
//! | `version` | the version of the last value; absent: there has been none |
//! | `value` | the record, sealed; absent: deleted, or there has been none |
//! | `fence` | the fence of the last lease; absent: there has been none |
//! | `lease_until` | the deadline of that lease; absent: it was given back |
//! | `lease_expires` | when that lease ends at the latest |
//!
//! - Numbers are decimal, without leading zeros, at most 2^53 - 1. Times are in
//!   microseconds since 1970, by the server's clock (`TIME`).
//! - The hash is never deleted and never expires, so that no number returns. The
//!   next version or fence is the greater of the last one plus 1 and the time, so
//!   that it also grows where the database was lost, or restored from a backup.
//! - Everything that writes is a Lua script, and so is atomic.
//! - **Read** `version` and `value`; there is an entry where `value` is there.
//! - **Write** where the fence is not smaller than `fence`, and the version is the
//!   expected one and `value` is there (or, for a first value, is not). A smaller
//!   fence is fenced, which is looked at first; anything else is stale.
//! - **Delete**: delete the field `value` where the version is the expected one.
//! - **Take the lease** where `lease_until` is absent or over: take the next fence,
//!   set `lease_until` to 10 seconds from now and `lease_expires` to the time for
//!   which the lease is wanted from now (if that is sooner, both).
//! - **Keep it** by setting `lease_until` to 10 seconds from now, but no later than
//!   `lease_expires`, every 3 seconds where `fence` is still that of the lease and
//!   `lease_until` is there. A holder that cannot do that sets `lease_until` to
//!   `lease_expires` when it takes the lease.
//! - **Release** it by deleting both fields where `fence` is still that of the
//!   lease.
//!
//! # Durability
//! A token that the server forgets in a crash may be one that cannot be had
//! again: its refresh token has replaced the one before it. Redis by default
//! forgets the last minutes. So this store looks at the server's configuration
//! when it connects, and refuses a server that may forget what it has confirmed.
//! It wants:
//!
//! - `appendonly yes` and `appendfsync always`: the answer to a write comes after
//!   its `fsync`. (`WAITAOF` is no substitute with `everysec`: several versions
//!   answer it before the `fsync`, <https://github.com/redis/redis/pull/13793>.)
//! - `no-appendfsync-on-rewrite no`, as it is by default.
//! - a `maxmemory-policy` that spares keys which do not expire: `noeviction`, as it
//!   is by default, or one that begins with `volatile-`.
//!
//! `?durability=none` takes a server as it is: for one that does not let its
//! configuration be seen and is durable in its own way, and for connections that
//! can be authorized again without anybody.
//!
//! Where a replica takes over, it may lack the last writes. Fences still grow,
//! so a lease that was forgotten does no harm, but a record may be lost; Redis
//! has nothing to prevent that.
//!
//! # Privileges
//! A user with `~tokenwell:* +eval +hget +hmget +hset +hdel +time +config|get
//! +select` will do; without `+config|get` where durability is `none`, and without
//! `+select` for database 0.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use url::{Host, Url};

use super::remote::{Connection, DEADLINE, Failure, Remote, Server, chain};
use super::tls::{self, Roots};
use super::{InvalidUrl, Lease, TokenStore};
use crate::contract::{Entry, Loaded, StoreError, Swapped};

/// What each script begins with: it reads the entry, and answers `corrupt` where
/// this store did not write it. `version` is the version as the caller knows it:
/// empty where there is no value.
macro_rules! script {
    ($body:literal) => {
        concat!(
            "local names = {'version', 'fence', 'lease_until', 'lease_expires'}
local entry = {}
local found = redis.call('HMGET', KEYS[1], unpack(names))
for i, name in ipairs(names) do
    local text = found[i] or '0'
    if text ~= '0' and not string.match(text, '^[1-9]%d*$')
        or tonumber(text) > 9007199254740991 then
        return {'corrupt', name}
    end
    entry[name] = text
end
local value = redis.call('HGET', KEYS[1], 'value')
if value and entry.version == '0' then
    return {'corrupt', 'version'}
end
local version = value and entry.version or ''
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function decimal(number)
    return string.format('%.0f', number)
end
local function after(text)
    return decimal(math.max(text + 1, now))
end
",
            $body
        )
    };
}

/// The known version.
const LOAD: &str = script!(
    "if not value then
    return {'absent'}
elseif version == ARGV[1] then
    return {'unchanged'}
end
return {'entry', version, value}"
);

/// The expected version, the value, the fence.
const SWAP: &str = script!(
    "if ARGV[3] ~= '' and tonumber(ARGV[3]) < tonumber(entry.fence) then
    return {'fenced'}
elseif version ~= ARGV[1] then
    return value and {'stale', version, value} or {'stale'}
end
local next_version = after(entry.version)
redis.call('HSET', KEYS[1], 'version', next_version, 'value', ARGV[2])
return {'stored', next_version}"
);

/// The expected version.
const DELETE: &str = script!(
    "if version ~= ARGV[1] then
    return {'stale'}
end
redis.call('HDEL', KEYS[1], 'value')
return {'deleted'}"
);

/// Microseconds to the deadline, microseconds to the end, the fence that was
/// given back.
const TAKE_LEASE: &str = script!(
    "if tonumber(entry.lease_until) > now and entry.fence ~= ARGV[3] then
    return {'held'}
end
local fence = after(entry.fence)
redis.call('HSET', KEYS[1], 'fence', fence,
    'lease_until', decimal(now + math.min(ARGV[1], ARGV[2])),
    'lease_expires', decimal(now + ARGV[2]))
return {'taken', fence}"
);

/// The fence, microseconds to the deadline.
const RENEW_LEASE: &str = script!(
    "if entry.fence ~= ARGV[1] or entry.lease_until == '0' then
    return {'lost'}
end
redis.call('HSET', KEYS[1], 'lease_until',
    decimal(math.min(now + ARGV[2], tonumber(entry.lease_expires))))
return {'renewed'}"
);

/// The fence.
const RELEASE_LEASE: &str = script!(
    "if entry.fence == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'lease_until', 'lease_expires')
end
return {'released'}"
);

/// Keeps each record in a hash, `tokenwell:KEY`. Any number of processes can
/// share the server. Clones share one connection, which is made at the first
/// call and again after it was lost.
#[derive(Clone)]
pub struct RedisStore {
    remote: Remote<Redis>,
}

impl RedisStore {
    /// A store on the server that a URL names:
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://…` for TLS. User,
    /// port (6379) and database (0) may be left out. Parameters:
    ///
    /// - `durability`: `fsync` (the default) refuses a server that may forget in a
    ///   crash what it has confirmed; `none` takes it as it is.
    /// - `cacert`, with `rediss`: a PEM file of the certificates to believe; by
    ///   default those that the system believes.
    ///
    /// # Errors
    /// Where the URL is malformed. Nothing is connected to yet.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self {
            remote: Remote::new(parse(url)?),
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore")
            .field(&self.remote.server().name)
            .finish()
    }
}

#[async_trait]
impl TokenStore for RedisStore {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        self.remote.load(key, known).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        self.remote
            .compare_and_swap(key, expected, value, fence)
            .await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        self.remote.delete(key, expected).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        self.remote.acquire_lease(key, ttl, wait).await
    }

    async fn settle(&self) {
        self.remote.settle().await;
    }
}

/// Where the server is and how to reach it.
struct Redis {
    host: String,
    port: u16,
    /// The roots to verify the server by; absent: no TLS.
    tls: Option<Roots>,
    session: RedisConnectionInfo,
    durability: Durability,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Fsync,
    None,
}

const EXPECTED: &str = "expected redis://USER:PASSWORD@HOST:PORT/DATABASE or rediss://…, with `:`, \
     `/`, `?`, `#`, `@` and `%` in user and password percent-encoded";

/// Reads a URL. No error repeats a part of it that may be a password in the
/// wrong place.
fn parse(url: &str) -> Result<Redis, InvalidUrl> {
    let invalid =
        |found: &str| InvalidUrl(format!("no URL of a Redis server: {found}; {EXPECTED}"));

    let url = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
    let with_tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(invalid("it does not begin with `redis://` or `rediss://`")),
    };
    let host = match url.host() {
        Some(Host::Domain(name)) if name.contains('%') => {
            return Err(invalid("there is a `%` in the host"));
        }
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(invalid("it names no host")),
    };
    if url.fragment().is_some() {
        return Err(invalid("there is a `#` in it"));
    }
    let port = url.port().unwrap_or(6379);
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number
            .parse::<u32>()
            .map_err(|_| invalid("the database is not a number"))?,
    };

    let mut durability = Durability::Fsync;
    let mut roots = None;
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("durability", "fsync") => durability = Durability::Fsync,
            ("durability", "none") => durability = Durability::None,
            ("durability", _) => return Err(invalid("`durability` is neither `fsync` nor `none`")),
            ("cacert", path) if with_tls => roots = Some(Roots::File(PathBuf::from(path))),
            ("cacert", _) => return Err(invalid("`cacert` is for `rediss://`")),
            _ => {
                return Err(invalid(
                    "there is a parameter other than `durability` and `cacert`",
                ));
            }
        }
    }

    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| invalid("user or password is not UTF-8"))
    };
    let mut session = RedisConnectionInfo::default()
        .set_db(i64::from(database))
        .set_skip_set_lib_name();
    if !url.username().is_empty() {
        session = session.set_username(decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        session = session.set_password(decoded(password)?);
    }
    let name = if host.contains(':') {
        format!("Redis at [{host}]:{port}")
    } else {
        format!("Redis at {host}:{port}")
    };
    Ok(Redis {
        host,
        port,
        tls: with_tls.then(|| roots.unwrap_or(Roots::System)),
        session,
        durability,
        name,
    })
}

#[async_trait]
impl Server for Redis {
    type Connection = RedisConnection;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<RedisConnection, Failure> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Failure::unavailable(format!("connecting failed: {error}")))?;
        // Calls are short and wait for their answers.
        let _ = tcp.set_nodelay(true);
        // The time limits are those of the calls.
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let opened = if let Some(roots) = &self.tls {
            let connector = tls::connector(roots, &[]).await?;
            let name = tls::server_name(&self.host)?;
            let stream = connector.connect(name, tcp).await.map_err(|error| {
                let is_tls = error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>());
                let text = format!("the TLS handshake failed: {error}");
                if is_tls {
                    Failure::denied(format!(
                        "{text} (`cacert` names a file of certificates to believe)"
                    ))
                } else {
                    Failure::unavailable(text)
                }
            })?;
            MultiplexedConnection::new_with_config(&self.session, stream, limits)
                .await
                .map(|(connection, driver)| (connection, tokio::spawn(driver)))
        } else {
            MultiplexedConnection::new_with_config(&self.session, tcp, limits)
                .await
                .map(|(connection, driver)| (connection, tokio::spawn(driver)))
        };
        let (connection, driver) = opened.map_err(|error| refused_session(&error))?;
        let connection = RedisConnection { connection, driver };
        if self.durability == Durability::Fsync {
            connection.check_durability().await?;
        }
        Ok(connection)
    }
}

/// A connection and the task that drives it.
struct RedisConnection {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl RedisConnection {
    /// Refuses a server that may forget what it has confirmed.
    async fn check_durability(&self) -> Result<(), Failure> {
        const WANTED: [(&str, &str); 3] = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
        ];
        for (name, wanted) in WANTED {
            let found = self.setting(name).await?;
            if found != wanted {
                return Err(may_forget(&format!(
                    "`{name}` is `{found}`, not `{wanted}`"
                )));
            }
        }
        let policy = self.setting("maxmemory-policy").await?;
        if policy.starts_with("allkeys-") {
            return Err(may_forget(&format!(
                "`maxmemory-policy` is `{policy}`, not `noeviction` or one of `volatile-…`"
            )));
        }
        Ok(())
    }

    async fn setting(&self, name: &str) -> Result<String, Failure> {
        let mut question = redis::cmd("CONFIG");
        question.arg("GET").arg(name);
        let answer: Result<Vec<String>, _> = question.query_async(&mut self.pipe()).await;
        match answer {
            // Absent: a server of another kind.
            Ok(mut answer) => Ok(answer.pop().unwrap_or_default()),
            Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => {
                Err(may_forget("it does not let `CONFIG GET` see how it is set")
                    .because(failure(error)))
            }
            Err(error) => Err(failure(error)),
        }
    }

    /// Runs a script on a key. The whole script is sent each time, which is a
    /// kilobyte; so nothing else is needed for a server that does not know it.
    async fn run(&self, script: &str, key: &str, arguments: &[&[u8]]) -> Result<Answer, Failure> {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(format!("tokenwell:{key}"));
        for argument in arguments {
            command.arg(*argument);
        }
        let parts = command.query_async(&mut self.pipe()).await;
        let answer = Answer(parts.map_err(failure)?);
        if answer.is("corrupt") {
            let field = answer.0.get(1).map(|name| String::from_utf8_lossy(name));
            return Err(Failure::corrupt(format!(
                "the field `{}` of tokenwell:{key} is none that this store writes",
                field.unwrap_or_default()
            )));
        }
        Ok(answer)
    }

    /// A handle on the connection: a call wants one of its own.
    fn pipe(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

fn may_forget(why: &str) -> Failure {
    Failure::denied(format!(
        "it may forget a token that it has confirmed: {why}; `?durability=none` takes it as it is"
    ))
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a script answers: a word and what it is about.
struct Answer(Vec<Vec<u8>>);

impl Answer {
    fn is(&self, word: &str) -> bool {
        self.0.first().is_some_and(|first| first == word.as_bytes())
    }

    fn number(&self) -> Result<u64, Failure> {
        self.0
            .get(1)
            .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
            .ok_or_else(|| Failure::corrupt("a script did not answer with a number"))
    }

    fn entry(mut self) -> Result<Option<Entry>, Failure> {
        if self.0.len() < 3 {
            return Ok(None);
        }
        let version = self.number()?;
        let value = self.0.swap_remove(2);
        Ok(Some(Entry { version, value }))
    }
}

/// A number as the scripts take it; empty where there is none.
fn decimal(number: Option<u64>) -> Vec<u8> {
    number.map_or_else(Vec::new, |number| number.to_string().into_bytes())
}

fn microseconds(duration: Duration) -> Vec<u8> {
    duration.as_micros().to_string().into_bytes()
}

#[async_trait]
impl Connection for RedisConnection {
    fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, Failure> {
        let answer = self.run(LOAD, key, &[&decimal(known)]).await?;
        if answer.is("unchanged") {
            return Ok(Loaded::Unchanged);
        }
        Ok(answer.entry()?.map_or(Loaded::Absent, Loaded::Entry))
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, Failure> {
        let arguments = [&*decimal(expected), value, &*decimal(fence)];
        let answer = self.run(SWAP, key, &arguments).await?;
        if answer.is("stored") {
            return Ok(Swapped::Stored(answer.number()?));
        }
        if answer.is("fenced") {
            return Ok(Swapped::Fenced);
        }
        Ok(Swapped::Stale(answer.entry()?))
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, Failure> {
        let arguments = [&*decimal(Some(expected))];
        let answer = self.run(DELETE, key, &arguments).await?;
        Ok(answer.is("deleted"))
    }

    async fn take_lease(
        &self,
        key: &str,
        ttl: Duration,
        given_back: Option<u64>,
    ) -> Result<Option<u64>, Failure> {
        let arguments = [
            &*microseconds(DEADLINE),
            &*microseconds(ttl),
            &*decimal(given_back),
        ];
        let answer = self.run(TAKE_LEASE, key, &arguments).await?;
        if !answer.is("taken") {
            return Ok(None);
        }
        answer.number().map(Some)
    }

    async fn renew_lease(&self, key: &str, fence: u64) -> Result<bool, Failure> {
        let arguments = [&*decimal(Some(fence)), &*microseconds(DEADLINE)];
        let answer = self.run(RENEW_LEASE, key, &arguments).await?;
        Ok(answer.is("renewed"))
    }

    async fn release_lease(&self, key: &str, fence: u64) -> Result<(), Failure> {
        let arguments = [&*decimal(Some(fence))];
        self.run(RELEASE_LEASE, key, &arguments).await?;
        Ok(())
    }
}

/// What an error at the begin of a session means. The server's own words are
/// left out, where it may repeat what it was sent: the password.
fn refused_session(error: &RedisError) -> Failure {
    if error.is_io_error() {
        return Failure::unavailable(format!("connecting failed: {}", chain(error)));
    }
    match error.code() {
        Some(code @ ("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY")) => {
            Failure::unavailable(format!("it is not ready ({code})"))
        }
        Some("ERR")
            if error
                .detail()
                .is_some_and(|text| text.contains("max number of clients")) =>
        {
            Failure::unavailable("it has as many clients as it takes")
        }
        Some("ERR") if error.detail().is_some_and(|text| text.contains("DB index")) => {
            Failure::denied("it has no database of that number")
        }
        Some("NOPERM") => Failure::denied("the user may not do what the store needs (NOPERM)"),
        _ => Failure::denied("it refused user or password"),
    }
}

/// What an error means, by its code.
fn failure(error: RedisError) -> Failure {
    let Some(code) = error.code() else {
        return Failure::unavailable(chain(&error)).and_reconnect();
    };
    let detail = error.detail().unwrap_or_default();
    // Redis repeats the arguments of a command that it does not know.
    let detail = detail.split(", with args").next().unwrap_or_default();
    let text = format!("{code} {detail}");
    match code {
        // A replica: another server is in charge.
        "READONLY" => Failure::denied(text).and_reconnect(),
        "NOAUTH" | "WRONGPASS" => Failure::denied(text).and_reconnect(),
        "NOPERM" | "MOVED" | "ASK" => Failure::denied(text),
        // Before version 7, an error within a script has the code ERR.
        _ if text.contains("WRONGTYPE") => {
            Failure::corrupt("the key is there, and no hash that this store writes")
        }
        _ if text.contains("unknown command") => Failure::denied(text),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => Failure::unavailable(text).and_reconnect(),
        _ => Failure::unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Redis {
        match parse(url) {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_a_url_leaves_out_has_the_usual_value() {
        let server = read("redis://cache.example");
        assert_eq!(server.name, "Redis at cache.example:6379");
        assert_eq!(server.session.db(), 0);
        assert_eq!(server.session.username(), None);
        assert_eq!(server.session.password(), None);
        assert_eq!(server.tls, None);
        assert_eq!(server.durability, Durability::Fsync);
    }

    #[test]
    fn all_that_a_url_says_is_read() {
        let server = read(
            "rediss://us%40er:p%3Aa%2Fs%25@[::1]:6380/3?durability=none&cacert=/etc/our%20ca.pem",
        );
        assert_eq!(server.name, "Redis at [::1]:6380");
        assert_eq!(server.host, "::1");
        assert_eq!(server.session.db(), 3);
        assert_eq!(server.session.username(), Some("us@er"));
        assert_eq!(server.session.password(), Some("p:a/s%"));
        assert_eq!(server.tls, Some(Roots::File("/etc/our ca.pem".into())));
        assert_eq!(server.durability, Durability::None);
    }

    #[test]
    fn a_malformed_url_is_refused_without_its_password() {
        for url in [
            "",
            "hunter2",
            "redis:",
            "redis://",
            "http://u:hunter2@cache",
            "redis://:hunter2@",
            "redis://:hunter2@/0",
            "redis://u:hunter2@cache:port",
            "redis://u:hunter2@cache/tokens",
            "redis://u:hunter2@cache/1/2",
            "redis://u:1/hunter2@cache",
            "redis://u:1?hunter2@cache",
            "redis://u:1#hunter2@cache",
            "redis://u:hunter2@cache?durability=hunter2",
            "redis://u:hunter2@cache?hunter2",
            "redis://u:hunter2@cache?cacert=/x",
            "rediss://u:hunter2@cache#insecure",
            "redis://u:%ff@cache/hunter2",
        ] {
            let Err(error) = parse(url) else {
                panic!("taken: {url}");
            };
            let text = error.to_string();
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("expected redis://"), "{text}");
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        let store = RedisStore::new("redis://u:hunter2@cache.example");
        let text = format!("{store:?}");
        assert!(
            !text.contains("hunter2") && text.contains("cache.example"),
            "{text}"
        );
    }
}
