// Every fused path against the composition of plain ops (WGRAD_FUSE=0), on the same data: values, gradients of everything,
// running statistics. Both run eagerly and captured, on buffers that start as NaN.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hashOf, remember } from '../engine/choices.js';
import {
  add,
  backward,
  concat,
  conv,
  createRandom,
  type Gpu,
  gaussianNoise,
  leakyRelu,
  maxPool,
  mean,
  normActivation,
  relu,
  reshape,
  ShapeError,
  scope,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  upsample,
} from '../engine/index.js';
import { askedFor } from '../engine/tune.js';
import { closeTo } from './close-to.js';
import { compare, type Make, outcome } from './compare-fused.js';
import { testGpu } from './gpu.js';
import { refuses } from './refuses.js';

const test = suite('fusion');

const slope = 0.01;

for (const [channels, hidden, size] of [
  [4, 8, [2, 6, 6]],
  [8, 16, [1, 13, 7]],
  [3, 5, [2, 5, 9]],
  [1, 16, [1, 12, 17]],
  [16, 4, [2, 1, 33]],
  [8, 40, [1, 4, 4]], // too many outputs for computing the input on load
  [6, 6, [1, 16, 16]],
] as [number, number, number[]][]) {
  for (const rate of [0, 0.4]) {
    test(`conv, norm, activation, conv: ${channels}→${hidden} [${size}], dropout ${rate}`, () =>
      compare((make) => {
        const x = make.data([...size, channels]);
        const [w1, b1] = [make.data([hidden, 3, 3, channels]), make.data([hidden])];
        const [w2, b2] = [make.data([channels, 3, 3, hidden]), make.data([channels])];
        const [n1, n2] = [make.norm(hidden), make.norm(channels)];
        const random = createRandom(make.gpu, 3);
        return () => {
          const dropout = rate > 0 ? { dropout: { rate, random } } : {};
          const z1 = conv(x, w1, b1, { statistics: true });
          const a1 = normActivation(z1, n1.gamma, n1.beta, { running: n1.running, mode: 'train', slope, ...dropout });
          const z2 = conv(a1, w2, b2, { statistics: true });
          return {
            outputs: [normActivation(z2, n2.gamma, n2.beta, { running: n2.running, mode: 'train', slope })],
          };
        };
      }));
  }
}

test('the tiled kernels, chosen as the tuner would, fuse the same', async () => {
  const gpu = await testGpu();
  const work = (make: Make) => {
    const x = make.data([1, 9, 11, 8]);
    const [w1, b1] = [make.data([20, 3, 3, 8]), make.data([20])];
    const [w2, b2] = [make.data([8, 3, 3, 20]), make.data([8])];
    const [w3, b3] = [make.data([4, 1, 1, 8]), make.data([4])];
    const [n1, n2] = [make.norm(20), make.norm(8)];
    const random = createRandom(make.gpu, 3);
    return () => {
      const z1 = conv(x, w1, b1, { statistics: true });
      const first = { running: n1.running, mode: 'train' as const, slope, dropout: { rate: 0.4, random } };
      const z2 = conv(normActivation(z1, n1.gamma, n1.beta, first), w2, b2, { statistics: true });
      const a2 = normActivation(z2, n2.gamma, n2.beta, { running: n2.running, mode: 'train', slope });
      return { outputs: [conv(a2, w3, b3), square(a2)] };
    };
  };
  const before = gpu.flags.tune;
  gpu.flags.tune = true;
  try {
    await outcome(true, false, work); // asks for its choices
    const jobs = askedFor(gpu).jobs.filter(({ key }) => key.includes(' 1x9x11 ') || key.includes(' 1x1x99 '));
    assert.ok(jobs.length >= 6, `${jobs.length} choices`);
    let chosen = 0;
    for (const job of jobs) {
      const choice = job.candidates.find((candidate) => (candidate as { kernel: string }).kernel === 'tiled');
      if (!choice) continue;
      remember(gpu, { [job.key]: { choice, ms: 1, defaultMs: 2, hash: hashOf(job, job.candidates[0], choice) } });
      chosen++;
    }
    assert.ok(chosen >= 4, `${chosen} tiled candidates`);
    await compare(work);
  } finally {
    gpu.flags.tune = before;
  }
});

