// Layers, initial values and saved state of models that an embedder writes.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, createRandom, type Gpu, relu, ShapeError, sum, type Tensor, tensor } from '../engine/index.js';
import {
  attentionLayer,
  batchNormLayer,
  convLayer,
  convTransposeLayer,
  decodeSafetensors,
  dropoutLayer,
  embeddingLayer,
  encodeSafetensors,
  groupNormLayer,
  heNormal,
  heUniform,
  type Init,
  layerNormLayer,
  linearLayer,
  loadState,
  moduleOf,
  Parameters,
  SafetensorsError,
  saveState,
  standardNormal,
  torchNames,
  truncatedNormal,
  xavierNormal,
  xavierUniform,
  zeros,
} from '../model/index.js';
import { closeTo } from './close-to.js';
import { testGpu } from './gpu.js';
import { refuses } from './refuses.js';

const test = suite('layers of models');

const drawn = (gpu: Gpu, init: Init, shape: number[], seed = 1): Promise<Float32Array> =>
  new Parameters(gpu, seed).initial('weight', shape, init).read() as Promise<Float32Array>;

for (const [name, init, variance, uniform] of [
  ['heNormal', heNormal, 2 / (40 * 9), false],
  ['heUniform', heUniform, 2 / (40 * 9), true],
  ['xavierNormal', xavierNormal, 2 / ((40 + 60) * 9), false],
  ['xavierUniform', xavierUniform, 2 / ((40 + 60) * 9), true],
] as const) {
  test(`${name} has its mean, its variance and its tails`, async () => {
    const values = await drawn(await testGpu(), init, [60, 3, 3, 40]);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const second = values.reduce((a, b) => a + b * b, 0) / values.length;
    const std = Math.sqrt(variance);
    assert.ok(Math.abs(mean) < (4 * std) / Math.sqrt(values.length), `mean ${mean}`);
    assert.ok(Math.abs(second / variance - 1) < 0.04, `variance ${second}, expected ${variance}`);
    const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) / std;
    assert.ok(uniform ? most <= Math.sqrt(3) && most > 1.72 : most > 3.3, `largest ${most} deviations`);
  });
}

test('truncatedNormal stays within two deviations, zeros are 0, and a seed fixes all', async () => {
  const gpu = await testGpu();
  const values = await drawn(gpu, truncatedNormal(0.5), [100, 100]);
  const second = values.reduce((a, b) => a + b * b, 0) / values.length;
  assert.ok(values.every((v) => Math.abs(v) <= 1));
  assert.ok(Math.abs(second / (0.25 * 0.7737) - 1) < 0.05, `${second}`); // the variance of a normal limited to two deviations
  closeTo(await drawn(gpu, zeros, [3]), [0, 0, 0]);
  closeTo(await drawn(gpu, heNormal, [5, 4]), await drawn(gpu, heNormal, [5, 4]));
  assert.not.equal([...(await drawn(gpu, heNormal, [5, 4]))], [...(await drawn(gpu, heNormal, [5, 4], 2))]);
  await refuses(() => drawn(gpu, heNormal, [5]), ShapeError, /init: got \[5\]/);
});

test('embeddingLayer begins as normal numbers, and trains the rows that are used', async () => {
  const parameters = new Parameters(await testGpu(), 5);
  const layer = embeddingLayer(parameters.in('tokens'), 200, 30);
  const weight = parameters.trainable.get('tokens.weight')!;
  assert.equal(weight.shape, [200, 30]);
  const values = await weight.read();
  closeTo(values, await drawn(parameters.gpu, standardNormal, [200, 30], 5));
  const second = values.reduce((a, b) => a + b * b, 0) / values.length;
  assert.ok(Math.abs(values.reduce((a, b) => a + b, 0) / values.length) < 0.05 && Math.abs(second - 1) < 0.07);
  const y = layer(tensor(parameters.gpu, [3, 199, 3], [3, 1], { dtype: 'u8' }));
  assert.equal(y.shape, [3, 1, 30]);
  closeTo(
    await y.read(),
    [3, 199, 3].flatMap((row) => [...values.slice(30 * row, 30 * row + 30)]),
  );
  const rows = await sum(backward(sum(y)).get(weight)!, 1).read();
  closeTo(
    rows,
    Array.from({ length: 200 }, (_, row) => ({ 3: 60, 199: 30 })[row] ?? 0),
  );
  const zero = embeddingLayer(new Parameters(parameters.gpu, 5), 2, 3, { init: zeros });
  closeTo(await zero(tensor(parameters.gpu, [1], [1], { dtype: 'i32' })).read(), [0, 0, 0]);
});

