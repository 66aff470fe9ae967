import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  broadcastTo,
  type Dtype,
  flip,
  type PadOptions,
  pad,
  permute,
  reshape,
  ShapeError,
  split,
  stack,
  sum,
  tensor,
  tile,
  transpose,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex, type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('index maps');
const testHalf = unless(await lacking('shader-f16'), test);

const permuted = (x: NdArray, axes: number[]): NdArray =>
  fromIndex(
    axes.map((axis) => x.shape[axis]!),
    (index) =>
      at(
        x,
        axes.map((_, axis) => index[axes.indexOf(axis)]!),
      ),
  );
const flipped = (x: NdArray, axes: number[]): NdArray =>
  fromIndex(x.shape, (index) =>
    at(
      x,
      index.map((c, k) => (axes.includes(k) ? x.shape[k]! - 1 - c : c)),
    ),
  );
const tiled = (x: NdArray, repeats: number[]): NdArray =>
  fromIndex(
    x.shape.map((n, k) => n * repeats[k]!),
    (index) =>
      at(
        x,
        index.map((c, k) => c % x.shape[k]!),
      ),
  );

/** The source of a padded coordinate, by walking there and back. */
function walked(c: number, n: number, mode: string): number | undefined {
  if (c >= 0 && c < n) return c;
  if (mode === 'constant') return undefined;
  if (mode === 'edge') return c < 0 ? 0 : n - 1;
  return c < 0 ? -c : 2 * (n - 1) - c;
}
const padded = (x: NdArray, widths: [number, number][], { mode = 'constant', value = 0 }: PadOptions): NdArray =>
  fromIndex(
    x.shape.map((n, k) => n + widths[k]![0] + widths[k]![1]),
    (index) => {
      const source = index.map((c, k) => walked(c - widths[k]![0], x.shape[k]!, mode));
      return source.includes(undefined) ? value : at(x, source as number[]);
    },
  );

for (const [shape, axes] of [
  [[7], [0]],
  [
    [3, 5],
    [1, 0],
  ],
  [
    [8, 16],
    [1, 0],
  ],
  [
    [2, 3, 5],
    [2, 0, 1],
  ],
  [
    [2, 3, 4, 8],
    [0, 2, 1, 3],
  ],
  [
    [2, 1, 3, 2, 4],
    [4, 2, 0, 1, 3],
  ],
] as [number[], number[]][]) {
  test(`permute [${shape}] by [${axes}]`, () =>
    checkOp({ op: (x) => permute(x!, axes), reference: (x) => permuted(x!, axes), inputs: [{ shape }] }));
}

test('transpose swaps the last two axes, or those given', async () => {
  await checkOp({
    op: (x) => transpose(x!),
    reference: (x) => permuted(x!, [0, 2, 1]),
    inputs: [{ shape: [2, 3, 4] }],
  });
  await checkOp({
    op: (x) => transpose(x!, 0, -1),
    reference: (x) => permuted(x!, [2, 1, 0]),
    inputs: [{ shape: [2, 3, 4] }],
  });
});

for (const [shape, axes] of [
  [[7], [0]],
  [[2, 3, 5], [1]],
  [
    [2, 3, 8],
    [0, 1],
  ],
  [
    [2, 3, 4],
    [0, 1, 2],
  ],
] as [number[], number[]][]) {
  test(`flip [${shape}] along [${axes}]`, () =>
    checkOp({
      op: (x) => flip(x!, axes.length === shape.length ? undefined : axes),
      reference: (x) => flipped(x!, axes),
      inputs: [{ shape }],
    }));
}

for (const [shape, to] of [
  [[], [3]],
  [[3], [2, 3]],
  [
    [4, 1, 8],
    [4, 5, 8],
  ],
  [
    [1, 3, 1],
    [2, 2, 3, 5],
  ],
  [
    [2, 3],
    [2, 3],
  ],
] as [number[], number[]][]) {
  test(`broadcast [${shape}] to [${to}]`, () =>
    checkOp({
      op: (x) => broadcastTo(x!, to),
      reference: (x) => fromIndex(to, (index) => at(x!, index)),
      inputs: [{ shape }],
    }));
}

for (const [shape, repeats] of [
  [[3], [4]],
  [
    [2, 3],
    [1, 2],
  ],
  [
    [2, 4, 4],
    [3, 1, 2],
  ],
  [
    [1, 5],
    [3, 1],
  ],
] as [number[], number[]][]) {
  test(`tile [${shape}] by [${repeats}]`, () =>
    checkOp({ op: (x) => tile(x!, repeats), reference: (x) => tiled(x!, repeats), inputs: [{ shape }] }));
}

for (const [shape, widths] of [
  [[5], [[2, 3]]],
  [
    [4, 8],
    [
      [1, 2],
      [0, 0],
    ],
  ],
  [
    [3, 4, 5],
    [
      [2, 0],
      [1, 3],
      [0, 4],
    ],
  ],
  [
    [2, 4, 4, 4],
    [
      [0, 0],
      [1, 1],
      [3, 2],
      [0, 0],
    ],
  ],
] as [number[], [number, number][]][]) {
  for (const options of [{}, { value: -2.5 }, { mode: 'edge' }, { mode: 'reflect' }] as PadOptions[]) {
    test(`pad [${shape}] by ${JSON.stringify(widths)}, ${JSON.stringify(options)}`, () =>
      checkOp({
        op: (x) => pad(x!, widths, options),
        reference: (x) => padded(x!, widths, options),
        inputs: [{ shape }],
      }));
  }
}