test('eval mode', () =>
  compare((make) => {
    const x = make.data([2, 6, 5, 8]);
    const w = make.data([4, 3, 3, 8]);
    const norm = make.norm(8);
    return () => ({
      outputs: [conv(normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'eval', slope: 0.2 }), w)],
    });
  }));

for (const [height, width, channels] of [
  [8, 8, 8],
  [7, 5, 4],
  [6, 9, 3],
  [2, 2, 16],
] as const) {
  test(`a skip connection: pool, upsample and concat around [2,${height},${width},${channels}]`, () =>
    compare((make) => {
      const x = make.data([2, height, width, channels]);
      const norm = make.norm(channels);
      const deep = make.data([channels, 1, 1, channels]);
      const inner = make.norm(channels);
      const out = make.data([channels, 3, 3, 2 * channels]);
      return () => {
        const a = normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'train', slope });
        const pooled = maxPool(a);
        const low = normActivation(pooled, inner.gamma, inner.beta, { running: inner.running, mode: 'train', slope });
        const up = upsample(conv(low, deep));
        // upsampling restores even sizes only: cut the skip by a second pool where they are odd
        if (height % 2 || width % 2) return { outputs: [a, up, conv(concat([a, a], -1), out)] };
        return { outputs: [conv(concat([a, up], -1), out)] };
      };
    }));
}

test('two consumers of one activation: gradients are added once', () =>
  compare((make) => {
    const x = make.data([1, 6, 6, 8]);
    const norm = make.norm(8);
    const [w1, w2] = [make.data([4, 3, 3, 8]), make.data([8, 1, 1, 8])];
    return () => {
      const a = normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'train', slope });
      return { outputs: [conv(a, w1), conv(a, w2), square(a)] };
    };
  }));

test('a concatenation of the same activation twice, and of channels that are no multiple of four', () =>
  compare((make) => {
    const x = make.data([1, 4, 4, 6]);
    const norm = make.norm(6);
    const skip = make.data([1, 4, 4, 2]);
    return () => {
      const a = normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'train', slope });
      return { outputs: [concat([a, a], -1), concat([a, skip], -1)] };
    };
  }, false));

test('an activation whose input is overwritten before it is read keeps its value', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const x = tensor(gpu, [1, 2, 3, 4], [1, 1, 1, 4]);
    const [gamma, beta] = [tensor(gpu, 1, [4]), tensor(gpu, 0, [4])];
    const running = { mean: tensor(gpu, 0, [4]), variance: tensor(gpu, 1, [4]) };
    const a = normActivation(x, gamma, beta, { running, mode: 'eval', slope });
    x.write([9, 9, 9, 9]);
    closeTo(await a.read(), [1, 2, 3, 4], { rtol: 1e-5 });
    const up = upsample(x);
    x.write([5, 6, 7, 8]);
    closeTo(await mean(up).read(), [9]);
  });
});

for (const [channels, hidden] of [
  [4, 8],
  [3, 5],
] as const) {
  test(`LeakyReLU between convolutions is computed as they load and derived as they leave: ${channels}→${hidden}`, () =>
    compare((make) => {
      const x = make.data([2, 5, 7, channels]);
      const [w1, b1] = [make.data([hidden, 1, 1, channels]), make.data([hidden])];
      const [w2, b2] = [make.data([channels, 1, 1, hidden]), make.data([channels])];
      return () => ({ outputs: [conv(leakyRelu(conv(x, w1, b1), slope), w2, b2)] });
    }));
}

test('LeakyReLU whose result others use, too, and relu, which stays a pass', () =>
  compare((make) => {
    const x = make.data([2, 4, 6, 4]);
    const [w1, w2] = [make.data([8, 3, 3, 4]), make.data([4, 1, 1, 8])];
    return () => {
      const y = leakyRelu(conv(x, w1), 0.2);
      return { outputs: [conv(y, w2), y, maxPool(y), conv(leakyRelu(y, 0), w2)] };
    };
  }, false));

