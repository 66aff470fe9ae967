// The checker must fail: each case is an op with one fault.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, record, run } from '../engine/custom.js';
import { type Tensor, tensor } from '../engine/index.js';
import { checkOp } from './check-op.js';
import { closeTo } from './close-to.js';
import { testGpu } from './gpu.js';
import { mapArray } from './reference/nd-array.js';

const test = suite('checkOp');

/** y = factor·x by `statement`, with a gradient of `dFactor`·dy. */
function scaled(x: Tensor, statement: string, dStatement = 'y[i] = 3.0 * x[i];', extra = ''): Tensor {
  const launch = (from: Tensor, text: string): Tensor => {
    const y = empty(from.gpu, from.shape);
    const source = `
      @group(0) @binding(0) var<storage, read> x: array<f32>;
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @compute @workgroup_size(64) fn scaled(@builtin(global_invocation_id) id: vec3u) {
        let i = id.x;
        if (i >= arrayLength(&x)) { return; }
        ${extra}
        ${text}
      }`;
    run(source, { x: from, y }, { threads: from.size });
    return y;
  };
  return record('scaled', launch(x, statement), [x], (dy) => [launch(dy, dStatement)]);
}

const check = (op: (x: Tensor) => Tensor, shape = [67]): Promise<void> =>
  checkOp({
    op: (x) => op(x!),
    reference: (x) => mapArray(x!, (v) => 3 * v),
    inputs: [{ shape }],
  });

async function fails(work: Promise<void>, message: RegExp): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason: Error) => reason,
  );
  assert.ok(error, `expected a failure: ${message}`);
  assert.match(error.message, message);
}

test('a right op passes', () => check((x) => scaled(x, 'y[i] = 3.0 * x[i];')));

test('a wrong value', () =>
  fails(
    check((x) => scaled(x, 'y[i] = 3.001 * x[i];')),
    /eager.*output.*differ/,
  ));

test('a wrong gradient', () =>
  fails(
    check((x) => scaled(x, 'y[i] = 3.0 * x[i];', 'y[i] = x[i];')),
    /gradient of input 0.*differ/,
  ));

test('one wrong gradient among many elements', () =>
  fails(
    check((x) => scaled(x, 'y[i] = 3.0 * x[i];', 'y[i] = select(3.0, 30.0, i == 1234u) * x[i];'), [2000]),
    /along a direction/,
  ));

test('a gradient of the reversed order', () =>
  fails(
    check((x) => scaled(x, 'y[i] = 3.0 * x[i];', 'y[i] = 3.0 * x[arrayLength(&x) - 1u - i];')),
    /gradient of input 0.*differ/,
  ));

test('no gradient', () =>
  fails(
    check((x) => record('none', scaled(x, 'y[i] = 3.0 * x[i];'), [x], () => [undefined])),
    /there is none/,
  ));

test('unwritten memory that is added to', () =>
  fails(
    check((x) => scaled(x, 'y[i] += 3.0 * x[i];')),
    /output/,
  ));

test('buffers of temporaries start as NaN', () =>
  fails(
    check((x) => scaled(x, 'y[i] = select(3.0 * x[i], 0.0, bitcast<u32>(y[i]) == 0x7fc00000u);')),
    /poisoned: output/,
  ));

test('data frozen at record time', () => {
  let first: Tensor | undefined;
  return fails(
    check((x) => {
      first ??= tensor(x.gpu, 0, x.shape);
      return record('frozen', scaled(first, 'y[i] = 3.0 * x[i];'), [x], (dy) => [dy]);
    }),
    /output/,
  );
});

test('flags are as before', async () => {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  await check((x) => scaled(x, 'y[i] = 3.0 * x[i];'));
  await check((x) => scaled(x, 'y[i] = 2.0 * x[i];')).catch(() => {});
  assert.equal({ ...gpu.flags }, before);
});

test('closeTo', () => {
  closeTo([0, Number.NaN, Number.POSITIVE_INFINITY, 1], [-0, Number.NaN, Number.POSITIVE_INFINITY, 1.001], {
    rtol: 1e-3,
  });
  closeTo([1 + 1e-6], [1], { atol: 2e-6 });
  for (const [a, b] of [
    [[1], [1, 2]],
    [[Number.NaN], [0]],
    [[0], [Number.NaN]],
    [[Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY]],
    [[1], [Number.POSITIVE_INFINITY]],
    [[1 + 1e-6], [1]],
  ] as const) {
    assert.throws(() => closeTo(a, b, { rtol: 1e-7 }));
  }
  assert.throws(
    () => closeTo([0, 1, 5], [0, 1, 2], { atol: 1 }),
    (error: Error) => /1 of 3.*worst at 2: got 5, expected 2/.test(error.message),
  );
});

test.run();
