// Norms of groups of items: one pass over a batch against a pass over each group, which is what groups stand for. Values, gradients of
// everything and running statistics agree to rounding, fused or not, eagerly and captured; and a grouped step launches no more.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../engine/custom.js';
import {
  backward,
  batchNorm,
  capture,
  cast,
  concat,
  conv,
  createRandom,
  type Gpu,
  maxPool,
  mul,
  normActivation,
  ShapeError,
  scope,
  slice,
  sum,
  type Tensor,
  tensor,
  uniformStream,
  upsample,
} from '../engine/index.js';
import { unet } from '../model/index.js';
import { checkOp } from './check-op.js';
import { cancel, closeTo, largestOf } from './close-to.js';
import { lacking, testGpu } from './gpu.js';
import { mapArray } from './reference/nd-array.js';
import { normalization } from './reference/normalization.js';
import { refuses } from './refuses.js';
import { unless } from './unless.js';

const test = suite('grouped norm');
const testHalf = unless(await lacking('shader-f16'), test);

interface Grouping {
  groups?: readonly number[];
  track?: readonly number[];
}
/** What is trained, what norms update, and what is computed of a batch. */
interface Net {
  parameters: readonly Tensor[];
  running: readonly Tensor[];
  forward(x: Tensor, grouping: Grouping): Tensor;
}
interface Case extends Grouping {
  shape: readonly number[];
  groups: readonly number[];
  net: (gpu: Gpu) => Net;
  dtype?: 'f32' | 'f16';
}
interface How {
  /** A pass for each group. */
  apart: boolean;
  fuse: boolean;
  captured: boolean;
}

const slope = 0.2;
const numbers = (seed: number, size: number, low = -1, high = 1): Float32Array => {
  const uniform = uniformStream(seed, 3);
  return Float32Array.from({ length: size }, () => low + (high - low) * uniform());
};

/** Parameters of a net, each of numbers of its own. */
function maker(gpu: Gpu) {
  const parameters: Tensor[] = [];
  const running: Tensor[] = [];
  const trained = (shape: readonly number[], low: number, high: number): Tensor => {
    const data = numbers(20 + parameters.length, sizeOf(shape), low, high);
    parameters.push(tensor(gpu, data, shape, { requiresGrad: true }));
    return parameters.at(-1)!;
  };
  return {
    parameters,
    running,
    weight: (shape: readonly number[]) => trained(shape, -0.5, 0.5),
    norm: (channels: number) => {
      const [gamma, beta] = [trained([channels], 0.5, 1.5), trained([channels], -0.5, 0.5)];
      const statistics = { mean: tensor(gpu, 0.25, [channels]), variance: tensor(gpu, 2, [channels]) };
      running.push(statistics.mean, statistics.variance);
      return { gamma, beta, running: statistics };
    },
  };
}

/** Two steps: the output, the gradients of x and all parameters, and the running statistics after them. */
async function outcome({ shape, groups, track, net, dtype = 'f32' }: Case, how: How) {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  Object.assign(gpu.flags, { fuse: how.fuse, poison: true, pool: how.captured });
  try {
    return await scope(gpu, async () => {
      const { parameters, running, forward } = net(gpu);
      const x = tensor(gpu, numbers(1, sizeOf(shape)), shape, { requiresGrad: true });
      const starts = groups.map((_, g) => groups.slice(0, g).reduce((a, b) => a + b, 0));
      let cotangent: Tensor | undefined;
      const work = () => {
        const input = cast(x, dtype);
        const part = (n: number, g: number): Tensor =>
          forward(slice(input, 0, starts[g]!, n), !track || track.includes(g) ? {} : { track: [] });
        const output = how.apart ? concat(groups.map(part), 0) : forward(input, { groups, ...(track && { track }) });
        const y = cast(output, 'f32');
        cotangent ??= tensor(gpu, numbers(2, y.size), y.shape);
        const gradients = backward(sum(mul(y, cotangent)));
        return { y, gradients: [x, ...parameters].map((t) => gradients.get(t)!) };
      };
      const step = how.captured ? capture(gpu, work) : work;
      step();
      const { y, gradients } = step();
      const read = async (tensors: readonly Tensor[]): Promise<Float32Array[]> => {
        const values: Float32Array[] = [];
        for (const t of tensors) values.push((await t.read()) as Float32Array);
        return values;
      };
      return { y: await read([y]), gradients: await read(gradients), running: await read(running) };
    });
  } finally {
    Object.assign(gpu.flags, before);
  }
}

