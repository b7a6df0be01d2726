import openInBrowser from 'open';
import { LoopbackListener } from './loopback.js';
import type { DeviceAuthorization } from './types.js';
import { UserAgentError, type Listener, type UserAgent } from './user-agent.js';

/**
 * The user's own browser (RFC 8252 section 4): the one of the environment variable
 * `BROWSER` where the platform knows it, or else the desktop's. The redirect is
 * awaited by a `LoopbackListener`.
 */
export class Browser implements UserAgent {
  listen(connection: string, redirectUri: string | undefined): Promise<Listener> {
    return LoopbackListener.bind(connection, redirectUri);
  }

  async openUrl(_: string, url: string): Promise<void> {
    if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) {
      throw new UserAgentError('denied', 'a browser is opened on http and https URLs alone');
    }
    const hasPlace = ['BROWSER', 'DISPLAY', 'WAYLAND_DISPLAY'].some((name) => process.env[name] !== undefined);
    // Without a display a launcher may say that all went well while nothing opens.
    if (process.platform !== 'darwin' && process.platform !== 'win32' && !hasPlace) {
      throw new UserAgentError('unavailable', 'there is no display for a browser, and BROWSER names none');
    }
    try {
      const child = await openInBrowser(url);
      // A launcher that ends badly later is nobody's concern here: the wait for the user has a limit.
      child.on('error', () => undefined);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new UserAgentError('unavailable', `no browser could be opened: ${why}`, { cause: error });
    }
  }

  /**
   * Opens the page that has the code in it already (RFC 8628 section 3.3.1). An
   * application that can show the code itself should do so, by `onDeviceCode`.
   */
  async showDeviceCode(connection: string, device: DeviceAuthorization): Promise<void> {
    if (device.verificationUriComplete === undefined) {
      throw new UserAgentError('unavailable', 'a browser alone cannot show a device code; give `onDeviceCode`');
    }
    await this.openUrl(connection, device.verificationUriComplete);
  }
}
