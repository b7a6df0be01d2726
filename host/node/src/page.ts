// The page that the user is left with: the reference host's, style sheet included.
// It loads nothing, runs nothing, and shows nothing unescaped.
import { createHash } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { STYLE } from './component/page-css.js';
import type { Outcome } from './user-agent.js';

export interface Page {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** Nothing but that style sheet, by its hash. */
const POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** The answer to a redirect. `undefined`: the listener was closed before anybody said how it went. */
export function outcomePage(name: string, outcome: Outcome | undefined): Page {
  const connection = `<strong>${escape(name)}</strong>`;
  let title = 'Not authorized';
  let text: string;
  switch (outcome?.status) {
    case 'authorized':
      title = 'Authorized';
      text = `The connection ${connection} is authorized.`;
      break;
    case 'failed':
      text = `The connection ${connection} could not be authorized: ${escape(outcome.reason)}`;
      break;
    case 'refused':
      title = 'Not accepted';
      text = `This is not the response that the connection ${connection} is waiting for: ${escape(outcome.reason)}`;
      break;
    case undefined:
      text = `The connection ${connection} is no longer waiting for a response.`;
  }
  const isGood = outcome?.status === 'authorized';
  const body = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}: ${escape(name)}</title>
<style>${STYLE}</style>
</head>
<body>
<main class="${isGood ? 'good' : 'bad'}">
<h1>${title}</h1>
<p role="status">${text}</p>
<p>You can close this window.</p>
</main>
</body>
</html>
`;
  return page(isGood ? 200 : 400, 'text/html; charset=utf-8', body);
}

/** The answer to what is no redirect at all. */
export function plainPage(status: number, headers: Record<string, string> = {}): Page {
  return page(status, 'text/plain; charset=utf-8', `${STATUS_CODES[status] ?? ''}\n`, headers);
}

function page(status: number, type: string, body: string, further: Record<string, string> = {}): Page {
  const headers = {
    'content-type': type,
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'content-security-policy': POLICY,
    ...further,
  };
  return { status, headers, body };
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}