type Outcome = Awaited<ReturnType<typeof outcome>>;

/** The same numbers, but for the order of sums: a few last places of the largest one of a tensor, or of a tenth of the largest of all. */
function agree(got: Outcome, expected: Outcome, accuracy: number, what: string, dtype: 'f32' | 'f16' = 'f32'): void {
  const floor = Math.max(...Object.values(expected).flat().map(largestOf)) / 10;
  const most = Math.max(...expected.gradients.map(largestOf));
  for (const kind of ['y', 'gradients', 'running'] as const) {
    assert.is(got[kind].length, expected[kind].length);
    expected[kind].forEach((values, i) => {
      if (kind === 'gradients' && cancel(got[kind][i]!, values, most, dtype)) return;
      const atol = accuracy * Math.max(largestOf(values), floor);
      closeTo(got[kind][i]!, values, { atol, rtol: accuracy }, `${what}: ${kind} ${i}`);
    });
  }
}

async function check(c: Case): Promise<void> {
  for (const captured of [false, true]) {
    const expected = await outcome(c, { apart: true, fuse: false, captured });
    for (const fuse of [false, true]) {
      const what = `${fuse ? 'fused' : 'plain'}, ${captured ? 'captured' : 'eager'}`;
      agree(await outcome(c, { apart: false, fuse, captured }), expected, 2e-5, what);
    }
  }
}

/** In f16 what is fused skips roundings, and another pixel of a pool may be its largest: both passes are fused. */
async function checkHalf(c: Case): Promise<void> {
  const how = { fuse: true, captured: true };
  const half = { ...c, dtype: 'f16' } as const;
  const expected = await outcome(half, { ...how, apart: true });
  agree(await outcome(half, { ...how, apart: false }), expected, 2e-3, 'f16', 'f16');
}

const normed =
  (norm: typeof batchNorm | typeof normActivation, channels: number) =>
  (gpu: Gpu): Net => {
    const { parameters, running, ...make } = maker(gpu);
    const n = make.norm(channels);
    const options = { running: n.running, mode: 'train' as const, ...(norm === normActivation && { slope }) };
    const op = norm as (x: Tensor, gamma: Tensor, beta: Tensor, options: object) => Tensor;
    return { parameters, running, forward: (x, grouping) => op(x, n.gamma, n.beta, { ...options, ...grouping }) };
  };

/** Convolutions with norms between them, of kernels of these sizes. */
const chain =
  (channels: readonly number[], kernels: readonly number[], rank = 2) =>
  (gpu: Gpu): Net => {
    const { parameters, running, ...make } = maker(gpu);
    const layers = kernels.map((k, i) => ({
      weight: make.weight([channels[i + 1]!, ...Array<number>(rank).fill(k), channels[i]!]),
      bias: make.weight([channels[i + 1]!]),
      ...make.norm(channels[i + 1]!),
    }));
    const forward = (x: Tensor, grouping: Grouping): Tensor =>
      layers.reduce((y, { weight, bias, gamma, beta, running }) => {
        const options = { running, mode: 'train' as const, slope, ...grouping };
        return normActivation(conv(y, weight, bias, { statistics: true }), gamma, beta, options);
      }, x);
    return { parameters, running, forward };
  };

/** An activation that a pool and a skip connection read. */
const skip =
  (channels: number) =>
  (gpu: Gpu): Net => {
    const { parameters, running, ...make } = maker(gpu);
    const [n, deep, out] = [make.norm(channels), make.norm(channels), make.weight([channels, 3, 3, 2 * channels])];
    const reduce = make.weight([channels, 1, 1, channels]);
    const activation = (x: Tensor, { gamma, beta, running }: typeof n, grouping: Grouping): Tensor =>
      normActivation(x, gamma, beta, { running, mode: 'train', slope, ...grouping });
    const forward = (x: Tensor, grouping: Grouping): Tensor => {
      const a = activation(x, n, grouping);
      const low = activation(maxPool(a), deep, grouping);
      return conv(concat([a, upsample(conv(low, reduce))], -1), out);
    };
    return { parameters, running, forward };
  };

const network =
  (features: readonly number[], rank: 2 | 3) =>
  (gpu: Gpu): Net => {
    const model = unet(gpu, { inChannels: 1, classes: 3, features, dropout: [0], seed: 5, rank });
    const running = [...model.state.values()].filter((t) => !t.requiresGrad);
    return { parameters: model.parameters, running, forward: (x, how) => model(x, { mode: 'train', ...how }) };
  };