test('linearLayer is x · Wᵀ + b', async () => {
  const parameters = new Parameters(await testGpu(), 3);
  const layer = linearLayer(parameters, 3, 2, { init: heNormal });
  const weight = await parameters.trainable.get('weight')!.read();
  parameters.trainable.get('bias')!.write([10, 20]);
  const y = layer(tensor(parameters.gpu, [1, 2, 3], [1, 1, 3]));
  assert.equal(y.shape, [1, 1, 2]);
  closeTo(
    await y.read(),
    [0, 1].map((o) => weight[3 * o]! + 2 * weight[3 * o + 1]! + 3 * weight[3 * o + 2]! + 10 * (o + 1)),
    { rtol: 1e-6 },
  );
  assert.equal([...new Parameters(parameters.gpu, 3).trainable.keys()], []);
  const bare = new Parameters(parameters.gpu, 3);
  linearLayer(bare, 3, 2, { bias: false });
  assert.equal([...bare.trainable.keys()], ['weight']);
});

test('attentionLayer: causal, a place does not see what comes later', async () => {
  const parameters = new Parameters(await testGpu(), 1);
  const layer = attentionLayer(parameters, 8, 2, { causal: true });
  assert.is(parameters.trainable.size, 8);
  const values = Array.from({ length: 40 }, (_, i) => ((i * 7) % 11) / 5 - 1);
  const first = await layer(tensor(parameters.gpu, values, [1, 5, 8])).read();
  const changed = values.map((v, i) => (i >= 32 ? -v : v));
  const second = await layer(tensor(parameters.gpu, changed, [1, 5, 8])).read();
  closeTo(second.slice(0, 32), first.slice(0, 32));
  assert.not.equal([...second.slice(32)], [...first.slice(32)]);
  const mask = tensor(parameters.gpu, [1, 0, 0, 0, 0], [5], { dtype: 'u8' });
  const alone = await layer(tensor(parameters.gpu, values, [1, 5, 8]), { mask }).read();
  closeTo(alone.slice(8, 16), alone.slice(0, 8), { rtol: 1e-6 });
  await refuses(() => attentionLayer(parameters, 8, 3), ShapeError, /width 8 in 3 heads/);
  await refuses(() => layer(tensor(parameters.gpu, 0, [5, 8])), ShapeError, /got x \[5,8\], expected \[N, T, 8\]/);
});

test('norm layers begin as plain norms, and dropout acts in train mode alone', async () => {
  const gpu = await testGpu();
  const parameters = new Parameters(gpu, 1);
  const x = tensor(gpu, [1, 2, 3, 4, 5, 6, 7, 9], [2, 4]);
  const s = 1 / Math.sqrt(1.25 + 1e-5);
  closeTo((await layerNormLayer(parameters.in('a'), 4)(x).read()).slice(0, 4), [-1.5 * s, -0.5 * s, 0.5 * s, 1.5 * s], {
    rtol: 1e-5,
  });
  const half = 1 / Math.sqrt(0.25 + 1e-5);
  closeTo(
    (await groupNormLayer(parameters.in('b'), 2, 4)(x).read()).slice(0, 4),
    [-0.5, 0.5, -0.5, 0.5].map((v) => v * half),
    {
      rtol: 1e-5,
    },
  );
  const norm = batchNormLayer(parameters.in('c'), 4);
  closeTo(await norm(x).read(), await x.read(), { rtol: 1e-4 });
  closeTo((await norm(x, { mode: 'train' }).read()).slice(0, 4), [-1, -1, -1, -1], { rtol: 1e-4 });
  assert.equal([...parameters.buffers.keys()], ['c.running_mean', 'c.running_var']);
  const drop = dropoutLayer(0.5);
  assert.is(drop(x), x);
  await refuses(() => drop(x, { mode: 'train' }), ShapeError, /pass `random`/);
  const kept = await drop(x, { mode: 'train', random: createRandom(gpu, 1) }).read();
  assert.ok(kept.some((v) => v === 0) && kept.some((v) => v !== 0));
});

