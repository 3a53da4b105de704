// node phone.mjs ORIGIN MICROPHONE.wav [CHROMIUM]
//
// Opens page.js in Chromium as a page of ORIGIN. Lines of standard input are
// {"id", "call", "args"}: a function of the page's phone; its answer is
// {"id", "result"} or {"id", "error"} on standard output, among the page's own
// {"event", …} lines. Ends with standard input.
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [origin, microphone, executablePath = '/usr/bin/chromium'] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const say = (o) => process.stdout.write(`${JSON.stringify(o)}\n`);

const bundle = await build({
  entryPoints: [join(here, 'page.js')], bundle: true, write: false, format: 'iife', platform: 'browser', define: { global: 'window' },
});
const browser = await chromium.launch({
  executablePath,
  args: [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors',
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${microphone}`,
    '--autoplay-policy=no-user-gesture-required',
  ],
});
try {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true });
  await context.grantPermissions(['microphone'], { origin });
  const page = await context.newPage();
  await page.exposeFunction('tell', (line) => { process.stdout.write(`${line}\n`); });
  page.on('pageerror', (e) => say({ event: 'error', text: `${e}` }));
  page.on('console', (m) => { if (m.type() === 'error') process.stderr.write(`${m.text()}\n`); });
  // Any answer of the gateway will do as a page of its origin.
  await page.goto(`${origin}/healthz`);
  await page.evaluate(bundle.outputFiles[0].text);
  say({ event: 'ready' });
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, call, args = [] } = JSON.parse(line);
    try {
      const result = await page.evaluate(([fn, a]) => window.phone[fn](...a), [call, args]);
      say({ id, result: result ?? null });
    } catch (e) {
      say({ id, error: `${e}` });
    }
  }
} finally {
  await browser.close();
}