for (const [shape, groups] of [
  [
    [4, 3, 5, 4],
    [1, 3],
  ],
  [
    [8, 5],
    [3, 5],
  ],
  [
    [6, 2, 3, 2, 3],
    [2, 2, 2],
  ],
  [
    [6, 9, 11, 8],
    [1, 2, 3],
  ],
  [[4, 33, 17, 4], [4]],
] as [number[], number[]][]) {
  const channels = shape.at(-1)!;
  const title = `[${shape}] in groups of ${groups}`;
  const inputs = [{ shape }, { shape: [channels] }, { shape: [channels] }];
  const accuracy = { atol: 3e-5, rtol: 3e-5, gradAtol: 5e-4 };
  test(`batchNorm ${title}: against float64`, () =>
    checkOp({
      op: (x, gamma, beta) => batchNorm(x!, gamma!, beta!, { mode: 'train', groups }),
      reference: (x, gamma, beta) => normalization(x!, gamma!, beta!, groups),
      inputs,
      ...accuracy,
    }));
  test(`normActivation ${title}: against float64`, () =>
    checkOp({
      op: (x, gamma, beta) => normActivation(x!, gamma!, beta!, { mode: 'train', groups, slope }),
      reference: (x, gamma, beta) => mapArray(normalization(x!, gamma!, beta!, groups), (v) => Math.max(v, slope * v)),
      inputs,
      ...accuracy,
    }));
}

for (const norm of [batchNorm, normActivation]) {
  test(`${norm.name}: against a pass for each group`, () =>
    check({ shape: [6, 9, 11, 8], groups: [1, 2, 3], net: normed(norm, 8) }));
}

const nets: Record<string, Case> = {
  'convolutions, norms and activations': { shape: [4, 6, 7, 3], groups: [1, 3], net: chain([3, 8, 4, 4], [3, 3, 1]) },
  'odd channels': { shape: [8, 5, 4, 3], groups: [3, 5], net: chain([3, 5, 6], [3, 3]) },
  'many pixels': { shape: [4, 24, 25, 4], groups: [2, 2], net: chain([4, 4, 4], [3, 3]) },
  'rows of pixels, which are items of a block': {
    shape: [6, 4, 8, 4],
    groups: [2, 4],
    net: chain([4, 8, 8, 4], [1, 1, 1]),
  },
  'volumes in three groups': { shape: [4, 2, 3, 4, 2], groups: [1, 2, 1], net: chain([2, 4, 4], [3, 3], 3) },
  'a pool and a skip connection': { shape: [5, 6, 8, 4], groups: [2, 3], net: skip(4) },
  'the same with odd channels': { shape: [4, 4, 6, 3], groups: [2, 2], net: skip(3) },
  'a deeper UNet in three groups': { shape: [8, 8, 16, 1], groups: [2, 5, 1], net: network([4, 8, 8], 2) },
  'a UNet on volumes': { shape: [3, 4, 4, 6, 1], groups: [2, 1], net: network([3, 4], 3) },
};
for (const [what, c] of Object.entries(nets)) test(`${what}: against a pass for each group`, () => check(c));

for (const track of [[], [1], [0, 2]]) {
  test(`running statistics follow groups [${track}] alone`, async () => {
    for (const net of [normed(batchNorm, 4), normed(normActivation, 4), chain([4, 8], [3])])
      await check({ shape: [6, 3, 5, 4], groups: [3, 1, 2], track, net });
  });
}

const ofFours = { shape: [4, 6, 8, 4], groups: [1, 3], net: chain([4, 8, 4], [3, 3]) };
for (const [what, c] of Object.entries({
  'convolutions, norms and activations': ofFours,
  'rows of pixels': nets['rows of pixels, which are items of a block']!,
})) {
  testHalf(`f16, ${what}: against a pass for each group`, () => checkHalf(c));
}

for (const rate of [0.1, 0.4]) {
  test(`with dropout of ${rate}, fused and not are the same`, async () => {
    const net = (gpu: Gpu): Net => {
      const { parameters, running, ...make } = maker(gpu);
      const [n, first, second] = [make.norm(8), make.weight([8, 3, 3, 4]), make.weight([4, 3, 3, 8])];
      const random = createRandom(gpu, 3);
      const forward = (x: Tensor, grouping: Grouping): Tensor => {
        const options = { running: n.running, mode: 'train' as const, slope, dropout: { rate, random }, ...grouping };
        return conv(normActivation(conv(x, first, undefined, { statistics: true }), n.gamma, n.beta, options), second);
      };
      return { parameters, running, forward };
    };
    const c = { shape: [4, 5, 6, 4], groups: [3, 1], net };
    for (const captured of [false, true]) {
      const plain = await outcome(c, { apart: false, fuse: false, captured });
      agree(await outcome(c, { apart: false, fuse: true, captured }), plain, 2e-5, captured ? 'captured' : 'eager');
    }
  });
}

