//! Records in PostgreSQL, for any number of processes on any number of machines.
//!
//! # The table, for hosts in other languages
//! One table, in the first schema of the search path. The store creates it where
//! it is missing, with the statement in [`CREATE`]; a role that may not create
//! tables needs `SELECT`, `INSERT` and `UPDATE` on it.
//!
//! | column | content |
//! |---|---|
//! | `key text` | letters, digits, `.`, `_`, `-`; no leading dot; at most 100 |
//! | `version bigint` | the version of the last value; 0: there has been none |
//! | `value bytea` | the record, sealed; null: deleted, or there has been none |
//! | `fence bigint` | the fence of the last lease; 0: there has been none |
//! | `lease_until timestamptz` | the deadline of that lease; null: it was given back |
//! | `lease_expires timestamptz` | when that lease ends at the latest |
//!
//! - A row is never deleted, so that no number returns. The next version or
//!   fence is the greater of the last one plus 1 and the time in microseconds
//!   since 1970, so that it also grows where the table was lost, or restored
//!   from a backup.
//! - **Read** `version` and `value`; there is an entry where `value` is not null.
//! - **Write** in one statement: where the version is the expected one and `value`
//!   is not null (or, for a first value, is null), and the writer's fence is not
//!   smaller than `fence`. If no row is written, read the row again to tell why:
//!   a smaller fence is fenced, which is looked at first; anything else is stale.
//! - **Delete**: set `value` to null where the version is the expected one.
//! - **Take the lease** in one statement, where `lease_until` is null or over:
//!   take the next fence, set `lease_until` to 10 seconds from now and
//!   `lease_expires` to the time for which the lease is wanted from now (if that
//!   is sooner, both).
//! - **Keep it** by setting `lease_until` to 10 seconds from now, but no later than
//!   `lease_expires`, every 3 seconds where `fence` is still that of the lease and
//!   `lease_until` is not null. A holder that cannot do that sets `lease_until` to
//!   `lease_expires` when it takes the lease.
//! - **Release** it by setting both to null where `fence` is still that of the
//!   lease.
//!
//! All times are by the server's clock (`clock_timestamp()`). Each statement is
//! its own transaction, so a pooler in transaction mode may be between.
//!
//! # Durability
//! Values, deletions and fences are committed with `synchronous_commit` at least
//! `on`, whatever the session's default is. That is worth what the server's
//! `fsync` is worth: it is on unless somebody turned it off. Where a standby
//! takes over, only what had reached it is left (`synchronous_standby_names`).

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::DbError;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_rustls::TlsConnector;

use super::remote::{CONNECT_LIMIT, Connection, DEADLINE, Failure, Remote, Server, chain};
use super::tls::{self, Roots};
use super::{InvalidUrl, Lease, TokenStore};
use crate::contract::{Entry, Loaded, StoreError, Swapped};
use crate::http_client::addresses::is_loopback;

/// Makes the table. Of many that do so at once the lock lets one through at a
/// time: `if not exists` alone would not. All statements of one query are one
/// transaction.
const CREATE: &str = "
    select pg_advisory_xact_lock(7526466502020165734);
    create table if not exists tokenwell_entry (
        key text primary key,
        version bigint not null,
        value bytea,
        fence bigint not null,
        lease_until timestamptz,
        lease_expires timestamptz
    )";

/// Whether the table is there. An empty answer would do, but poolers like rows.
const EXISTS: &str = "select to_regclass('tokenwell_entry') is not null";

/// The condition that has a statement commit durably: true, and sets what the
/// commit goes by, for this transaction only.
macro_rules! durably {
    () => {
        "set_config('synchronous_commit', case current_setting('synchronous_commit')
             when 'remote_apply' then 'remote_apply' else 'on' end, true) is not null"
    };
}

/// Its opposite, for what may be lost in a crash.
macro_rules! quickly {
    () => {
        "set_config('synchronous_commit', 'off', true) is not null"
    };
}

