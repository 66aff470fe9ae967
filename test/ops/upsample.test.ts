import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError, tensor, type UpsampleOptions, upsample } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { upsample as reference } from '../reference/resampling.js';
import { refuses } from '../refuses.js';

const test = suite('upsample');

for (const shape of [
  [1, 1, 1, 1],
  [1, 1, 5, 3],
  [2, 3, 4, 4],
  [1, 7, 1, 2],
  [1, 2, 2, 8],
  [1, 3, 65, 5],
  [1, 1, 1, 1, 1],
  [1, 2, 3, 4, 3],
  [2, 3, 1, 2, 4],
]) {
  test(`[${shape}]`, () => checkOp({ op: (x) => upsample(x!), reference: (x) => reference(x!), inputs: [{ shape }] }));
}

for (const shape of [
  [2, 3, 4, 4],
  [1, 1, 5, 3],
  [1, 2, 1, 3, 5],
]) {
  for (const options of [{ factor: 3 }, { factor: 5 }, { mode: 'nearest' }, { factor: 3, mode: 'nearest' }] as const) {
    test(`[${shape}] ${JSON.stringify(options)}`, () => {
      const { factor = 2, mode = 'linear' } = options as UpsampleOptions;
      return checkOp({
        op: (x) => upsample(x!, options),
        reference: (x) => reference(x!, factor, mode),
        inputs: [{ shape }],
      });
    });
  }
}

test('a volume of depth 1 in mode nearest is its picture, twice', async () => {
  const gpu = await testGpu();
  const values = Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => Math.sin(i));
  const picture = await upsample(tensor(gpu, values, [1, 2, 3, 4]), { mode: 'nearest' }).read();
  const volume = await upsample(tensor(gpu, values, [1, 1, 2, 3, 4]), { mode: 'nearest' }).read();
  assert.equal([...volume], [...picture, ...picture]);
});

test('other factors, modes and ranks are refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [1, 2, 2, 1]);
  for (const factor of [0, 1, 1.5, -2, Number.NaN]) {
    await refuses(
      () => upsample(x, { factor }),
      ShapeError,
      /upsample: got factor .*, expected a whole number of at least 2/,
    );
  }
  await refuses(() => upsample(x, { mode: 'bilinear' as 'linear' }), ShapeError, /'linear' or 'nearest'/);
  await refuses(() => upsample(x, { scale: 2 } as UpsampleOptions), ShapeError, /It is called 'factor'/);
  await refuses(() => upsample(tensor(gpu, 0, [2, 2, 1])), ShapeError, /expected \[N,H,W,C\] or \[N,D,H,W,C\]/);
});

test.run();