test('more groups than fused kernels take are normalised one by one', () =>
  check({ shape: [70, 3, 1, 4], groups: Array<number>(70).fill(1), net: normed(normActivation, 4) }));

test('in eval mode groups change nothing', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const model = unet(gpu, { inChannels: 1, classes: 2, features: [4, 8] });
    const x = tensor(gpu, numbers(3, 4 * 64), [4, 8, 8, 1]);
    assert.equal(await model(x, { groups: [1, 3] }).read(), await model(x).read());
    const [gamma, beta] = [tensor(gpu, 1, [1]), tensor(gpu, 0, [1])];
    const running = { mean: tensor(gpu, 0.5, [1]), variance: tensor(gpu, 4, [1]) };
    const plain = { running, mode: 'eval' as const };
    const grouped = { ...plain, groups: [1, 3], track: [0] };
    assert.equal(await batchNorm(x, gamma, beta, grouped).read(), await batchNorm(x, gamma, beta, plain).read());
  });
});

test('one group is the whole batch, bit for bit', async () => {
  for (const net of [normed(batchNorm, 4), normed(normActivation, 4), chain([4, 8], [3])]) {
    const whole: How = { apart: false, fuse: true, captured: false };
    const c = { shape: [4, 5, 6, 4], groups: [4], net };
    // Without `track` the pass apart is the same call without options.
    assert.equal(await outcome(c, whole), await outcome(c, { ...whole, apart: true }));
  }
});

test('a grouped training step of a UNet has as many launches as one without groups', async () => {
  const gpu = await testGpu();
  for (const rank of [2, 3] as const) {
    const launches = [undefined, [2, 2], [1, 3]].map((groups) =>
      scope(gpu, () => {
        const model = unet(gpu, { inChannels: 1, classes: 3, features: [4, 8, 8], rank });
        const random = createRandom(gpu, 1);
        const x = tensor(gpu, 0.5, [4, ...Array<number>(rank).fill(8), 1]);
        const step = capture(gpu, () => {
          const gradients = backward(sum(model(x, { mode: 'train', random, groups })));
          return model.parameters.map((p) => gradients.get(p)!);
        });
        return step.info.launches;
      }),
    );
    assert.ok(launches[0]! > 40, `${launches}`);
    assert.equal(launches, [launches[0], launches[0], launches[0]]);
  }
});

test('groups that do not fit are refused', async () => {
  const gpu = await testGpu();
  const [x, one] = [tensor(gpu, 0, [4, 1, 1, 2]), tensor(gpu, 1, [2])];
  for (const norm of [batchNorm, normActivation] as (typeof batchNorm)[]) {
    const call = (options: object, training = true) => {
      const running = { mean: one, variance: one };
      return () =>
        norm(x, one, one, {
          mode: training ? 'train' : 'eval',
          running,
          ...(norm !== batchNorm && { slope }),
          ...options,
        });
    };
    for (const training of [true, false]) {
      await refuses(
        call({ groups: [1, 2] }, training),
        ShapeError,
        /do not add up — got \[1,2\], 3 items, expected the 4/,
      );
      await refuses(
        call({ groups: [4, 0] }, training),
        ShapeError,
        /numbers of items — got \[4, 0\].*Leave empty groups out/,
      );
      await refuses(call({ groups: [2.5, 1.5] }, training), ShapeError, /whole numbers of at least 1/);
      await refuses(call({ groups: [] }, training), ShapeError, /do not add up|numbers of items/);
      await refuses(call({ groups: 2 }, training), ShapeError, /numbers of items — got 2/);
      await refuses(
        call({ groups: [2, 2], track: [2] }, training),
        ShapeError,
        /track names groups — got \[2\], expected indices below 2/,
      );
      await refuses(call({ groups: [2, 2], track: [0, 0] }, training), ShapeError, /each once/);
      await refuses(call({ track: 0 }, training), ShapeError, /track names groups — got 0/);
    }
    await refuses(call({ groups: [1, 3] }), ShapeError, /one value a channel.*in groups of \[1,3\]/);
    await refuses(call({ group: [1, 3] }), ShapeError, /group/);
    await call({ groups: [1, 3] }, false)().read(); // running statistics have a variance
  }
});

test.run();
