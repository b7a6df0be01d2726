// Builds the package: transpiles the component that xtask has built
// (target/component/tokenwell-interactive.wasm, or the one that
// TOKENWELL_COMPONENT names), and compiles the TypeScript around it.
import { transpile } from '@bytecodealliance/jco';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { minify } from 'oxc-minify';
import { synchronous } from './synchronous.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const generated = join(root, 'src/component');
const dist = join(root, 'dist');
const path =
  process.env.TOKENWELL_COMPONENT ?? join(root, '../../target/component/tokenwell-interactive.wasm');

const component = await readFile(path).catch((error) => {
  throw new Error(`there is no component at ${path}: run \`cargo xtask build\` first (${error.code})`);
});
await rm(generated, { recursive: true, force: true });
await rm(dist, { recursive: true, force: true });

const { files } = await transpile(component, {
  name: 'component',
  // The worker hands in what the component imports.
  instantiation: { tag: 'sync' },
  nodejsCompat: false,
  // V8 leaves every call in WebAssembly a call. The component is made small, so that
  // its small functions are calls; here they are put where they are called.
  optimize: true,
  optimizeOptions: { quiet: true, optArgs: ['--all-features', '-aimfs', '30', '--inlining-optimizing'] },
  base64Cutoff: 0,
});
const code = synchronous(new TextDecoder().decode(files['component.js']));
const minified = await minify('component.js', code, { module: true, compress: true, mangle: true });
if (minified.errors.length > 0) throw new Error(`what jco generates cannot be made small: ${minified.errors[0].message}`);
files['component.js'] = minified.code;
for (const [name, content] of Object.entries(files)) {
  const file = join(generated, name);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, content);
}
const style = await readFile(join(root, '../src/user_agent/loopback/page.css'), 'utf8');
await writeFile(
  join(generated, 'page-css.ts'),
  `/** The style sheet of the page that the user is left with: the reference host's. */\nexport const STYLE = ${JSON.stringify(style)};\n`,
);

const tsc = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', root], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
// What TypeScript only reads.
await cp(generated, join(dist, 'component'), { recursive: true, filter: (file) => !file.endsWith('page-css.ts') });
await writeFile(join(dist, 'component/tokenwell-interactive.wasm'), component);
await cp(join(root, '../../LICENSE'), join(root, 'LICENSE'));