for (const dtype of ['f16', 'u32', 'i32', 'u8'] as Dtype[]) {
  (dtype === 'f16' ? testHalf : test)(`${dtype} moves as it is`, async () => {
    const gpu = await testGpu();
    for (const shape of [
      [3, 5],
      [3, 8],
    ]) {
      const values = ndArray(
        shape,
        Array.from({ length: 3 * shape[1]! }, (_, i) => (dtype === 'i32' ? -i : 7 * i)),
      );
      const x = tensor(gpu, values.data, shape, { dtype });
      const same = async (y: { read(): Promise<ArrayLike<number>>; shape: readonly number[] }, expected: NdArray) => {
        assert.equal([...y.shape], expected.shape);
        closeTo(await y.read(), expected.data);
      };
      await same(permute(x, [1, 0]), permuted(values, [1, 0]));
      await same(flip(x, 0), flipped(values, [0]));
      await same(flip(x), flipped(values, [0, 1]));
      await same(tile(x, [2, 3]), tiled(values, [2, 3]));
      await same(
        broadcastTo(x, [2, ...shape]),
        fromIndex([2, ...shape], (index) => at(values, index.slice(1))),
      );
      const widths: [number, number][] = [
        [1, 2],
        [0, 0],
      ];
      for (const mode of ['constant', 'edge', 'reflect'] as const) {
        await same(pad(x, widths, { mode, value: 9 }), padded(values, widths, { mode, value: 9 }));
        const wide: [number, number][] = [
          [0, 1],
          [3, 2],
        ];
        await same(pad(x, wide, { mode, value: 9 }), padded(values, wide, { mode, value: 9 }));
      }
    }
  });
}

testHalf('gradients of f16', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2, 3], [3], { dtype: 'f16', requiresGrad: true });
  closeTo(
    await backward(sum(pad(x, [2], { mode: 'edge' })))
      .get(x)!
      .read(),
    [3, 1, 3],
  );
  closeTo(
    await backward(sum(tile(x, [5])))
      .get(x)!
      .read(),
    [5, 5, 5],
  );
});

test('a pad may be infinite', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  closeTo(await pad(x, [1], { value: -Infinity }).read(), [-Infinity, 1, 2, -Infinity]);
});

test('stack and split', async () => {
  const shape = [2, 3];
  for (const axis of [0, 1, 2, -1]) {
    const k = axis < 0 ? 2 : axis;
    await checkOp({
      op: (x, y) => stack([x!, y!], axis),
      reference: (x, y) =>
        fromIndex([...shape.slice(0, k), 2, ...shape.slice(k)], (index) =>
          at(index[k] ? y! : x!, index.toSpliced(k, 1)),
        ),
      inputs: [{ shape }, { shape }],
    });
  }
  const x = tensor(await testGpu(), [1, 2, 3, 4, 5, 6, 7, 8], [2, 4], { requiresGrad: true });
  const [first, second] = split(x, 2, 1);
  closeTo(await first!.read(), [1, 2, 5, 6]);
  closeTo(await backward(sum(second!)).get(x)!.read(), [0, 0, 1, 1, 0, 0, 1, 1]);
  const parts = split(x, [1, 3], -1);
  assert.equal(
    parts.map((part) => [...part.shape]),
    [
      [2, 1],
      [2, 3],
    ],
  );
  closeTo(await parts[1]!.read(), [2, 3, 4, 6, 7, 8]);
});

test('one size of a new shape may be −1', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3, 4]);
  assert.equal(reshape(x, [-1]).shape, [24]);
  assert.equal(reshape(x, [4, -1, 2]).shape, [4, 3, 2]);
  await refuses(() => reshape(x, [5, -1]), ShapeError, /reshape: \[5,-1\] leaves no whole size/);
  await refuses(() => reshape(x, [-1, -1]), ShapeError, /reshape/);
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3]);
  const labels = tensor(gpu, 1, [2, 3], { dtype: 'u8' });
  await refuses(() => permute(x, [0, 0]), ShapeError, /permute: the axes are \[0, 0\]/);
  await refuses(() => permute(x, [0]), ShapeError, /permute/);
  await refuses(() => transpose(x, 0, 2), ShapeError, /transpose: axes/);
  await refuses(() => flip(x, 2), ShapeError, /flip: axes/);
  await refuses(() => broadcastTo(x, [2]), ShapeError, /broadcastTo/);
  await refuses(() => broadcastTo(x, [4, 3]), ShapeError, /broadcastTo/);
  await refuses(() => tile(x, [2]), ShapeError, /tile: the repeats/);
  await refuses(() => pad(x, [1]), ShapeError, /pad: the widths/);
  await refuses(() => pad(x, [1, -1]), ShapeError, /pad: the widths/);
  await refuses(() => pad(x, [2, 0], { mode: 'reflect' }), ShapeError, /axis 0 of \[2,3\] reflects at most 1/);
  await refuses(() => pad(labels, [1, 0], { value: 300 }), ShapeError, /pad: the value is 300.*u8/);
  await refuses(() => pad(x, [1, 0], { mode: 'wrap' as 'edge' }), ShapeError, /pad: mode is 'wrap'/);
  await refuses(() => stack([x, tensor(gpu, 1, [3])]), ShapeError, /stack: shapes differ/);
  await refuses(() => split(x, 2, 1), ShapeError, /split: axis 1 of \[2,3\] has 3/);
  await refuses(() => split(x, [1, 1], 1), ShapeError, /split/);
});

test.run();
