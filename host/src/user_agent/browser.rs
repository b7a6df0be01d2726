use std::time::Duration;

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use tokio::time;
use url::Url;

use super::{Listener, LoopbackListener, UserAgent};
use crate::contract::{DeviceAuthorization, UserAgentError};

/// How long a browser has to say that it cannot be opened. One in a terminal
/// says nothing before it is closed.
const PATIENCE: Duration = Duration::from_secs(1);

/// The user's own browser (RFC 8252 section 4): the one of the environment
/// variable `BROWSER` where the platform knows it, or else the desktop's. The
/// redirect is awaited by a [`LoopbackListener`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Browser;

#[async_trait]
impl UserAgent for Browser {
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Box<dyn Listener>, UserAgentError> {
        let listener = LoopbackListener::bind(connection, redirect_uri).await?;
        Ok(Box::new(listener))
    }

    async fn open_url(&self, _: &str, url: &str) -> Result<(), UserAgentError> {
        let url = Url::parse(url)
            .map_err(|error| UserAgentError::Denied(format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UserAgentError::Denied(format!(
                "a browser is not opened on a `{}:` URL",
                url.scheme()
            )));
        }
        if let Some(why) = no_browser_because(|name| std::env::var_os(name).is_some()) {
            return Err(UserAgentError::Unavailable(why.to_owned()));
        }
        let opening = spawn_blocking(move || webbrowser::open(url.as_str()));
        match time::timeout(PATIENCE, opening).await {
            // One that is still open waits for us to take the redirect.
            Ok(Ok(Ok(()))) | Err(_) => Ok(()),
            Ok(Ok(Err(error))) => Err(UserAgentError::Unavailable(format!(
                "no browser could be opened: {error}"
            ))),
            Ok(Err(error)) => Err(UserAgentError::Unavailable(error.to_string())),
        }
    }

    /// Opens the page that has the code in it already (RFC 8628 section 3.3.1).
    /// A host that can show the code itself should do so.
    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        match &device.verification_uri_complete {
            Some(url) => self.open_url(connection, url).await,
            None => Err(UserAgentError::Unavailable(
                "a browser alone cannot show a device code".to_owned(),
            )),
        }
    }
}

/// Why there can be no browser, going by the environment: without a display a
/// launcher may say that all went well while nothing opens.
#[cfg(all(unix, not(target_os = "macos")))]
fn no_browser_because(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let has_place = ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"]
        .into_iter()
        .any(is_set);
    (!has_place).then_some("there is no display for a browser, and BROWSER names none")
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn no_browser_because(_: impl Fn(&str) -> bool) -> Option<&'static str> {
    None
}

#[cfg(all(test, unix, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn without_display_and_browser_there_is_none() {
        assert!(no_browser_because(|_| false).is_some());
        for name in ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
            assert!(
                no_browser_because(|asked| asked == name).is_none(),
                "{name}"
            );
        }
    }
}