/// The time in microseconds since 1970.
macro_rules! now {
    () => {
        "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    };
}

/// $1 key, $2 known version.
const LOAD: &str = "
    select version, value is null, case when version = $2 then null else value end
    from tokenwell_entry where key = $1";

/// $1 key.
const LOOK: &str = "
    select version, value is null, value, fence
    from tokenwell_entry where key = $1";

/// $1 key, $2 value, $3 fence: a first value, or the first after a deletion.
const INSERT: &str = concat!(
    "insert into tokenwell_entry as entry (key, version, value, fence)
     select $1, ",
    now!(),
    ", $2, 0 where ",
    durably!(),
    " on conflict (key) do update
     set version = greatest(entry.version + 1, excluded.version), value = excluded.value
     where entry.value is null and ($3 is null or $3 >= entry.fence)
     returning version"
);

/// $1 key, $2 value, $3 fence, $4 expected version.
const UPDATE: &str = concat!(
    "update tokenwell_entry
     set version = greatest(version + 1, ",
    now!(),
    "), value = $2
     where key = $1 and version = $4 and value is not null
         and ($3 is null or $3 >= fence) and ",
    durably!(),
    " returning version"
);

/// $1 key, $2 expected version.
const DELETE: &str = concat!(
    "update tokenwell_entry set value = null
     where key = $1 and version = $2 and value is not null and ",
    durably!(),
    " returning version"
);

/// $1 key, $2 seconds to the deadline, $3 seconds to the end, $4 the fence that
/// was given back. The first look keeps one that waits from writing: a conflict
/// locks the row even where the update is not wanted.
const TAKE_LEASE: &str = concat!(
    "insert into tokenwell_entry as entry (key, version, fence, lease_until, lease_expires)
     select $1, 0, ",
    now!(),
    ", clock_timestamp() + make_interval(secs => least($2, $3)),
        clock_timestamp() + make_interval(secs => $3)
     where not exists (
         select from tokenwell_entry
         where key = $1 and lease_until > clock_timestamp() and fence is distinct from $4
     ) and ",
    durably!(),
    " on conflict (key) do update
     set fence = greatest(entry.fence + 1, excluded.fence),
         lease_until = excluded.lease_until, lease_expires = excluded.lease_expires
     where entry.lease_until is null or entry.lease_until <= clock_timestamp()
         or entry.fence = $4
     returning fence"
);

/// $1 key, $2 fence, $3 seconds to the deadline.
const RENEW_LEASE: &str = concat!(
    "update tokenwell_entry
     set lease_until = least(clock_timestamp() + make_interval(secs => $3), lease_expires)
     where key = $1 and fence = $2 and lease_until is not null and ",
    quickly!(),
    " returning fence"
);

/// $1 key, $2 fence.
const RELEASE_LEASE: &str = concat!(
    "update tokenwell_entry set lease_until = null, lease_expires = null
     where key = $1 and fence = $2 and ",
    quickly!(),
    " returning fence"
);

/// Keeps each record in a row of a table, `tokenwell_entry`, which is created
/// where it is missing. Any number of processes can share the database. Clones
/// share one connection, which is made at the first call and again after it was
/// lost.
#[derive(Clone)]
pub struct PostgresStore {
    remote: Remote<Postgres>,
}

impl PostgresStore {
    /// A store in the database that a URL names:
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE&…`, also with
    /// several hosts (`HOST,HOST`), which are tried in order: each has its share
    /// of the five seconds that connecting may take. The parameters are those of
    /// libpq. Three are other than there:
    ///
    /// - `target_session_attrs`: with several hosts `read-write` by default, so that
    ///   a standby is passed over, whose records may be old and cannot be written.
    /// - `sslmode`: `disable`, `prefer` (TLS where the server offers it) or
    ///   `require`; `verify-ca` and `verify-full` mean `require`, because
    ///   certificates and host names are always verified, and `allow` means
    ///   `prefer`. The default is `require`, on this machine `disable`.
    /// - `sslrootcert`: a PEM file of the certificates to believe; by default, and
    ///   with `system`, those that the system believes.
    ///
    /// Where the URL has no password, `PGPASSWORD` is taken.
    ///
    /// # Errors
    /// Where the URL is malformed. Nothing is connected to yet.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let password = std::env::var_os("PGPASSWORD");
        let password = password.map(|password| password.into_encoded_bytes());
        Ok(Self {
            remote: Remote::new(parse(url, password)?),
        })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore")
            .field(&self.remote.server().name)
            .finish()
    }
}

#[async_trait]
impl TokenStore for PostgresStore {
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
struct Postgres {
    /// The places where it may be, one at least.
    places: Vec<Place>,
    roots: Roots,
    name: String,
}

/// One host.
struct Place {
    name: String,
    config: Config,
}

const EXPECTED: &str = "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE, with \
     `:`, `/`, `?`, `#`, `@` and `%` in user and password percent-encoded";

/// Reads a URL. No error repeats a part of it that may be a password in the
/// wrong place.
fn parse(url: &str, default_password: Option<Vec<u8>>) -> Result<Postgres, InvalidUrl> {
    let invalid = |found: &str| InvalidUrl(format!("no URL of a database: {found}; {EXPECTED}"));

    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .ok_or_else(|| invalid("it does not begin with `postgres://` or `postgresql://`"))?;
    let after_user = rest.find('@').map_or(0, |at| at + 1);
    let (place, query) = match rest[after_user..].split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (&rest[after_user..], None),
    };
    if place.contains(['@', '#']) {
        return Err(invalid("there is an `@` or `#` after the user"));
    }
    let (host, database) = place.split_once('/').unwrap_or((place, ""));
    if database.contains('/') {
        return Err(invalid("there is a `/` in the name of the database"));
    }
    let user = rest[..after_user].split(':').next().unwrap_or_default();
    if user.contains('/') {
        return Err(invalid("there is a `/` in the user"));
    }

    let mut mode = None;
    let mut roots = Roots::System;
    let mut others = Vec::new();
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", "system")) => roots = Roots::System,
            Some(("sslrootcert", path)) => {
                let path = percent_encoding::percent_decode_str(path).decode_utf8();
                let path = path.map_err(|_| invalid("`sslrootcert` is not UTF-8"))?;
                roots = Roots::File(PathBuf::from(path.into_owned()));
            }
            _ if pair.is_empty() => {}
            Some(_) => others.push(pair),
            None => return Err(invalid("there is a parameter without a value")),
        }
    }

    let user = &rest[..after_user];
    let read = |host: &str, parameters: &[&str]| {
        let parameters = parameters.join("&");
        let plain = format!("postgres://{user}{host}/{database}?{parameters}");
        Config::from_str(&plain).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            invalid(
                &cause
                    .filter(|cause| is_harmless(cause))
                    .unwrap_or_else(|| "its host, port or a parameter cannot be read".to_owned()),
            )
        })
    };
    let all = read(host, &others)?;
    let hosts = all.get_hosts();
    if hosts.is_empty() {
        return Err(invalid("it names no host"));
    }
    let (ports, addresses) = (all.get_ports(), all.get_hostaddrs());
    let is_as_many = |others: usize| others == hosts.len();
    if !(ports.len() <= 1 || is_as_many(ports.len()))
        || !(addresses.is_empty() || is_as_many(addresses.len()))
    {
        return Err(invalid(
            "its hosts and their ports or `hostaddr` are not as many",
        ));
    }

    // What holds for every host.
    let is_of = |names: &[&str], pair: &str| {
        pair.split_once('=')
            .is_some_and(|(name, _)| names.contains(&name))
    };
    others.retain(|pair| !is_of(&["host", "hostaddr", "port"], pair));
    let mut config = read("", &others)?;
    let says_session = |pair: &&str| is_of(&["target_session_attrs"], pair);
    if hosts.len() > 1 && !others.iter().any(says_session) {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.ssl_mode(match mode {
        Some("disable") => SslMode::Disable,
        Some("allow" | "prefer") => SslMode::Prefer,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        None if hosts.iter().all(is_here) => SslMode::Disable,
        None => SslMode::Require,
        Some(_) => {
            return Err(invalid(
                "`sslmode` is not one of disable, allow, prefer, require, verify-ca, verify-full",
            ));
        }
    });
    if config.get_password().is_none()
        && let Some(password) = default_password
    {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("tokenwell");
    }
    let places = hosts.iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let mut config = config.clone();
        match host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(path) => config.host_path(path),
        };
        config.port(port);
        if let Some(address) = addresses.get(index) {
            config.hostaddr(*address);
        }
        Place {
            name: name(host, port),
            config,
        }
    });
    let places: Vec<_> = places.collect();
    let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
    Ok(Postgres {
        name: format!("PostgreSQL at {}", names.join(",")),
        places,
        roots,
    })
}

