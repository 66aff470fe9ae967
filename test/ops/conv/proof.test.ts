// Matrix kernels as defaults: each proves itself once on the device before a prepared step uses it. No CPU has matrix units, so the
// kernels compute in the emulation; what a broken driver would do to them is planted in their texts.
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  conv,
  createRandom,
  type Gpu,
  mean,
  normActivation,
  type Step,
  scope,
  square,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { openDevice, tuningFile } from '../../../engine/node.js';
import { askedFor, tune } from '../../../engine/tune.js';
import { withCache } from '../../cache-folder.js';
import { closeTo } from '../../close-to.js';
import { lacking } from '../../gpu.js';
import { unless } from '../../unless.js';

const test = suite('matrix kernels by default');
const testHalf = unless(await lacking('shader-f16'), test);

const channels = 8;

/**
 * A norm with activation and dropout between two convolutions, forward and backward, as a step: loss and gradients; or the first
 * convolution alone, or both without their gradients.
 */
function stepOf(gpu: Gpu, dtype: 'f32' | 'f16', only?: 'first' | 'forward'): Step<Tensor[]> {
  const uniform = uniformStream(3);
  const draw = (shape: readonly number[], more: object = { requiresGrad: true }): Tensor => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => uniform() - 0.5);
    return tensor(gpu, values, [...shape], more);
  };
  const filter = [channels, 3, 3, channels];
  const parameters = [filter, filter, ...Array(4).fill([channels])].map((shape) => draw(shape));
  const [first, second, gamma, beta, bias] = parameters as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const x = draw([3, 5, 9, channels], { dtype });
  const random = createRandom(gpu, 7);
  const options = { mode: 'train', slope: 0.01, groups: [1, 2], dropout: { rate: 0.3, random } } as const;
  return capture(gpu, () => {
    random.restart();
    if (only === 'first') return [conv(x, first, bias)];
    const y = conv(normActivation(conv(x, first, bias, { statistics: true }), gamma, beta, options), second);
    if (only === 'forward') return [y];
    const loss = mean(square(y));
    const gradients = backward(loss);
    return [loss, ...parameters.slice(0, 5).map((p) => gradients.get(p)!)];
  });
}

interface Opened {
  readonly gpu: Gpu;
  /** The matrix kernels whose pipelines were made. */
  readonly made: string[];
  /** What was said on stderr. */
  readonly said: string[];
}

const untouched = (code: string): string => code;

