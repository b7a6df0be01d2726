// Takes a user through the pages of oidc-provider in headless Chromium:
//
//   node login.mjs [--deny] [--screenshot PATH] URL
//
// opens the authorization URL, signs in, consents (or cancels, with --deny),
// follows the redirect to the client's listener and prints one line of JSON:
// the URL, title, visible text and response headers of the page that the user
// is left with, and what that page asked other origins for. CHROMIUM names the
// browser.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values: options, positionals: [url] } = parseArgs({
  allowPositionals: true,
  options: { deny: { type: 'boolean' }, screenshot: { type: 'string' } },
});
const server = new URL(url).origin;

const profile = await mkdtemp(join(tmpdir(), 'tokenwell-browser-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  args: [
    '--no-sandbox', // it does not start as root with one
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    // Nothing but the test is to use the network.
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-default-apps',
    '--disable-extensions',
    '--disable-sync',
    '--metrics-recording-only',
    '--no-pings',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]',
  ],
});
try {
  const page = context.pages()[0] ?? await context.newPage();
  page.setDefaultTimeout(60_000);
  let requested = [];
  let headers = {};
  page.on('request', (request) => requested.push(request.url()));
  page.on('response', (response) => {
    if (response.request().isNavigationRequest()) headers = response.headers();
  });
  // A page's own requests begin when its document has come.
  page.on('framenavigated', () => { requested = []; });

  await page.goto(url, { waitUntil: 'domcontentloaded' });
  if (options.deny) {
    await page.click('a[href$="/abort"]', { noWaitAfter: true });
  } else {
    await page.fill('input[name=login]', 'alice');
    await page.fill('input[name=password]', 'wonderland');
    await page.click('button[type=submit]', { noWaitAfter: true });
    await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached' });
    await page.click('button[type=submit]', { noWaitAfter: true });
  }

  await page.waitForURL((at) => at.origin !== server);
  await page.waitForLoadState();
  const landing = new URL(page.url()).origin;
  if (options.screenshot) await page.screenshot({ path: options.screenshot, fullPage: true });
  const result = {
    url: page.url(),
    title: await page.title(),
    text: await page.innerText('body'),
    headers,
    elsewhere: requested.filter((at) => new URL(at).origin !== landing),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
