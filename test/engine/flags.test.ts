// Developer switches, each shown to do what it says. They are a Gpu's own, so most tests open one.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { environmentFlags, type Flags, memoryOf } from '../../engine/debug.js';
import { add, capture, type Gpu, GpuError, mul, square, sum, type Tensor, tensor } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { lackingSources, unless } from '../unless.js';

const test = suite('flags');
const testSources = unless(lackingSources, test);

/** A device of its own with these switches. */
async function withDevice(set: Partial<Flags>, work: (gpu: Gpu) => Promise<void>): Promise<void> {
  const gpu = await openDevice({ quiet: true, flags: set });
  try {
    await work(gpu);
  } finally {
    gpu.close();
  }
}

/** A launch that Dawn refuses when it is encoded: 16 bytes are read, 4 are bound (by a type that only a compiler can size). */
function tooSmall(gpu: Gpu): Tensor {
  const source = `
    @group(0) @binding(0) var<storage, read> x: array<vec4f, u32(max(1, 1))>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn too_small() { y[0] = x[0].w; }`;
  const y = empty(gpu, [1]);
  run(source, { x: tensor(gpu, [1]), y }, { threads: 1 });
  return y;
}

test('the environment sets them', () => {
  const read = (env: Record<string, string>): Record<string, unknown> => {
    const url = new URL('../../engine/flags.js', import.meta.url).href;
    const script = `import(${JSON.stringify(url)}).then(({ environmentFlags }) => console.log(JSON.stringify(environmentFlags())))`;
    return JSON.parse(
      execFileSync(process.execPath, ['-e', script], { env: { PATH: process.env.PATH, ...env } }).toString(),
    );
  };
  const defaults = {
    debug: 0,
    sync: false,
    capture: true,
    pool: true,
    fuse: true,
    tune: true,
    poison: false,
    checkNan: false,
    checkLabels: false,
  };
  assert.equal(read({}), defaults);
  assert.equal(
    read({
      WGRAD_TUNE: '0',
      WGRAD_SYNC: '1',
      WGRAD_POOL: '0',
      WGRAD_CAPTURE: '0',
      WGRAD_CHECK_NAN: '1',
      WGRAD_CHECK_LABELS: '1',
      WGRAD_DEBUG: '2',
    }),
    {
      ...defaults,
      tune: false,
      sync: true,
      pool: false,
      capture: false,
      checkNan: true,
      checkLabels: true,
      debug: 2,
    },
  );
});

test('every Gpu has switches of its own, from the environment of the moment it is opened', async () => {
  const gpu = await testGpu();
  await withDevice({ fuse: false }, async (other) => {
    assert.equal(other.flags, { ...environmentFlags(), fuse: false });
    other.flags.checkNan = true;
    assert.equal(gpu.flags, environmentFlags());
    assert.is(environmentFlags().checkNan, false);
  });
});

testSources(
  "nothing in the engine, the models or the trainer reads the environment's switches but what opens a Gpu",
  () => {
    const root = fileURLToPath(new URL('../../../', import.meta.url));
    const readers = ['engine', 'model', 'train'].flatMap((room) =>
      (readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }) as string[])
        .filter((name) => name.endsWith('.ts'))
        .map((name) => join(room, name))
        .filter((path) =>
          /import \{[^}]*\benvironmentFlags\b[^}]*\} from '[./]*(flags|engine\/debug)\.js'/.test(
            readFileSync(join(root, path), 'utf8'),
          ),
        ),
    );
    assert.equal(readers, [join('engine', 'device.ts'), join('train', 'commands', 'sweep.ts')]); // which passes them on
  },
);

test('a refused launch is reported; WGRAD_SYNC=1 adds the op and the line that called it', async () => {
  await withDevice({}, async (gpu) => {
    await refuses(() => tooSmall(gpu).read(), GpuError, /^too_small: [\s\S]* Run with WGRAD_SYNC=1/);
  });
  await withDevice({ sync: true }, async (gpu) => {
    mul(tensor(gpu, [1]), 2);
    await refuses(() => tooSmall(gpu).read(), GpuError, /^too_small: [\s\S]*tooSmall.*flags\.test/);
  });
});

test('WGRAD_SYNC=1 computes the same', () =>
  withDevice({ sync: true }, async (gpu) => {
    const x = tensor(gpu, [1, 2]);
    const step = capture(x.gpu, () => add(mul(x, x), 1));
    assert.equal([...(await step().read())], [2, 5]);
    x.write([3, 4]);
    assert.equal([...(await step().read())], [10, 17]);
  }));

test('WGRAD_CHECK_NAN=1 names the first op that makes a NaN or an infinity', () =>
  withDevice({ checkNan: true }, async (gpu) => {
    const x = tensor(gpu, [1, 1e30, 2], [3], { label: 'image' });
    assert.equal([...(await mul(x, 2).read())], [2, Math.fround(2e30), 4]);
    const y = sum(mul(square(mul(x, 3)), 0));
    await refuses(
      () => y.read(),
      GpuError,
      /^square: launch 1 of 4 wrote a NaN or an infinity to 'result' \[3\]. Its inputs: mul \[3\]/,
    );
  }));

test('a step names its first non-finite op, and goes on', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => sum(square(x)));
  assert.is(await step.findNonFinite(), undefined);
  x.write([1, -1e30]);
  assert.match((await step.findNonFinite())!, /^square: launch 0 of 2/);
  x.write([1, 1]);
  assert.is(await step().item(), 2);
});

test('WGRAD_POOL=0 computes the same in more memory, and gives it back', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const step = () => capture(gpu, () => sum(mul(mul(mul(x, 2), 2), 2)));
  const shared = step();
  const expected = await shared().item();
  gpu.flags.pool = false;
  try {
    const apart = step();
    assert.is(await apart().item(), expected);
    assert.is(apart.info.plannedBytes, apart.info.unsharedBytes);
    assert.ok(shared.info.plannedBytes < apart.info.plannedBytes);
    assert.is(await sum(mul(mul(x, 2), 4)).item(), expected);
  } finally {
    gpu.flags.pool = true;
  }
  assert.ok(memoryOf(gpu).bytes > 0);
});

test.run();