test('a gradient is kept for a result that asks for it, and then is the plain one', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const x = tensor(gpu, [-2, 1, 4, -1], [1, 1, 1, 4], { requiresGrad: true });
    const [gamma, beta] = [tensor(gpu, 1, [4]), tensor(gpu, 0, [4])];
    const running = { mean: tensor(gpu, 0, [4]), variance: tensor(gpu, 1, [4]) };
    const weight = tensor(gpu, [1, 2, 3, 4], [1, 1, 1, 4]);
    const a = normActivation(x, gamma, beta, { running, mode: 'eval', slope: 0.5 });
    a.requiresGrad = true;
    const gradients = backward(sum(conv(a, weight)));
    closeTo(await gradients.get(a)!.read(), [1, 2, 3, 4]);
    closeTo(await gradients.get(x)!.read(), [0.5, 2, 3, 2], { rtol: 1e-5 });
    assert.is(leakyRelu(a).dtype, 'f32');
  });
});

/** normActivation of a leaf [1, 4, 4, 8]. */
const activated = (make: Make) => {
  const x = make.data([1, 4, 4, 8]);
  const norm = make.norm(8);
  return () => normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'train', slope });
};

const reshapedUses: Record<string, (make: Make) => () => Tensor[]> = {
  'conv of other sides': (make) => {
    const [a, w] = [activated(make), make.data([4, 3, 3, 4])];
    return () => [conv(reshape(a(), [1, 4, 8, 4]), w)];
  },
  'conv of more channels': (make) => {
    const [a, w] = [activated(make), make.data([4, 3, 3, 16])];
    return () => [conv(reshape(a(), [1, 2, 4, 16]), w)];
  },
  'conv of the same shape, and another consumer': (make) => {
    const [a, w] = [activated(make), make.data([8, 3, 3, 8])];
    return () => {
      const x = a();
      return [add(conv(reshape(x, [1, 4, 4, 8]), w), square(x))];
    };
  },
  maxPool: (make) => {
    const a = activated(make);
    return () => [maxPool(reshape(a(), [1, 4, 8, 4]))];
  },
  'concat of an upsampled one': (make) => {
    const [x, other] = [make.data([1, 4, 4, 8]), make.data([1, 8, 16, 4])];
    return () => [concat([reshape(upsample(x), [1, 8, 16, 4]), other], -1)];
  },
  'concat of the same twice': (make) => {
    const a = activated(make);
    return () => {
      const x = reshape(a(), [1, 4, 8, 4]);
      return [concat([x, x], -1)];
    };
  },
  'conv of a leakyRelu': (make) => {
    const [z, w] = [make.data([1, 4, 4, 8]), make.data([4, 3, 3, 4])];
    return () => [conv(reshape(leakyRelu(z, 0.1), [1, 4, 8, 4]), w)];
  },
  'a 3-D convolution of a 2-D activation': (make) => {
    const [a, w] = [activated(make), make.data([4, 3, 3, 3, 4])];
    return () => [conv(reshape(a(), [1, 2, 4, 4, 4]), w)];
  },
};
for (const [what, work] of Object.entries(reshapedUses)) {
  test(`a reshaped tensor is another tensor: ${what}`, () =>
    compare((make) => {
      const forward = work(make);
      return () => ({ outputs: forward() });
    }, false));
}

const between: Record<string, (h: Tensor, skip: Tensor, gpu: Gpu) => Tensor> = {
  'add to what it came from': (h, skip) => add(h, skip),
  'add to itself': (h) => add(h, h),
  sub: (h, skip) => sub(skip, h),
  'reshape there and back': (h) => reshape(reshape(h, [h.size]), h.shape),
  gaussianNoise: (h, _, gpu) => gaussianNoise(h, { std: 0.1, random: createRandom(gpu, 7) }),
  'another leakyRelu': (h) => leakyRelu(h, 0.3),
  relu: (h) => relu(h),
  'a concatenation with itself': (h) => concat([h, h], -1),
  'a pool and an upsampling': (h) => upsample(maxPool(h)),
  nothing: (h) => h,
};
for (const [what, link] of Object.entries(between)) {
  test(`between two activations: ${what}`, () =>
    compare((make) => {
      const [x, w] = [make.data([1, 4, 6, 4]), make.data([4, 3, 3, 4])];
      const channels = what.startsWith('a concat') ? 8 : 4;
      const [w2, norm] = [make.data([4, 1, 1, channels]), make.norm(channels)];
      const options = { running: norm.running, mode: 'train' as const, slope: 0.2 };
      return () => {
        const joined = link(leakyRelu(conv(x, w), 0.1), x, make.gpu);
        return {
          outputs: [conv(leakyRelu(joined, 0.2), w2), conv(normActivation(joined, norm.gamma, norm.beta, options), w2)],
        };
      };
    }, false));
}