/// Whether the text says which parameter is wrong, and no more: what looks like
/// a parameter may be the end of a password with a `?` in it.
fn is_harmless(cause: &str) -> bool {
    const KNOWN: [&str; 4] = ["port", "host", "hostaddr", "connect_timeout"];
    KNOWN
        .iter()
        .any(|known| cause == format!("invalid value for option `{known}`"))
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => is_loopback(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn name(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
        Host::Tcp(name) => format!("{name}:{port}"),
        #[cfg(unix)]
        Host::Unix(path) => format!("{}:{port}", path.display()),
    }
}

impl Postgres {
    /// Connects to the first of the hosts that will do.
    async fn first(&self, limit: Duration) -> Result<PostgresConnection, Failure> {
        if let [only] = self.places.as_slice() {
            return only.connect(&self.roots).await;
        }
        let until = Instant::now() + limit;
        let mut failed: Option<Failure> = None;
        for (index, place) in self.in_order().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            // What one has not used of its share is for those after it.
            let share = left / u32::try_from(self.places.len() - index).unwrap_or(1);
            let failure = match time::timeout(share, place.connect(&self.roots)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::unavailable("no answer in time").and_reconnect(),
            };
            let failure = failure.at(&place.name);
            failed = Some(match failed {
                Some(before) => failure.because(before),
                None => failure,
            });
        }
        Err(failed.unwrap_or_else(|| Failure::denied("there is no host")))
    }

    /// The hosts in the order in which they are tried.
    fn in_order(&self) -> impl Iterator<Item = &Place> {
        let count = self.places.len();
        let is_random =
            |place: &Place| place.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        let mut drawn = [0];
        if self.places.iter().all(is_random) {
            // Where none can be drawn, it is the first's turn.
            let _ = getrandom::fill(&mut drawn);
        }
        let first = usize::from(drawn[0]) % count.max(1);
        self.places.iter().cycle().skip(first).take(count)
    }
}

