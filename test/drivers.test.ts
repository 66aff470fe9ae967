// Opening a GPU under Node: the order of drivers, the unpacked SwiftShader, and what is said when something is missing.
// Each case is a process of its own with a cache of its own, since a process has one Vulkan loader for life.
import { spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cacheRoots } from '../engine/cache-folder.js';
import { patience } from './patience.js';
import { unless } from './unless.js';

const test = suite('drivers');
const dist = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const carried = process.platform === 'linux' && process.arch === 'x64';
const testCarried = unless(carried ? undefined : 'the carried SwiftShader runs on Linux x64 only', test);
const noDriver = { VK_DRIVER_FILES: '/nowhere.json' };
let folder = '';
test.before(() => {
  folder = mkdtempSync(join(tmpdir(), 'wgrad-drivers-'));
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Opens a device with these options, runs a kernel, and prints what was found as JSON (or the error's message). */
const script = (options: string, root = dist) => `
import { pathToFileURL } from 'node:url';
const at = (file) => import(pathToFileURL('${root}/engine/' + file).href);
const { openDevice } = await at('node.js');
const { tensor } = await at('index.js');
const { empty, run } = await at('custom.js');
try {
  const gpu = await openDevice(${options});
  const x = tensor(gpu, [1, 2, 3]);
  const y = empty(gpu, [3]);
  run(\`@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64) fn twice(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&y)) { y[id.x] = 2.0 * x[id.x]; }
}\`, { x, y }, { threads: 3 });
  console.log(JSON.stringify({ ...gpu.adapter, y: [...(await y.read())], globals: ['gpu', 'GPUDevice'].filter((g) => g in globalThis) }));
  gpu.close();
} catch (error) {
  console.log(JSON.stringify({ error: error.constructor.name + ' ' + error.message }));
}`;

interface Opened {
  driver?: string;
  software?: boolean;
  y?: number[];
  globals?: string[];
  error?: string;
  stderr: string;
}

/** How a script is run, where not as most are: by Node, on its own, in this folder, with the package's own files. */
interface How {
  /** Variables of the environment, which has no WGRAD_ADAPTER. */
  environment?: Record<string, string>;
  /** The folder of the engine's files. */
  root?: string;
  /** What the runtime is started by. */
  within?: readonly string[];
  cwd?: string;
  /** Another runtime. */
  runtime?: readonly string[];
}

/** Runs the script with these options. */
function open(options: string, { environment, root, within = [], cwd, runtime = [process.execPath] }: How = {}) {
  const file = join(folder, `open-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(file, script(options, root));
  const { WGRAD_ADAPTER: _, ...inherited } = process.env;
  const [program, ...args] = [...within, ...runtime, file];
  return new Promise<Opened>((done, fail) => {
    const child = spawn(program!, args, {
      env: { ...inherited, XDG_CACHE_HOME: join(folder, 'cache'), ...environment },
      timeout: patience,
      ...(cwd && { cwd }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    child.on('error', fail);
    child.on('close', () => {
      try {
        done({ ...JSON.parse(stdout), stderr });
      } catch {
        fail(new Error(`no answer: ${stdout}\n${stderr}`));
      }
    });
  });
}

test('the default is a device that computes; a software driver is announced in one line', async () => {
  const found = await open('{}');
  assert.equal(found.y, [2, 4, 6], found.error);
  assert.equal(found.globals, [], 'no WebGPU globals are assigned');
  const lines = found.stderr.split('\n').filter((line) => line.startsWith('no GPU found: '));
  assert.is(lines.length, found.software ? 1 : 0);
  assert.not.match((await open('{ quiet: true }')).stderr, /no GPU found/);
});

test('the null backend validates and computes nothing', async () => {
  assert.is((await open(`{ adapter: 'null' }`)).driver, 'null');
  assert.is((await open('{}', { environment: { WGRAD_ADAPTER: 'null' } })).driver, 'null');
});

/** A project with a copy of wgrad and these packages; gives the folder of wgrad's files. */
function project(name: string, ...packages: string[]): string {
  const wgrad = join(folder, name, 'node_modules/wgrad');
  const rooms = ['engine', 'shaders', 'model', 'train', 'vendor'];
  for (const room of rooms) cpSync(join(dist, room), join(wgrad, 'dist', room), { recursive: true });
  cpSync(join(dist, '../package.json'), join(wgrad, 'package.json'));
  for (const name of packages) symlinkSync(join(dist, '../node_modules', name), join(wgrad, '..', name), 'junction');
  return join(wgrad, 'dist');
}

test('without the package webgpu: what to install; where the program runs, it is found', async () => {
  const root = project('bare');
  const here = (cwd: string) => open(`{ adapter: 'null' }`, { root, cwd });
  assert.match(
    (await here(folder)).error!,
    /^GpuError device: .*Run: npm install webgpu \(npm install --global webgpu, /,
  );
  assert.is((await here(dirname(dist))).driver, 'null');
});

/** What npm pack writes of these files. */
function tarball(files: Record<string, Buffer>): string {
  const blocks = Object.entries(files).flatMap(([name, data]) => {
    const head = Buffer.alloc(512);
    head.write(`package/${name}`, 0);
    head.write(data.length.toString(8).padStart(11, '0'), 124);
    head.write('0', 156);
    return [head, data, Buffer.alloc(-data.length & 511)];
  });
  const path = join(folder, `${Object.keys(files).length}.tgz`);
  writeFileSync(path, gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]), { level: 1 }));
  return path;
}

testCarried(
  'wgrad driver keeps SwiftShader of the tarball, its licence too; every project of the user finds it',
  async () => {
    const root = project('server', 'webgpu');
    const environment = { XDG_CACHE_HOME: join(folder, 'server-cache'), ...noDriver };
    const here = () => open('{}', { root, cwd: folder, environment });
    const driver = (...args: string[]) =>
      spawnSync(process.execPath, [join(root, 'train/cli.js'), 'driver', ...args], {
        cwd: folder,
        env: { ...process.env, ...environment },
        encoding: 'utf8',
        timeout: patience,
      });
    assert.match((await here()).error!, /^GpuError device: neither a GPU nor .* runs on the CPU: npx wgrad driver \(/);
    const source = join(dist, '../node_modules/@sparticuz/chromium');
    const licence = readFileSync(join(source, 'LICENSE'));
    const about = readFileSync(join(source, 'package.json'));
    const wrong = driver('--from', tarball({ LICENSE: licence, 'package.json': about }));
    assert.is(wrong.status, 1);
    assert.match(
      wrong.stderr,
      /^device: this tarball holds no bin\/swiftshader\.tar\.br — expected that of @sparticuz/,
    );
    assert.match(driver('--from', join(root, 'train/cli.js')).stderr, /^device: no tarball — .*; expected that of/);
    assert.match(driver('--from', 'nowhere.tgz').stderr, /^driver: cannot read nowhere\.tgz — /);
    assert.match((await here()).error!, /^GpuError device: neither a GPU/);
    const name = 'bin/swiftshader.tar.br';
    const archive = readFileSync(join(source, name));
    const kept = driver('--from', tarball({ LICENSE: licence, 'package.json': about, [name]: archive }));
    assert.is(kept.status, 0, kept.stderr);
    assert.equal(readdirSync(kept.stdout.trim()).sort(), [
      ...['LICENSE', 'libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'],
    ]);
    assert.equal(readFileSync(join(kept.stdout.trim(), 'LICENSE')), licence);
    assert.equal((await here()).y, [2, 4, 6]);
    assert.is(driver().stdout, kept.stdout, 'a second call downloads nothing');
    const { devDependencies } = JSON.parse(readFileSync(join(dist, '../package.json'), 'utf8'));
    assert.ok(driver('--help').stdout.includes(`@sparticuz/chromium@${devDependencies['@sparticuz/chromium']},`));
  },
);

test('the cache folder is where each system has caches', () => {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  try {
    delete process.env.XDG_CACHE_HOME;
    process.env.LOCALAPPDATA = 'C:/Users/me/AppData/Local';
    const first = (platform: NodeJS.Platform) => cacheRoots(platform)[0];
    assert.is(first('linux'), join(homedir(), '.cache/wgrad'));
    assert.is(first('darwin'), join(homedir(), 'Library/Caches/wgrad'));
    assert.is(first('win32'), join('C:/Users/me/AppData/Local/wgrad'));
    process.env.XDG_CACHE_HOME = '/caches';
    assert.is(first('darwin'), join('/caches/wgrad'));
  } finally {
    for (const [name, value] of Object.entries({ XDG_CACHE_HOME, LOCALAPPDATA })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

testCarried('SwiftShader is unpacked once, whole, by several processes at a time', async () => {
  const cache = join(folder, 'fresh');
  const opened = await Promise.all(
    [1, 2].map(() => open(`{ adapter: 'swiftshader' }`, { environment: { XDG_CACHE_HOME: cache, ...noDriver } })),
  );
  for (const found of opened) {
    assert.is(found.driver, 'SwiftShader', found.error);
    assert.is(found.software, true);
    assert.equal(found.y, [2, 4, 6]);
  }
  assert.is(readdirSync(join(cache, 'wgrad')).length, 1, 'nothing half unpacked is left');
});

testCarried('no driver of the system works: SwiftShader, announced', async () => {
  const found = await open('{}', { environment: noDriver });
  assert.is(found.driver, 'SwiftShader', found.error);
  assert.match(found.stderr, /^no GPU found: SwiftShader on the CPU, slow$/m);
});

testCarried('no place to unpack to: which places were tried', async () => {
  const environment = { XDG_CACHE_HOME: '/dev/null', TMPDIR: '/dev/null' };
  const { error } = await open(`{ adapter: 'swiftshader' }`, { environment });
  assert.match(error!, /^GpuError device: SwiftShader cannot be unpacked to any of .*set XDG_CACHE_HOME/);
});

// A machine without any Vulkan: the system's loader, drivers and loader cache are hidden in a mount namespace.
const hide = `
  for f in $(find /lib /usr/lib /lib64 /usr/lib64 /usr/local/lib -maxdepth 2 -name 'libvulkan*' 2>/dev/null) /etc/ld.so.cache; do
    [ -f "$f" ] && mount --bind /dev/null "$(realpath "$f")"; done
  for d in /usr/share/vulkan /etc/vulkan; do [ -d "$d" ] && mount -t tmpfs none "$d"; done
  exec "$@"`;
const isolated = ['unshare', '--map-root-user', '--mount', 'bash', '-c', hide, 'bash'];
const isolates = carried && spawnSync(isolated[0]!, [...isolated.slice(1), 'true']).status === 0;
const testIsolated = unless(isolates ? undefined : 'no mount namespace (unshare) to hide Vulkan in', test);
testIsolated('a machine without Vulkan: npm alone is enough', async () => {
  const found = await open('{}', { within: isolated });
  assert.is(found.driver, 'SwiftShader', found.error);
  assert.equal(found.y, [2, 4, 6]);
  assert.match((await open(`{ adapter: 'lavapipe' }`, { within: isolated })).error!, /no lavapipe here/);
});

// Bun and Deno load libraries and set variables in their own ways; with Vulkan hidden, both are needed.
for (const [name, ...args] of [['bun'], ['deno', 'run', '-A']] as const) {
  const { status } = spawnSync(name, ['--version']);
  const runtime = [name, ...args];
  unless(status === 0 ? undefined : `no ${name} here`, test)(`${name} opens what Node opens`, async () => {
    const [node, other] = [await open('{}'), await open('{}', { runtime })];
    assert.is(other.driver, node.driver, other.error);
    assert.equal(other.y, [2, 4, 6]);
    if (carried) {
      const found = await open('{}', { runtime, environment: noDriver, ...(isolates && { within: isolated }) });
      assert.is(found.driver, 'SwiftShader', found.error);
      assert.equal(found.y, [2, 4, 6]);
    }
  });
}

const lavapipe = existsSync('/usr/share/vulkan/icd.d/lvp_icd.json') ? undefined : 'this system has no lavapipe';
unless(lavapipe, test)('lavapipe is either opened or refused with its reason', async () => {
  const found = await open(`{ adapter: 'lavapipe' }`);
  assert.match(found.error ?? found.driver!, /^lavapipe$|Mesa 25 or later/);
});

test.run();
