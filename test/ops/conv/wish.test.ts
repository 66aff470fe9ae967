// What a step asks of its convolutions, fused parts included, is what the tuner measures and checks: the texts are the same, and
// candidates agree with the reference.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { jobsOfStep } from '../../../bench/tune.js';
import {
  backward,
  conv,
  createRandom,
  crossEntropy,
  type Gpu,
  normActivation,
  scope,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { openDevice } from '../../../engine/node.js';
import { askedFor, type Job, tune } from '../../../engine/tune.js';
import { lacking } from '../../gpu.js';
import { unless } from '../../unless.js';

const test = suite('conv wishes');
const testHalf = unless(await lacking('shader-f16'), test);

/** The texts of all convolution kernels that `work` makes a device compile, without those of fixed tensors. */
async function textsOf(gpu: Gpu, work: () => unknown): Promise<Set<string>> {
  const texts = new Set<string>();
  const { device } = gpu;
  const make = device.createShaderModule;
  device.createShaderModule = (descriptor) => {
    if (/fn conv_?(tiled|matrix|input_gradient|weight_gradient|\()/.test(descriptor.code)) texts.add(descriptor.code);
    return make.call(device, descriptor);
  };
  try {
    await work();
  } finally {
    device.createShaderModule = make;
  }
  return texts;
}

for (const software of [true, false]) {
  test(`every convolution kernel of a step is one that its trials measure: ${software ? 'a CPU' : 'a GPU'}`, async () => {
    const gpu = await openDevice({ adapter: 'null', quiet: true });
    Object.assign(gpu.adapter, { software });
    try {
      const settings = { size: 16, features: [4, 8], batch: 4, labeledBatch: 2, dropout: [0.1, 0.2] };
      let jobs: Job[] = [];
      const texts = await textsOf(gpu, async () => {
        const { createTrainer } = await import('../../../train/method/trainer.js');
        const { resolveConfig } = await import('../../../train/settings/settings.js');
        await scope(gpu, () => createTrainer(gpu, resolveConfig(settings)).step.prepare());
        jobs = jobsOfStep(gpu, settings);
      });
      assert.ok(texts.size > 10, `${texts.size} texts`);
      const measured = new Set(
        jobs.flatMap(({ candidates, build }) => build(candidates[0]).launches.map(({ source }) => source)),
      );
      const missing = [...texts].filter((text) => !measured.has(text));
      assert.equal(missing, []);
      const keys = jobs.map(({ key }) => key).join('\n');
      for (const part of [/ of l0.01/, / statistics/, / into l0.01/, / base/, / d0.[12]/]) assert.match(keys, part);
    } finally {
      gpu.close();
    }
  });
}

/** Records norms and convolutions around them, forward and backward; resolves with what the tuner is asked. */
async function asked(gpu: Gpu, half: boolean, rate: number): Promise<Job[]> {
  await scope(gpu, () => {
    const uniform = uniformStream(3);
    const draw = (shape: readonly number[], requiresGrad = true): Tensor =>
      tensor(
        gpu,
        Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => uniform() - 0.5),
        [...shape],
        { requiresGrad, ...(half && !requiresGrad && { dtype: 'f16' as const }) },
      );
    const random = createRandom(gpu, 7);
    const layer = (x: Tensor, k: number, outputs: number): Tensor =>
      normActivation(
        conv(x, draw([outputs, k, k, x.shape.at(-1)!]), draw([outputs]), { statistics: true }),
        draw([outputs]),
        draw([outputs]),
        { mode: 'train', slope: 0.01, groups: [1, 2], ...(rate && { dropout: { rate, random } }) },
      );
    const x = draw([3, 10, 9, 4], false);
    const deep = layer(layer(layer(x, 3, 8), 3, 8), 1, 8);
    const labels = tensor(gpu, Array<number>(3 * 90).fill(1), [3, 10, 9], { dtype: 'u8' });
    backward(crossEntropy(conv(deep, draw([4, 1, 1, 8]), draw([4])), labels));
  });
  return askedFor(gpu).jobs;
}

for (const half of [false, true]) {
  for (const rate of [0, 0.3]) {
    (half ? testHalf : test)(
      `candidates agree with the reference in all that is fused: ${half ? 'f16' : 'f32'}, dropout ${rate}`,
      async () => {
        for (const software of rate ? [false] : [false, true]) {
          const gpu = await openDevice({ quiet: true });
          Object.assign(gpu.adapter, { software });
          try {
            const jobs = await asked(gpu, half, rate);
            // The default and the likely best of the other families: more take long to compile on a CPU.
            const some = jobs.map((job) => {
              const { kernel } = job.candidates[0] as { kernel: string };
              const other = job.candidates.find((each) => (each as { kernel: string }).kernel !== kernel);
              return { ...job, candidates: [job.candidates[0], ...(other ? [other] : [])] };
            });
            const results = await tune(gpu, some, { turns: 1, turnMs: 0.1 });
            assert.ok(results.length > 8);
            const wrong = results.flatMap(({ key, problem, candidates }) => [
              ...(problem ? [`${key}: ${problem}`] : []),
              ...candidates.flatMap(({ excluded }) => (excluded ? [`${key}: ${excluded}`] : [])),
            ]);
            assert.equal(wrong, []);
          } finally {
            gpu.close();
          }
        }
      },
    );
  }
}

test.run();