impl Place {
    async fn connect(&self, roots: &Roots) -> Result<PostgresConnection, Failure> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, driver) = self.config.connect(NoTls).await.map_err(failure)?;
            return Ok(PostgresConnection::new(client, driver));
        }
        let tls = Tls(tls::connector(roots, &[b"postgresql"]).await?);
        let (client, driver) = self.config.connect(tls).await.map_err(failure)?;
        Ok(PostgresConnection::new(client, driver))
    }
}

#[async_trait]
impl Server for Postgres {
    type Connection = PostgresConnection;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<PostgresConnection, Failure> {
        let connection = self.first(CONNECT_LIMIT).await?;
        connection.prepare().await?;
        Ok(connection)
    }
}

/// A connection and the task that drives it.
struct PostgresConnection {
    client: Client,
    driver: JoinHandle<()>,
}

impl PostgresConnection {
    fn new(
        client: Client,
        driver: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    ) -> Self {
        // What ends the connection is told to those whose calls it ends.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Self { client, driver }
    }

    /// Sees to it that the table is there.
    async fn prepare(&self) -> Result<(), Failure> {
        let there = self.query(EXISTS, &[]).await?;
        if let Some(row) = there
            && column(&row, 0)?
        {
            return Ok(());
        }
        self.client.batch_execute(CREATE).await.map_err(|error| {
            let is_denied = error
                .as_db_error()
                .is_some_and(|error| error.code().code() == "42501");
            if is_denied {
                Failure::denied(
                    "there is no table tokenwell_entry, and the role may not create it: have it \
                     created once by a role that may",
                )
            } else {
                failure(error)
            }
        })
    }

