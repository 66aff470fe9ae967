// What a GPU error becomes: one error that names the op and says what to do, in a process that ends. Each case runs in a
// process of its own, because a lost device is lost and because a hang must be seen from outside.
import { spawn } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { patience } from './patience.js';

const test = suite('errors');

interface Outcome {
  readonly kind: string;
  readonly message: string;
  /** The message of a read afterwards, `''` when it works. */
  readonly later: string;
  readonly stderr: string;
}

const prelude = `
import { writeSync } from 'node:fs';
import * as w from '${new URL('../engine/index.js', import.meta.url)}';
import { empty, run } from '${new URL('../engine/custom.js', import.meta.url)}';
import { openDevice } from '${new URL('../engine/node.js', import.meta.url)}';
const [adapter] = process.argv.slice(2);
const gpu = await openDevice({ adapter: adapter || undefined, quiet: true });
const x = w.tensor(gpu, [1, 2, 3], [3], { label: 'x' });
const shader = (read, type = 'array<f32>') => \`
@group(0) @binding(0) var<storage, read> x: \${type};
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64) fn twice(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&y)) { y[id.x] = \${read}; }
}\`;
const op = (source = shader('2.0 * x[id.x]'), shape = [3], label = 'y') => {
  const y = empty(gpu, shape, 'f32', label);
  run(source, { x, y }, { threads: y.size });
  return y;
};
const broken = shader('z[id.x]');
const tooSmall = shader('x[id.x]', 'array<f32, u32(max(100, 1))>'); // only a compiler can size that
let found = { kind: 'none', message: '' };
try {
`;
const postlude = `
} catch (error) {
  found = { kind: error.constructor.name, message: error.message };
}
const later = await x.read().then(() => '', (error) => error.message);
writeSync(1, JSON.stringify({ ...found, later }));
gpu.close();
`;

/** Runs `body` with a device, in a process that must end by itself. */
function outcome(body: string, adapter = '', environment: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-', adapter], {
      env: { ...process.env, ...environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`hangs: ${body}\n${stdout}\n${stderr}`));
    }, patience);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code !== 0) reject(new Error(`exit code ${code}: ${body}\n${stdout}\n${stderr}`));
      else resolve({ ...(JSON.parse(stdout) as Omit<Outcome, 'stderr'>), stderr });
    });
    child.stdin.end(prelude + body + postlude);
  });
}

/** Runs cases one after the other; each must end in an error of this kind whose message matches. */
const cases = (kind: string, says: RegExp, bodies: Record<string, string>, adapter?: string): void => {
  for (const [name, body] of Object.entries(bodies)) {
    test(name, async () => {
      const found = await outcome(body, adapter);
      assert.is(found.kind, kind, `${found.kind}: ${found.message}`);
      assert.match(found.message, says);
      assert.not.match(found.stderr, /^\s+at /m, 'no stack trace beside the error');
    });
  }
};

test('without an error there is none', async () => {
  const found = await outcome('await op().read();');
  assert.is(found.kind, 'none');
  assert.is(found.later, '');
});

cases('GpuError', /^twice: the shader does not compile\.\n {2}line \d+:\d+ unresolved value 'z'[\s\S]*WGRAD_DEBUG=4/, {
  'a shader that does not compile, eagerly': 'await op(broken).read();',
  'a shader that does not compile, in a step': 'await w.capture(gpu, () => ({ y: op(broken) }))().y.read();',
  'a shader that does not compile, while preparing': 'await w.capture(gpu, () => ({ y: op(broken) })).prepare();',
});

cases('GpuError', /twice[\s\S]*(too small|at least 400 bytes)[\s\S]*WGRAD_SYNC=1/, {
  'a validation error, eagerly': 'await op(tooSmall).read();',
  'a validation error, in a step': 'await w.capture(gpu, () => ({ y: op(tooSmall) }))().y.read();',
});

test('a validation error with WGRAD_SYNC=1 names the op and where it was called', async () => {
  const found = await outcome('await op(tooSmall).read();', '', { WGRAD_SYNC: '1' });
  assert.is(found.kind, 'GpuError');
  assert.match(found.message, /^twice: /);
  assert.match(found.message, / at op /);
});

test("the error is the launch's, not the device's", async () => {
  for (const body of [
    'await op(broken).read();',
    'await op(tooSmall).read();',
    'await w.capture(gpu, () => ({ y: op(broken) })).prepare();',
  ]) {
    const found = await outcome(body);
    assert.is(found.kind, 'GpuError');
    assert.is(found.later, '', body);
  }
});

cases('GpuError', /^activation: needs a buffer of [\d.]+ MiB, this GPU binds at most [\d.]+ MiB\. Reduce/, {
  'a tensor larger than any binding': `await op(undefined, [gpu.limits.maxStorageBufferBindingSize / 4 + 64], 'activation').read();`,
  'a temporary of a step larger than any binding': `
    const step = w.capture(gpu, () => ({ y: op(undefined, [gpu.limits.maxStorageBufferBindingSize / 4 + 64], 'activation') }));
    step();`,
});

// Dawn's null backend has a budget of its own and reports a true out-of-memory error, on any machine.
cases(
  'GpuError',
  /^block \d+: out of GPU memory — 32\.0 MiB more than [\d.]+ MiB in use\. Reduce/,
  {
    'out of memory': `
      const blocks = [];
      for (let i = 0; i < 64; i++) blocks.push(w.tensor(gpu, new Float32Array(2 ** 23), [2 ** 23], { label: 'block ' + i }));
      await blocks[63].read();`,
  },
  'null',
);

cases('GpuLostError', /^device: the GPU was lost \(.+\)\. Everything on it is gone; open it again and resume\.$/, {
  'a device lost before an op': `gpu.device.destroy(); await op().read();`,
  'a device lost while reading': `const reading = op().read(); gpu.device.destroy(); await reading;`,
  'a device lost between two calls of a step': `
    const step = w.capture(gpu, () => ({ y: op() }));
    await step().y.read();
    gpu.device.destroy();
    await step().y.read();`,
  'a device lost while preparing': `
    const step = w.capture(gpu, () => ({ y: op() }));
    const preparing = step.prepare();
    gpu.device.destroy();
    await preparing;
    await step().y.read();`,
  'a device lost while nothing waits': `
    gpu.device.destroy();
    await gpu.device.lost;
    op();`,
});

test('a closed device says so', async () => {
  const found = await outcome('gpu.close(); op();');
  assert.is(found.kind, 'GpuError');
  assert.match(found.message, /was closed/);
});

test('an adapter that does not exist: the names of those that do', async () => {
  const found = await outcome(`await openDevice({ adapter: 'no such adapter' });`);
  assert.is(found.kind, 'GpuError');
  assert.match(found.message, /no adapter is called 'no such adapter' — there are: .*null\.$/);
});

test.run();