/** A small network with every kind of state. */
function network(gpu: Gpu, seed: number, width = 3) {
  const parameters = new Parameters(gpu, seed);
  const conv = convLayer(parameters.in('conv'), 1, width, 3, { init: heNormal });
  const norm = batchNormLayer(parameters.in('norm'), width);
  const up = convTransposeLayer(parameters.in('up'), width, 2);
  return Object.assign((x: Tensor): Tensor => up(relu(norm(conv(x)))), moduleOf(parameters));
}

test('saveState and loadState: another module computes the same', async () => {
  const gpu = await testGpu();
  const [one, other] = [network(gpu, 1), network(gpu, 2)];
  one.state.get('norm.running_mean')!.write([0.5, -0.5, 0.25]);
  const x = tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1]);
  const want = await one(x).read();
  assert.not.equal([...(await other(x).read())], [...want]);
  const bytes = await saveState(one);
  loadState(other, bytes);
  closeTo(await other(x).read(), want);
  closeTo(await saveState(other), bytes);
  const { arrays } = decodeSafetensors(bytes);
  assert.equal(arrays.get('conv.weight')!.shape, [3, 1, 3, 3]); // PyTorch's layouts
  assert.equal(arrays.get('up.weight')!.shape, [3, 2, 2, 2]);
});

test("torchNames: attention's projections are one in_proj, and other modules' names a replacement away", async () => {
  const gpu = await testGpu();
  const make = (seed: number) => {
    const parameters = new Parameters(gpu, seed);
    attentionLayer(parameters.in('block0').in('attention'), 4, 2);
    linearLayer(parameters.in('head'), 4, 3);
    return moduleOf(parameters);
  };
  const [one, other] = [make(1), make(2)];
  const names = (name: string) => torchNames(name.replace(/^block(\d+)\.attention/, 'blocks.$1.attn'));
  const bytes = await saveState(one, { names });
  const { arrays } = decodeSafetensors(bytes);
  assert.equal(Object.fromEntries([...arrays].map(([name, { shape }]) => [name, shape])), {
    'blocks.0.attn.in_proj_weight': [12, 4],
    'blocks.0.attn.in_proj_bias': [12],
    'blocks.0.attn.out_proj.weight': [4, 4],
    'blocks.0.attn.out_proj.bias': [4],
    'head.weight': [3, 4],
    'head.bias': [3],
  });
  for (const [i, projection] of ['q_proj', 'k_proj', 'v_proj'].entries()) {
    const weight = await one.state.get(`block0.attention.${projection}.weight`)!.read();
    closeTo(arrays.get('blocks.0.attn.in_proj_weight')!.data.slice(16 * i, 16 * i + 16), weight);
  }
  loadState(other, bytes, { names });
  closeTo(await saveState(other), await saveState(one));
  await refuses(() => loadState(other, bytes), ShapeError, /'block0.attention.q_proj.weight' is missing/);
  arrays.set('blocks.0.attn.in_proj_bias', { shape: [8], data: new Float32Array(8) });
  await refuses(
    () => loadState(other, encodeSafetensors(arrays), { names }),
    ShapeError,
    /'blocks.0.attn.in_proj_bias' has shape \[8\], expected \[12\]/,
  );
  closeTo(await saveState(other), await saveState(one));
  await refuses(
    () => saveState(one, { names: () => 'all' }),
    ShapeError,
    /weight' \[4,4\] and '.*bias' \[4\] one name/,
  );
});