    /// Runs a statement that answers with a row or none, in one round trip. It
    /// is not prepared: then nothing is left of it in the session.
    async fn query(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<Row>, Failure> {
        let rows = self.client.query_typed(statement, parameters).await;
        Ok(rows.map_err(failure)?.pop())
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[async_trait]
impl Connection for PostgresConnection {
    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, Failure> {
        let known = known.map(stored);
        let row = self
            .query(LOAD, &[(&key, Type::TEXT), (&known, Type::INT8)])
            .await?;
        let Some(row) = row else {
            return Ok(Loaded::Absent);
        };
        Ok(match current(&row)? {
            None => Loaded::Absent,
            Some(version) if known == Some(stored(version)) => Loaded::Unchanged,
            Some(_) => entry(&row)?.map_or(Loaded::Absent, Loaded::Entry),
        })
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, Failure> {
        let stored_fence = fence.map(stored);
        loop {
            let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = vec![
                (&key, Type::TEXT),
                (&value, Type::BYTEA),
                (&stored_fence, Type::INT8),
            ];
            let stored_expected = expected.map(stored);
            let written = if stored_expected.is_some() {
                parameters.push((&stored_expected, Type::INT8));
                self.query(UPDATE, &parameters).await?
            } else {
                self.query(INSERT, &parameters).await?
            };
            if let Some(row) = written {
                return Ok(Swapped::Stored(number(&row, 0)?));
            }

            let row = self.query(LOOK, &[(&key, Type::TEXT)]).await?;
            let Some(row) = row else {
                // A first value is only refused by a row.
                if expected.is_some() {
                    return Ok(Swapped::Stale(None));
                }
                continue;
            };
            let last_fence = number(&row, 3)?;
            if fence.is_some_and(|fence| fence < last_fence) {
                return Ok(Swapped::Fenced);
            }
            let entry = entry(&row)?;
            if entry.as_ref().map(|entry| entry.version) != expected {
                return Ok(Swapped::Stale(entry));
            }
            // What spoke against it has gone meanwhile: somebody deleted the
            // entry.
        }
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, Failure> {
        let expected = stored(expected);
        let row = self
            .query(DELETE, &[(&key, Type::TEXT), (&expected, Type::INT8)])
            .await?;
        Ok(row.is_some())
    }

    async fn take_lease(
        &self,
        key: &str,
        ttl: Duration,
        given_back: Option<u64>,
    ) -> Result<Option<u64>, Failure> {
        let row = self
            .query(
                TAKE_LEASE,
                &[
                    (&key, Type::TEXT),
                    (&DEADLINE.as_secs_f64(), Type::FLOAT8),
                    (&ttl.as_secs_f64(), Type::FLOAT8),
                    (&given_back.map(stored), Type::INT8),
                ],
            )
            .await?;
        row.map(|row| number(&row, 0)).transpose()
    }

    async fn renew_lease(&self, key: &str, fence: u64) -> Result<bool, Failure> {
        let row = self
            .query(
                RENEW_LEASE,
                &[
                    (&key, Type::TEXT),
                    (&stored(fence), Type::INT8),
                    (&DEADLINE.as_secs_f64(), Type::FLOAT8),
                ],
            )
            .await?;
        Ok(row.is_some())
    }

    async fn release_lease(&self, key: &str, fence: u64) -> Result<(), Failure> {
        let fence = stored(fence);
        self.query(RELEASE_LEASE, &[(&key, Type::TEXT), (&fence, Type::INT8)])
            .await?;
        Ok(())
    }
}

/// A number as the table has it. One that is too great for it was never given
/// out; the greatest stands for all of them.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, Failure> {
    row.try_get(index).map_err(|error| {
        Failure::corrupt(format!("not the table of this store: {}", chain(&error)))
    })
}

fn number(row: &Row, index: usize) -> Result<u64, Failure> {
    let number: i64 = column(row, index)?;
    u64::try_from(number)
        .map_err(|_| Failure::corrupt("a row of tokenwell_entry has a number below 0"))
}

/// The version of the entry in a row of [`LOAD`] or [`LOOK`], where there is one.
fn current(row: &Row) -> Result<Option<u64>, Failure> {
    let version = number(row, 0)?;
    let is_absent: bool = column(row, 1)?;
    if !is_absent && version == 0 {
        return Err(Failure::corrupt(
            "a row of tokenwell_entry has a value and no version",
        ));
    }
    Ok((!is_absent).then_some(version))
}

fn entry(row: &Row) -> Result<Option<Entry>, Failure> {
    let Some(version) = current(row)? else {
        return Ok(None);
    };
    let value = column(row, 2)?;
    Ok(Some(Entry { version, value }))
}

/// What an error of the client means.
fn failure(error: tokio_postgres::Error) -> Failure {
    if let Some(error) = error.as_db_error() {
        return refusal(error);
    }
    let text = chain(&error);
    let what = error.to_string();
    if what.starts_with("authentication error") || what.starts_with("invalid configuration") {
        return Failure::denied(text);
    }
    if what.starts_with("error performing TLS handshake") && !is_network(&error) {
        return Failure::denied(format!(
            "{text} (`sslrootcert` names a file of certificates to believe; `sslmode=disable` does \
             without TLS)"
        ));
    }
    if what.starts_with("error deserializing") || what.starts_with("invalid column") {
        return Failure::corrupt(text);
    }
    Failure::unavailable(text).and_reconnect()
}

/// Whether the network is to blame, not what came over it.
fn is_network(error: &dyn std::error::Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| {
            error
                .get_ref()
                .is_none_or(|inner| !inner.is::<rustls::Error>())
        })
}

/// What an error of the server means, by its SQLSTATE. Detail and hint are left
/// out: they may quote what is stored.
fn refusal(error: &DbError) -> Failure {
    let code = error.code().code();
    let text = format!("{} (SQLSTATE {code})", error.message());
    match (code.get(..2).unwrap_or_default(), code) {
        // Read-only: the server has become a standby, and another one is in
        // charge.
        (_, "25006") => Failure::denied(text).and_reconnect(),
        // Wrong user or password, no such database, no privilege.
        ("28" | "3D", _) | (_, "42501") => Failure::denied(text),
        // Serialization failure, deadlock.
        (_, "40001" | "40P01") => Failure::unavailable(text).and_repeat(),
        // The table is gone; whoever connects makes it again.
        (_, "42P01") => Failure::unavailable(text).and_reconnect(),
        // It is another table, or has other content, than the store made.
        ("22" | "23" | "42", _) | (_, "XX001" | "XX002") => Failure::corrupt(text),
        // Connection lost, server shutting down or starting.
        ("08" | "57", _) => Failure::unavailable(text).and_reconnect(),
        _ => Failure::unavailable(text),
    }
}

/// TLS for the client.
#[derive(Clone)]
struct Tls(TlsConnector);

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Stream = TlsConnection<S>;
    type TlsConnect = TlsTo;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<TlsTo> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(TlsTo(self.0.clone(), name))
    }
}

struct TlsTo(TlsConnector, ServerName<'static>);

impl<S> TlsConnect<S> for TlsTo
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Stream = TlsConnection<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsConnection<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let stream = self.0.connect(self.1, stream).await?;
            Ok(TlsConnection(stream))
        })
    }
}