/** Runs `work` on a device that passes for a GPU with matrix units; `spoil` changes the texts that its driver compiles. */
async function onUnits(
  work: (opened: Opened) => Promise<void>,
  { spoil = untouched, component = 'f32' }: { spoil?: (code: string) => string; component?: 'f32' | 'f16' } = {},
): Promise<void> {
  const gpu = await openDevice({ quiet: true });
  const unit = { M: 8, N: 8, K: 8, componentType: component, resultComponentType: 'f32', emulated: true };
  Object.assign(gpu, { matrixSizes: [unit], subgroupSizes: { min: 32, max: 32 } });
  Object.assign(gpu.adapter, { software: false });
  const { device } = gpu;
  const [made, said]: [string[], string[]] = [[], []];
  const make = device.createShaderModule;
  device.createShaderModule = (descriptor) => {
    const name = /fn (conv_matrix\w*)\(/.exec(descriptor.code)?.[1];
    if (name) made.push(name);
    return make.call(device, name ? { ...descriptor, code: spoil(descriptor.code) } : descriptor);
  };
  const say = console.error;
  console.error = (...words: unknown[]) => void said.push(words.join(' '));
  try {
    await scope(gpu, () => work({ gpu, made, said }));
  } finally {
    console.error = say;
    gpu.close();
  }
}

const read = (tensors: readonly Tensor[]): Promise<ArrayLike<number>[]> =>
  Promise.all(tensors.map((t) => t.read() as Promise<Float32Array>));

const everyPass = ['conv_matrix', 'conv_matrix_input_gradient', 'conv_matrix_weight_gradient'];
const accuracy = { atol: 2e-6, rtol: 2e-5 };
let plain: ArrayLike<number>[] = [];

test('a step that is only called keeps to proven kernels, also where its info was asked first', () =>
  withCache(() =>
    onUnits(async ({ gpu, made }) => {
      const step = stepOf(gpu, 'f32');
      assert.ok(step.info.launches > 5);
      plain = await read(step());
      assert.equal(made, []);
    }),
  ));

test('a prepared step takes matrix kernels, each proven once; later devices of the same driver know them', () =>
  withCache(async () => {
    await onUnits(async ({ gpu, made, said }) => {
      const step = stepOf(gpu, 'f32');
      await step.prepare();
      assert.equal([...new Set(made)].sort(), everyPass);
      const texts = made.length;
      for (const [i, values] of (await read(step())).entries()) closeTo(values, plain[i]!, accuracy, `result ${i}`);
      await stepOf(gpu, 'f32').prepare();
      await read(stepOf(gpu, 'f32')());
      assert.is(made.length, texts, 'nothing is compiled again');
      const { verdicts } = JSON.parse(readFileSync(tuningFile(gpu.adapter), 'utf8')) as { verdicts: object };
      assert.equal(Object.values(verdicts), Array(texts).fill(true));
      assert.equal(said, []);
    });
    await onUnits(async ({ gpu, made }) => {
      await read(stepOf(gpu, 'f32')());
      assert.equal([...new Set(made)].sort(), everyPass, 'without prepare');
    });
  }));

const faults: Record<string, [(code: string) => string, RegExp]> = {
  'computes something else': [
    (code) => (code.includes('fn conv_matrix(') ? code.replace('sum[e] +=', 'sum[e] += 0.001 *') : code),
    /^matrix units: 1 of 1 kernels failed their check on this GPU and are not used: .*conv_matrix is wrong: 'y'\[\d+\]/,
  ],
  'writes nothing': [
    (code) => (code.includes('fn conv_matrix(') ? code.replace(/ y\[[^=]*= vec4<f32>\([^)]*\);/g, ';') : code),
    /conv_matrix is wrong: 'y'\[\d+\]/,
  ],
  'does not compile': [
    (code) => (code.includes('fn conv_matrix(') ? `${code} fn oops(` : code),
    /conv_matrix does not compile: /,
  ],
};
for (const [fault, [spoil, words]] of Object.entries(faults)) {
  test(`a kernel that ${fault} is never offered, with one line; the others are`, () =>
    withCache(() =>
      onUnits(
        async ({ gpu, made, said }) => {
          const step = stepOf(gpu, 'f32', 'first');
          await step.prepare();
          assert.is(said.length, 1, said.join('\n'));
          assert.match(said[0]!, words);
          gpu.flags.tune = false;
          const expected = await read(stepOf(gpu, 'f32', 'first')());
          gpu.flags.tune = true;
          assert.equal(await read(step()), expected);
          const texts = made.length;
          await stepOf(gpu, 'f32', 'first').prepare();
          assert.equal([made.length, said.length], [texts, 1], 'asked again, nothing is tried');
          const job = askedFor(gpu).jobs.find(({ key }) => key.startsWith('conv.forward'))!;
          const matrix = job.candidates.find((each) => (each as { kernel: string }).kernel === 'matrix');
          const [result] = await tune(gpu, [{ ...job, candidates: [matrix] }], { turns: 1, turnMs: 0.1 });
          assert.match(result!.candidates[0]!.excluded!, /^has failed its proof: conv_matrix /);
        },
        { spoil },
      ),
    ));
}

testHalf('f16 units multiply whole numbers exactly; one that adds up in f16 is found', () =>
  withCache(async () => {
    await onUnits(
      async ({ gpu, made, said }) => {
        await stepOf(gpu, 'f16', 'forward').prepare();
        assert.equal(made, ['conv_matrix', 'conv_matrix']);
        assert.equal(said, []);
      },
      { component: 'f16' },
    );
    await onUnits(
      async ({ gpu, said }) => {
        await stepOf(gpu, 'f16', 'first').prepare();
        assert.match(said.join(), /is wrong/);
      },
      {
        component: 'f16',
        // Packed, since Mesa takes f32(f16(x)) for x.
        spoil: (code) =>
          code.replace(
            '  return sum;\n',
            '  for (var e = 0; e < 1; e++) { sum[e] = vec4f(unpack2x16float(pack2x16float(sum[e].xy)), unpack2x16float(pack2x16float(sum[e].zw))); }\n  return sum;\n',
          ),
      },
    );
  }),
);

test.run();