for (const [shape, kernel] of [
  [
    [1, 6, 5, 4],
    [3, 3],
  ],
  [
    [1, 3, 4, 5, 4],
    [3, 3, 3],
  ],
] as const) {
  test(`residual blocks of ${shape.length - 2}-D images`, () =>
    compare((make) => {
      const x = make.data([...shape]);
      const weights = [1, 2, 3].map(() => make.data([4, ...kernel, 4]));
      return () => ({
        outputs: [weights.reduce((h, w) => leakyRelu(add(leakyRelu(conv(h, w), slope), h), slope), x)],
      });
    }, false));
}

test('an activation with two consumers of which one is a view', () =>
  compare((make) => {
    const [x, w, v] = [make.data([1, 4, 6, 4]), make.data([4, 3, 3, 4]), make.data([4, 1, 1, 8])];
    return () => {
      const a = leakyRelu(conv(x, w), 0.2);
      return { outputs: [conv(a, w), conv(reshape(a, [1, 4, 3, 8]), v)] };
    };
  }, false));

test('deferred over deferred', () =>
  compare((make) => {
    const [x, w, norm] = [make.data([1, 3, 4, 4]), make.data([8, 3, 3, 4]), make.norm(4)];
    const options = { running: norm.running, mode: 'train' as const, slope: 0.2 };
    return () => {
      const up = leakyRelu(upsample(x), 0.1);
      const twice = leakyRelu(normActivation(up, norm.gamma, norm.beta, options), 0.3);
      return { outputs: [conv(up, w), conv(twice, w), maxPool(twice), upsample(upsample(twice))] };
    };
  }, false));

test('nested concatenations, as in a UNet++', () =>
  compare((make) => {
    const [x, y, z] = [make.data([1, 4, 4, 4]), make.data([1, 2, 2, 4]), make.data([1, 4, 4, 8])];
    const [w, norm] = [make.data([4, 3, 3, 8]), make.norm(8)];
    const options = { running: norm.running, mode: 'train' as const, slope: 0.2 };
    return () => {
      const inner = concat([x, upsample(y)], -1);
      const outer = concat([normActivation(inner, norm.gamma, norm.beta, options), inner, z], -1);
      const deep = concat([concat([concat([upsample(maxPool(x)), x], -1), upsample(y)], -1), x], -1);
      return { outputs: [outer, deep, conv(inner, w), maxPool(inner)] };
    };
  }, false));

test('leakyRelu of an upsampling, read at once', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const x = tensor(gpu, [-1, 2, -3, 4], [1, 1, 1, 4]);
    const up = upsample(x);
    const y = leakyRelu(up, 0.5);
    closeTo(
      await y.read(),
      [1, 2, 3, 4].flatMap(() => [-0.5, 2, -1.5, 4]),
    );
    closeTo(
      await up.read(),
      [1, 2, 3, 4].flatMap(() => [-1, 2, -3, 4]),
    );
  });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [1, 2, 2, 4]);
  const [gamma, beta] = [tensor(gpu, 1, [4]), tensor(gpu, 0, [4])];
  const random = createRandom(gpu, 1);
  await refuses(
    () => normActivation(x, gamma, beta, { mode: 'train', slope: 2 }),
    ShapeError,
    /slope must be in \[0, 1\] — got 2/,
  );
  await refuses(() => normActivation(x, gamma, beta, { mode: 'eval', slope: 0 }), ShapeError, /running/);
  await refuses(
    () => normActivation(x, gamma, beta, { mode: 'train', slope: 0, dropout: { rate: 1, random } }),
    ShapeError,
    /dropout must be in \[0, 1\) — got 1/,
  );
  await refuses(() => normActivation(x, tensor(gpu, 1, [3]), beta, { mode: 'train', slope: 0 }), ShapeError, /gamma/);
});

test.run();