struct TlsConnection<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for TlsConnection<S> {
    /// None: the certificate has been verified already.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsConnection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn read(url: &str) -> Postgres {
        match parse(url, None) {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_name_tells_every_host_and_no_more() {
        for (url, name) in [
            (
                "postgres://u:secret@db.example/tokens",
                "PostgreSQL at db.example:5432",
            ),
            (
                "postgresql://u:secret@db.example:6432",
                "PostgreSQL at db.example:6432",
            ),
            ("postgres://u@[::1]:6432/t", "PostgreSQL at [::1]:6432"),
            (
                "postgres://u@one,two:6432/t",
                "PostgreSQL at one:5432,two:6432",
            ),
            (
                "postgres:///t?host=/run/postgresql",
                "PostgreSQL at /run/postgresql:5432",
            ),
        ] {
            assert_eq!(read(url).name, name, "{url}");
        }
    }

    #[test]
    fn tls_is_required_unless_the_server_is_here_or_the_url_says_otherwise() {
        for (url, mode) in [
            ("postgres://u@db.example/t", SslMode::Require),
            ("postgres://u@localhost/t", SslMode::Disable),
            ("postgres://u@127.0.0.1/t", SslMode::Disable),
            ("postgres://u@[::1]/t", SslMode::Disable),
            ("postgres:///t?host=/run/postgresql", SslMode::Disable),
            ("postgres://u@localhost,db.example/t", SslMode::Require),
            (
                "postgres://u@localhost/t?sslmode=verify-full",
                SslMode::Require,
            ),
            (
                "postgres://u@db.example/t?sslmode=disable",
                SslMode::Disable,
            ),
            ("postgres://u@db.example/t?sslmode=prefer", SslMode::Prefer),
        ] {
            assert_eq!(read(url).places[0].config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn the_roots_come_from_the_system_or_a_file() {
        let from_a_file = read("postgres://u@db/t?sslrootcert=/etc/our%20ca.pem&sslmode=require");
        assert_eq!(from_a_file.roots, Roots::File("/etc/our ca.pem".into()));
        assert_eq!(
            read("postgres://u@db/t?sslrootcert=system").roots,
            Roots::System
        );
    }

    #[test]
    fn a_password_of_the_environment_is_for_urls_without_one() {
        let password = |url| {
            parse(url, Some(b"from-env".to_vec()))
                .map(|s| s.places[0].config.get_password().map(<[u8]>::to_vec))
        };
        assert_eq!(
            password("postgres://u@db/t"),
            Ok(Some(b"from-env".to_vec()))
        );
        assert_eq!(password("postgres://u:own@db/t"), Ok(Some(b"own".to_vec())));
    }

    #[test]
    fn every_host_has_what_the_url_says_of_it_and_of_all() {
        let server = read(
            "postgres://u:p@one,[::1]:6432/t?hostaddr=10.0.0.1,10.0.0.2&options=-cx&sslmode=prefer",
        );
        let places = server.places.iter().map(|Place { config, .. }| {
            assert_eq!(config.get_user(), Some("u"));
            assert_eq!(config.get_options(), Some("-cx"));
            assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
            let Host::Tcp(host) = &config.get_hosts()[0] else {
                panic!("{config:?}");
            };
            (
                host.as_str(),
                config.get_ports(),
                config.get_hostaddrs()[0].to_string(),
            )
        });
        let places: Vec<_> = places.collect();
        assert_eq!(
            places,
            [
                ("one", &[5432][..], "10.0.0.1".to_owned()),
                ("::1", &[6432][..], "10.0.0.2".to_owned()),
            ]
        );
    }

    #[test]
    fn of_several_hosts_one_that_can_be_written_is_wanted_unless_the_url_says_otherwise() {
        for (url, wanted) in [
            ("postgres://u@one/t", TargetSessionAttrs::Any),
            ("postgres://u@one,two/t", TargetSessionAttrs::ReadWrite),
            (
                "postgres:///t?host=/run/one&host=/run/two",
                TargetSessionAttrs::ReadWrite,
            ),
            (
                "postgres://u@one,two/t?target_session_attrs=any",
                TargetSessionAttrs::Any,
            ),
        ] {
            for place in read(url).places {
                assert_eq!(place.config.get_target_session_attrs(), wanted, "{url}");
            }
        }
    }

    /// A server that lets everybody in, as far as to say whether it is read-only.
    async fn let_in(mut stream: TcpStream, read_only: &str) -> io::Result<()> {
        let message = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [&[kind][..], &length, body].concat()
        };
        let ready = message(b'Z', b"I");
        let length = stream.read_u32().await? as usize;
        stream.read_exact(&mut vec![0; length - 4]).await?;
        let authenticated = message(b'R', &[0; 4]);
        stream
            .write_all(&[authenticated, ready.clone()].concat())
            .await?;
        while stream.read_u8().await? == b'Q' {
            let length = stream.read_u32().await? as usize;
            stream.read_exact(&mut vec![0; length - 4]).await?;
            let column = [
                &1_u16.to_be_bytes()[..],
                b"transaction_read_only\0",
                &[0; 6],
                &25_u32.to_be_bytes(),
                &[0; 8],
            ];
            let value = [
                &[0, 1, 0, 0, 0, read_only.len() as u8],
                read_only.as_bytes(),
            ];
            let answer = [
                message(b'T', &column.concat()),
                message(b'D', &value.concat()),
                message(b'C', b"SHOW\0"),
                ready.clone(),
            ];
            stream.write_all(&answer.concat()).await?;
        }
        Ok(())
    }

    /// Where such a server listens.
    async fn server(read_only: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(let_in(stream, read_only));
            }
        });
        address
    }

