// A headless Chromium for tests, from npm alone: the binary of @sparticuz/chromium, unpacked once to the cache, driven over
// the DevTools protocol through two pipes (messages end with a zero byte), so that no port and no WebSocket is needed.
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { cacheRoots } from '../../engine/cache-folder.js';

type Json = Record<string, unknown>;

/** One open page. */
export interface Page {
  /** Sends a DevTools command to this page. */
  send(method: string, params?: Json): Promise<Json>;
  /** Goes to an address and waits until it is loaded. */
  open(url: string): Promise<void>;
  /** The value of an expression in the page; throws what it throws. */
  evaluate<T>(expression: string): Promise<T>;
  /** PNG of the page at a width, its whole height or `height`. */
  screenshot(width: number, height?: number): Promise<Buffer>;
  /** Console errors, uncaught exceptions and failed loads so far. */
  readonly errors: string[];
  /** Addresses that were requested so far. */
  readonly requests: string[];
}

export interface Browser {
  page(): Promise<Page>;
  close(): Promise<void>;
}

/** Where the browser was unpacked to: its binary, its libraries, its fonts. Throws where the package is not installed. */
async function unpacked(): Promise<string> {
  const require = createRequire(import.meta.url);
  const entry = require.resolve('@sparticuz/chromium');
  const { version } = require(entry.replace(/(@sparticuz.chromium).*$/, '$1/package.json')) as { version: string };
  const name = `chromium-${version}`;
  const roots = cacheRoots();
  const found = roots.map((root) => join(root, name)).find((folder) => existsSync(join(folder, 'chromium')));
  if (found) return found;
  const root = roots.find((folder) => {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      accessSync(folder, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!root) throw new Error(`none of ${roots.join(', ')} can be written, to unpack Chromium to`);
  const target = join(root, name);
  const half = mkdtempSync(`${target}.`);
  const { TMPDIR, AWS_LAMBDA_JS_RUNTIME } = process.env;
  Object.assign(process.env, { TMPDIR: half, AWS_LAMBDA_JS_RUNTIME: 'nodejs20.x' }); // so that it unpacks its libraries too
  try {
    const { default: chromium } = await import('@sparticuz/chromium');
    await chromium.executablePath();
    renameSync(half, target);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    if (!existsSync(join(target, 'chromium'))) throw error; // else another process was faster
  } finally {
    for (const [name, value] of Object.entries({ TMPDIR, AWS_LAMBDA_JS_RUNTIME })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
  return target;
}

/**
 * A fontconfig file that names the fonts where they lie. The package's own names folders of AWS Lambda, and /tmp/fonts: where nobody
 * else has put fonts, a page has none, its texts have no width, and a canvas or a form ends the browser.
 */
function fontSettings(folder: string, profile: string): string {
  const file = join(profile, 'fonts.conf');
  const [fonts, cache] = [join(folder, 'fonts'), join(profile, 'fonts-cache')];
  writeFileSync(file, `<fontconfig><dir>${fonts}</dir><cachedir>${cache}</cachedir></fontconfig>\n`);
  return file;
}

const flags = [
  '--headless=shell',
  '--no-sandbox',
  '--no-zygote',
  '--remote-debugging-pipe',
  '--disable-dev-shm-usage',
  '--hide-scrollbars',
  '--font-render-hinting=none',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
  '--no-pings',
];

/** Of a browser whose pages draw on WebGPU canvases: its GPU process, too, has Vulkan, so that canvas and page share images. */
const presenting = [
  ...['--use-angle=swiftshader', '--use-gl=angle', '--use-vulkan=swiftshader'],
  '--enable-features=Vulkan,DefaultANGLEVulkan,VulkanFromANGLE',
];

/**
 * Starts a browser. `presents`: pages draw on WebGPU canvases. Throws with the reason where it cannot start: no package, another
 * system, missing libraries.
 */
export async function openBrowser(more: readonly string[] = [], { presents = false } = {}): Promise<Browser> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`there is no Chromium of @sparticuz/chromium for ${process.platform} ${process.arch}`);
  }
  const folder = await unpacked();
  const profile = mkdtempSync(join(tmpdir(), 'wgrad-browser-'));
  const { GLIBC_TUNABLES: _, ...withoutTunables } = process.env; // its GPU process fails under those of test/run.ts
  const display = presents ? presenting : ['--disable-gpu'];
  const given = [...flags, ...display, `--user-data-dir=${profile}`, ...more, 'about:blank'];
  const child = spawn(join(folder, 'chromium'), given, {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
    env: {
      ...withoutTunables,
      LD_LIBRARY_PATH: [join(folder, 'al2023', 'lib'), process.env.LD_LIBRARY_PATH ?? ''].filter(Boolean).join(':'),
      FONTCONFIG_FILE: fontSettings(folder, profile),
      XDG_RUNTIME_DIR: profile,
      HOME: profile,
    },
  });
  const connection = connect(child);
  const close = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await connection.send('Browser.getVersion');
  } catch (error) {
    await close();
    throw error;
  }
  return { page: () => openPage(connection), close };
}

