// Opening a GPU under Node: the order of drivers, the unpacked SwiftShader, and what is said when something is missing.
// Each case is a process of its own with a cache of its own, since a process has one Vulkan loader for life.
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { patience } from './patience.js';
import { unless } from './unless.js';

const test = suite('drivers');
const dist = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const carried = process.platform === 'linux' && process.arch === 'x64';
const testCarried = unless(carried ? undefined : 'the carried SwiftShader runs on Linux x64 only', test);
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
const { tensor, empty, run } = await at('index.js');
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

/** Runs the script under \`command\` (default: node) with this environment; the environment has no WGRAD_ADAPTER. */
function open(
  options: string,
  environment: Record<string, string> = {},
  root?: string,
  command?: string[],
  cwd?: string,
) {
  const file = join(folder, `open-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(file, script(options, root));
  const { WGRAD_ADAPTER: _, ...inherited } = process.env;
  const [program, ...args] = [...(command ?? []), process.execPath, file];
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
  assert.is((await open('{}', { WGRAD_ADAPTER: 'null' })).driver, 'null');
});

test('without the package webgpu: what to install; where the program runs, it is found', async () => {
  const bare = join(folder, 'bare');
  for (const room of ['engine', 'shaders', 'vendor']) cpSync(join(dist, room), join(bare, room), { recursive: true });
  writeFileSync(join(bare, 'package.json'), '{ "type": "module" }');
  const here = (cwd: string) => open(`{ adapter: 'null' }`, {}, bare, undefined, cwd);
  assert.match(
    (await here(folder)).error!,
    /^GpuError device: .*Run: npm install webgpu \(npm install --global webgpu, /,
  );
  assert.is((await here(dirname(dist))).driver, 'null');
});

testCarried('SwiftShader is unpacked once, whole, by several processes at a time', async () => {
  const cache = join(folder, 'fresh');
  const opened = await Promise.all(
    [1, 2].map(() => open(`{ adapter: 'swiftshader' }`, { XDG_CACHE_HOME: cache, VK_DRIVER_FILES: '/nowhere.json' })),
  );
  for (const found of opened) {
    assert.is(found.driver, 'SwiftShader', found.error);
    assert.is(found.software, true);
    assert.equal(found.y, [2, 4, 6]);
  }
  assert.is(readdirSync(join(cache, 'wgrad')).length, 1, 'nothing half unpacked is left');
});

testCarried('no driver of the system works: SwiftShader, announced', async () => {
  const found = await open('{}', { VK_DRIVER_FILES: '/nowhere.json' });
  assert.is(found.driver, 'SwiftShader', found.error);
  assert.match(found.stderr, /^no GPU found: SwiftShader on the CPU, slow$/m);
});

testCarried('no place to unpack to: which places were tried', async () => {
  const nowhere = { XDG_CACHE_HOME: '/dev/null', TMPDIR: '/dev/null' };
  const { error } = await open(`{ adapter: 'swiftshader' }`, nowhere);
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
unless(isolates ? undefined : 'no mount namespace (unshare) to hide Vulkan in', test)(
  'a machine without Vulkan: npm alone is enough',
  async () => {
    const found = await open('{}', {}, undefined, isolated);
    assert.is(found.driver, 'SwiftShader', found.error);
    assert.equal(found.y, [2, 4, 6]);
    assert.match((await open(`{ adapter: 'lavapipe' }`, {}, undefined, isolated)).error!, /no lavapipe here/);
  },
);

const lavapipe = existsSync('/usr/share/vulkan/icd.d/lvp_icd.json') ? undefined : 'this system has no lavapipe';
unless(lavapipe, test)('lavapipe is either opened or refused with its reason', async () => {
  const found = await open(`{ adapter: 'lavapipe' }`);
  assert.match(found.error ?? found.driver!, /^lavapipe$|Mesa 25 or later/);
});

test.run();