    #[tokio::test]
    async fn a_host_that_never_answers_leaves_time_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let primary = server("off").await;
        let server = read(&format!("postgres://u@{silent},{primary}/t"));
        assert!(server.first(Duration::from_secs(2)).await.is_ok());
    }

    #[tokio::test]
    async fn a_standby_is_passed_over_unless_the_url_says_otherwise() {
        let (standby, primary) = (server("on").await, server("off").await);
        let limit = Duration::from_secs(5);
        let both = read(&format!("postgres://u@{standby},{primary}/t"));
        assert!(both.first(limit).await.is_ok());
        let none = read(&format!("postgres://u@{standby},{standby}/t"));
        let failure = none
            .first(limit)
            .await
            .err()
            .map(|failure| format!("{failure:?}"));
        let text = failure.unwrap();
        assert!(text.contains("does not allow writes"), "{text}");
        assert!(text.contains(&standby), "{text}");
        let any = read(&format!(
            "postgres://u@{standby},{primary}/t?target_session_attrs=any"
        ));
        assert!(any.first(limit).await.is_ok());
    }

    #[test]
    fn what_is_encoded_in_the_url_is_decoded() {
        let server = read("postgres://us%40er:p%3Aa%2Fs%25@db/to%20kens");
        let config = &server.places[0].config;
        assert_eq!(config.get_user(), Some("us@er"));
        assert_eq!(config.get_password(), Some(&b"p:a/s%"[..]));
        assert_eq!(config.get_dbname(), Some("to kens"));
    }

    #[test]
    fn a_malformed_url_is_refused_without_its_password() {
        for url in [
            "",
            "hunter2",
            "mysql://u:hunter2@db/t",
            "POSTGRES//u:hunter2@db/t",
            "postgres://",
            "postgres://u:hunter2@",
            "postgres://u:hunter2@/t",
            "postgres://u:hunter2@db:port/t",
            "postgres://u:hunter2@db:99999/t",
            "postgres://u:1@hunter2@db/t",
            "postgres://u:1@hun/ter2@db/t",
            "postgres://u:1#hunter2/t",
            "postgres://u/1:hunter2@db/t",
            "postgres://u:1?hunter2",
            "postgres://u:1?hunter2=1",
            "postgres://u:hunter2@db/t?sslmode=hunter2",
            "postgres://u:hunter2@db/t?hunter2",
            "postgres://u:hunter2@db/t?hunter2=1",
            "postgres://u:hunter2@db/t?port=hunter2",
            "postgres://u:hunter2@db/t?port=1,2",
            "postgres://u:hunter2@one,two/t?hostaddr=127.0.0.1",
            "postgres://u:hunter2@db/t/u",
            "postgres://u:hunter2@[::1/t",
            "postgres://%ff:hunter2@db/t",
        ] {
            let Err(error) = parse(url, None) else {
                continue;
            };
            let text = error.to_string();
            assert!(
                !text.contains("hunter2") && !text.contains("ter2@"),
                "{text}"
            );
            assert!(text.contains("expected postgres://"), "{text}");
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        let store = PostgresStore::new("postgres://u:hunter2@db.example/t");
        let text = format!("{store:?}");
        assert!(
            !text.contains("hunter2") && text.contains("db.example"),
            "{text}"
        );
    }
}