interface Connection {
  send(method: string, params?: Json, sessionId?: string): Promise<Json>;
  listen(sessionId: string, on: (method: string, params: Json) => void): void;
  /** Rejects when the browser ends: what waits for an event, and not for an answer, waits for this, too. */
  readonly end: Promise<never>;
}

function connect(child: ChildProcess): Connection {
  const [input, output] = [child.stdio[3] as Writable, child.stdio[4] as Readable];
  const pending = new Map<number, { resolve(result: Json): void; reject(error: Error): void }>();
  const listeners = new Map<string, (method: string, params: Json) => void>();
  let said = '';
  let ended: Error | undefined;
  let reject: (error: Error) => void;
  const whenEnded = new Promise<never>((_, fail) => {
    reject = fail;
  });
  whenEnded.catch(() => {}); // who waits for it is told
  const end = (why: string) => {
    ended ??= new Error(`the browser ended: ${why}. ${said.trim().split('\n').slice(-12).join(' ')}`.trim());
    reject(ended);
    for (const { reject } of pending.values()) reject(ended);
    pending.clear();
  };
  child.stderr!.on('data', (text: Buffer) => {
    said = (said + String(text)).slice(-4000);
  });
  child.once('error', (error) => end(error.message));
  child.once('close', (code, signal) => end(`exit ${code ?? signal}`));
  input.on('error', () => {});
  let buffered: Buffer[] = [];
  output.on('data', (chunk: Buffer) => {
    for (let rest = chunk; rest.length; ) {
      const zero = rest.indexOf(0);
      if (zero < 0) {
        buffered.push(rest);
        return;
      }
      buffered.push(rest.subarray(0, zero));
      receive(JSON.parse(Buffer.concat(buffered).toString()) as Json);
      buffered = [];
      rest = rest.subarray(zero + 1);
    }
  });
  const receive = (message: Json) => {
    if (typeof message.id !== 'number') {
      listeners.get(message.sessionId as string)?.(message.method as string, (message.params ?? {}) as Json);
      return;
    }
    const waiting = pending.get(message.id);
    pending.delete(message.id);
    const error = message.error as { message: string } | undefined;
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve((message.result ?? {}) as Json);
  };
  let id = 0;
  return {
    send(method, params = {}, sessionId) {
      if (ended) return Promise.reject(ended);
      id++;
      const answer = new Promise<Json>((resolve, reject) => pending.set(id, { resolve, reject }));
      input.write(`${JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) })}\0`);
      return answer;
    },
    listen: (sessionId, on) => listeners.set(sessionId, on),
    end: whenEnded,
  };
}

async function openPage(connection: Connection): Promise<Page> {
  // A context of its own: what one page remembers, another does not know.
  const { browserContextId } = await connection.send('Target.createBrowserContext');
  const { targetId } = await connection.send('Target.createTarget', { url: 'about:blank', browserContextId });
  const { sessionId } = await connection.send('Target.attachToTarget', { targetId, flatten: true });
  const send = (method: string, params?: Json) => connection.send(method, params, sessionId as string);
  const errors: string[] = [];
  const requests: string[] = [];
  let loaded: (() => void) | undefined;
  connection.listen(sessionId as string, (method, params) => {
    if (method === 'Page.loadEventFired') loaded?.();
    if (method === 'Network.requestWillBeSent') requests.push((params.request as { url: string }).url);
    if (method === 'Network.loadingFailed') errors.push(`load failed: ${params.errorText}`);
    if (method === 'Runtime.exceptionThrown') errors.push(JSON.stringify(params.exceptionDetails));
    if (method === 'Runtime.consoleAPICalled' && params.type === 'error') errors.push(JSON.stringify(params.args));
    if (method === 'Log.entryAdded' && (params.entry as Json).level === 'error')
      errors.push(JSON.stringify(params.entry));
  });
  for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await send(`${domain}.enable`);
  return {
    send,
    errors,
    requests,
    async open(url) {
      const done = new Promise<void>((resolve) => {
        loaded = resolve;
      });
      const { errorText } = await send('Page.navigate', { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
      await Promise.race([done, connection.end]);
    },
    async evaluate<T>(expression: string) {
      const options = { expression, returnByValue: true, awaitPromise: true };
      const { result, exceptionDetails } = await send('Runtime.evaluate', options);
      if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
      return (result as { value: T }).value;
    },
    async screenshot(width, height) {
      const mobile = width < 600;
      await send('Emulation.setDeviceMetricsOverride', { width, height: height ?? 800, deviceScaleFactor: 1, mobile });
      const { cssContentSize } = await send('Page.getLayoutMetrics');
      const tall = height ?? Math.ceil((cssContentSize as { height: number }).height);
      const clip = { x: 0, y: 0, width, height: tall, scale: 1 };
      const { data } = await send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true, clip });
      return Buffer.from(data as string, 'base64');
    },
  };
}