test('convolution layers of every kind: fan-in, PyTorch layouts and back', async () => {
  const gpu = await testGpu();
  const make = (seed: number) => {
    const parameters = new Parameters(gpu, seed);
    const row = convLayer(parameters.in('row'), 4, 6, 5, { rank: 1, groups: 2, padding: 'valid', bias: false });
    const each = convLayer(parameters.in('each'), 6, 6, [3], { rank: 1, groups: 6, dilation: 2 });
    const up = convTransposeLayer(parameters.in('up'), 6, 4, { rank: 1, kernel: 4, padding: 1, groups: 2 });
    return Object.assign((x: Tensor): Tensor => up(each(row(x))), moduleOf(parameters));
  };
  const [one, other] = [make(1), make(2)];
  assert.equal([...one.state.keys()], ['row.weight', 'each.weight', 'each.bias', 'up.weight', 'up.bias']);
  for (const [name, inputs] of [
    ['row', 10],
    ['each', 3],
    ['up', 8],
  ] as const) {
    const values = await one.state.get(`${name}.weight`)!.read();
    const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) * Math.sqrt(inputs);
    assert.ok(most <= 1 && most > 0.8, `${name}: the largest weight is ${most} of 1/√fan-in`);
  }
  const x = tensor(
    gpu,
    Array.from({ length: 48 }, (_, i) => Math.sin(i)),
    [1, 12, 4],
  );
  const want = await one(x).read();
  assert.equal(one(x).shape, [1, 16, 4]);
  const bytes = await saveState(one);
  loadState(other, bytes);
  closeTo(await other(x).read(), want);
  const { arrays } = decodeSafetensors(bytes);
  assert.equal(arrays.get('row.weight')!.shape, [6, 2, 5]);
  assert.equal(arrays.get('each.weight')!.shape, [6, 1, 3]);
  assert.equal(arrays.get('up.weight')!.shape, [6, 2, 4]);
  const [ours, theirs] = [await one.state.get('up.weight')!.read(), arrays.get('up.weight')!.data];
  // Output 3 is the second of the second group; its input 2 there is input 5 of all. Ours is [4, 4, 3], PyTorch's [6, 2, 4].
  closeTo(
    [0, 1, 2, 3].map((t) => theirs[(5 * 2 + 1) * 4 + t]!),
    [0, 1, 2, 3].map((t) => ours[(3 * 4 + t) * 3 + 2]!),
  );
});

test('what does not fit is refused, and nothing is loaded', async () => {
  const gpu = await testGpu();
  const [one, other] = [network(gpu, 1), network(gpu, 2, 4)];
  const before = await saveState(other);
  const bytes = await saveState(one);
  await refuses(
    () => loadState(other, bytes),
    ShapeError,
    /another architecture — 'conv.weight' has shape \[3,3,3,1\]/,
  );
  await refuses(() => loadState(other, bytes.subarray(0, 100)), SafetensorsError, /header/);
  const { arrays } = decodeSafetensors(before);
  arrays.get('conv.bias')!.data[1] = Number.NaN;
  await refuses(() => loadState(other, encodeSafetensors(arrays)), ShapeError, /'conv.bias' holds 1 of 4/);
  closeTo(await saveState(other), before);
  one.state.get('conv.bias')!.write([0, Number.NaN, 0]);
  await refuses(() => saveState(one), ShapeError, /saveState: 'conv.bias' holds 1 of 3/);
  assert.ok(Number.isFinite(await sum(other(tensor(gpu, 1, [1, 2, 2, 1]))).item()));
});

test.run();
