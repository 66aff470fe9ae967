// Optimizers against plain float64 loops over several steps with changing gradients and rates, eagerly and captured.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  conv,
  createAdamW,
  createSgd,
  ema,
  type Gpu,
  mean,
  mul,
  normActivation,
  type Optimizer,
  pack,
  ShapeError,
  scope,
  square,
  sum,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('optimizer');

// More parameters than fit into one launch, at sizes 1, odd and beyond a workgroup.
const sizes = [1, 3, 257, 64, 65, 2, 128, 5, 1, 7, 300, 4, 9, 31];
const steps = 6;
const rates = [0.1, 0.1, 0.05, 0, 0.2, 0.01];

type Numbers = number[][];
const draw = (seed: number, scale = 1): Numbers => {
  const uniform = uniformStream(seed, 3);
  return sizes.map((size) => Array.from({ length: size }, () => Math.fround(scale * (2 * uniform() - 1))));
};

/** Parameters, and coefficients c: the loss is Σ c·p, so that the gradients of step t are what is written into c. */
function problem(gpu: Gpu) {
  const parameters = draw(1).map((values, i) =>
    tensor(gpu, values, [values.length], { requiresGrad: true, label: `weight${i}` }),
  );
  const coefficients = sizes.map((size) => tensor(gpu, 0, [size]));
  const lr = tensor(gpu, 0);
  const gradients = () =>
    parameters.map((p, i) => backward(sum(mul(p, coefficients[i]!)))).map((all, i) => all.get(parameters[i]!));
  const set = (step: number) => {
    draw(100 + step, step % 2 ? 3 : 0.1).forEach((values, i) => {
      coefficients[i]!.write(values);
    });
    lr.write(rates[step]!);
  };
  return { parameters, coefficients, lr, gradients, set };
}

/** Gradients as `step` takes them, from a list. */
const byParameter = (parameters: readonly Tensor[], list: readonly (Tensor | undefined)[]) =>
  ({ get: (p: Tensor) => list[parameters.indexOf(p)], packed: new Map() }) as unknown as Parameters<
    Optimizer['step']
  >[0];

type Update = (p: Numbers, g: Numbers, lr: number, step: number) => void;

async function check(
  make: (parameters: readonly Tensor[]) => Optimizer,
  update: Update,
  captured: boolean,
): Promise<void> {
  const gpu = await testGpu();
  const { parameters, lr, gradients, set } = problem(gpu);
  const optimizer = make(parameters);
  const work = () => {
    optimizer.step(byParameter(parameters, gradients()), lr);
  };
  const step = captured ? capture(gpu, work) : work;
  const expected = draw(1);
  for (let t = 0; t < steps; t++) {
    set(t);
    step();
    update(expected, draw(100 + t, t % 2 ? 3 : 0.1), Math.fround(rates[t]!), t);
    for (const [i, p] of parameters.entries()) {
      closeTo(await p.read(), expected[i]!, { atol: 2e-6, rtol: 5e-6 }, `step ${t}, parameter ${i}`);
    }
  }
}

function sgdReference(momentum: number, decay: number): Update {
  const velocity = sizes.map((size) => new Float64Array(size));
  return (p, g, lr) => {
    p.forEach((values, i) => {
      for (let k = 0; k < values.length; k++) {
        velocity[i]![k] = momentum * velocity[i]![k]! + g[i]![k]! + decay * values[k]!;
        values[k]! -= lr * velocity[i]![k]!;
      }
    });
  };
}

function adamwReference(beta1: number, beta2: number, epsilon: number, decay: number): Update {
  const means = sizes.map((size) => new Float64Array(size));
  const squares = sizes.map((size) => new Float64Array(size));
  return (p, g, lr, step) => {
    p.forEach((values, i) => {
      for (let k = 0; k < values.length; k++) {
        values[k]! *= 1 - lr * decay;
        means[i]![k] = beta1 * means[i]![k]! + (1 - beta1) * g[i]![k]!;
        squares[i]![k] = beta2 * squares[i]![k]! + (1 - beta2) * g[i]![k]! ** 2;
        const mean = means[i]![k]! / (1 - beta1 ** (step + 1));
        const square = squares[i]![k]! / (1 - beta2 ** (step + 1));
        values[k]! -= (lr * mean) / (Math.sqrt(square) + epsilon);
      }
    });
  };
}

for (const captured of [false, true]) {
  const mode = captured ? 'captured' : 'eager';
  for (const [momentum, weightDecay] of [
    [0, 0],
    [0.9, 0],
    [0.9, 0.1],
  ] as const) {
    test(`sgd, momentum ${momentum}, weight decay ${weightDecay}, ${mode}`, () =>
      check((p) => createSgd(p, { momentum, weightDecay }), sgdReference(momentum, weightDecay), captured));
  }
  test(`adamw as PyTorch's defaults, ${mode}`, () =>
    check((p) => createAdamW(p), adamwReference(0.9, 0.999, 1e-8, 0.01), captured));
  test(`adamw, other numbers, ${mode}`, () =>
    check(
      (p) => createAdamW(p, { beta1: 0.5, beta2: 0.9, epsilon: 0.01, weightDecay: 0.3 }),
      adamwReference(0.5, 0.9, 0.01, 0.3),
      captured,
    ));
}

test('adamw corrects its bias well after many steps', async () => {
  const gpu = await testGpu();
  const p = tensor(gpu, [0], [1], { requiresGrad: true });
  const one = tensor(gpu, [1]);
  const optimizer = createAdamW([p]);
  const step = capture(gpu, () => optimizer.step(byParameter([p], [one]), tensor(gpu, 1e-3)));
  for (let t = 0; t < 500; t++) step();
  // A constant gradient is its own mean: every step is lr, but for ε and weight decay.
  let expected = 0;
  for (let t = 0; t < 500; t++) expected = expected * (1 - 1e-5) - 1e-3;
  closeTo(await p.read(), [expected], { rtol: 2e-5 });
  const correction = await optimizer.state.at(-1)!.read();
  closeTo(correction, [1 - 0.9 ** 500, 1 - 0.999 ** 500], { rtol: 2e-5 });
});

for (const [name, make] of [
  ['sgd', (p: readonly Tensor[]) => createSgd(p, { momentum: 0.9, weightDecay: 0.1 })],
  ['adamw', (p: readonly Tensor[]) => createAdamW(p)],
] as const) {
  test(`${name}: a guard that is not finite changes nothing`, async () => {
    const gpu = await testGpu();
    const { parameters, lr, gradients, set } = problem(gpu);
    const optimizer = make(parameters);
    const guard = tensor(gpu, 1);
    const step = capture(gpu, () => optimizer.step(byParameter(parameters, gradients()), lr, { guard }));
    const everything = async () => Promise.all([...parameters, ...optimizer.state].map((t) => t.read()));
    set(0);
    step();
    const before = await everything();
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      guard.write(bad);
      set(1);
      step();
      assert.equal(await everything(), before, `guard ${bad}`);
    }
    guard.write(-3e38);
    step();
    const after = await everything();
    // The same two steps without the bad ones between them.
    const other = problem(gpu);
    const undisturbed = make(other.parameters);
    for (const t of [0, 1]) {
      other.set(t);
      undisturbed.step(byParameter(other.parameters, other.gradients()), other.lr, { guard: tensor(gpu, 1) });
    }
    assert.equal(after, await Promise.all([...other.parameters, ...undisturbed.state].map((t) => t.read())));
    assert.ok(after[2]!.some((v, k) => v !== before[2]![k]));
  });

  test(`${name}: saved state continues bit for bit`, async () => {
    const gpu = await testGpu();
    const run = async (resumeAt: number) => {
      let { parameters, lr, gradients, set } = problem(gpu);
      let optimizer = make(parameters);
      for (let t = 0; t < steps; t++) {
        if (t === resumeAt) {
          const saved = await Promise.all([...parameters, ...optimizer.state].map((x) => x.read()));
          ({ parameters, lr, gradients, set } = problem(gpu));
          optimizer = make(parameters);
          [...parameters, ...optimizer.state].forEach((x, i) => {
            x.write(saved[i]!);
          });
        }
        set(t);
        optimizer.step(byParameter(parameters, gradients()), lr);
      }
      return Promise.all(parameters.map((p) => p.read()));
    };
    assert.equal(await run(3), await run(-1));
  });
}

test('ema moves every teacher tensor; decay 0 copies and 1 keeps exactly', async () => {
  const gpu = await testGpu();
  const [old, student] = [draw(7), draw(8)];
  const teachers = old.map((values) => tensor(gpu, values));
  const students = student.map((values) => tensor(gpu, values));
  const decay = tensor(gpu, 0);
  const step = capture(gpu, () => ema(teachers, students, decay));
  const expected = old.map((values) => [...values]);
  for (const alpha of [1, 0.99, 0.5, 0.9, 1, 0.999, 0]) {
    decay.write(alpha);
    step();
    const a = Math.fround(alpha);
    expected.forEach((values, i) => {
      values.forEach((v, k) => {
        values[k] = a * v + (1 - a) * student[i]![k]!;
      });
    });
    const exact = alpha === 0 || (alpha === 1 && expected[0]![0] === old[0]![0]);
    for (const [i, t] of teachers.entries()) {
      closeTo(await t.read(), expected[i]!, exact ? {} : { atol: 1e-6 }, `decay ${alpha}, tensor ${i}`);
    }
  }
  const guarded = tensor(gpu, Number.NaN);
  const before = await teachers[2]!.read();
  decay.write(0.5);
  ema(teachers, students, decay, { guard: guarded });
  assert.equal(await teachers[2]!.read(), before);
});

test('ema: decay 0 copies and 1 keeps bit for bit, whatever the other side holds', async () => {
  const gpu = await testGpu();
  const words = (values: ArrayLike<number>) => [...new Uint32Array(Float32Array.from(values).buffer)];
  const odd = [-0, 0, 3.4e38, 1 / 3, Number.POSITIVE_INFINITY, Number.NaN];
  const plain = [1, -0, -3.4e38, 1e-7, 2, -5];
  for (const [decay, old, student, expected] of [
    [0, odd, plain, plain],
    [1, plain, odd, plain],
  ] as const) {
    const teacher = tensor(gpu, old);
    ema([teacher], [tensor(gpu, student)], tensor(gpu, decay));
    assert.equal(words(await teacher.read()), words(expected), `decay ${decay}`);
  }
});

test('few launches', async () => {
  const gpu = await testGpu();
  const { parameters, lr, coefficients } = problem(gpu);
  const list = byParameter(parameters, coefficients);
  const sgd = createSgd(parameters, { momentum: 0.9 });
  const perLaunch = Math.floor((Math.min(32, gpu.limits.maxStorageBuffersPerShaderStage) - 1) / 3);
  const { launches } = capture(gpu, () => sgd.step(list, lr)).info;
  assert.is(launches, Math.ceil(sizes.length / perLaunch));
  assert.ok(launches < sizes.length);
});

test('what cannot be updated is refused by name', async () => {
  const gpu = await testGpu();
  const [a, b] = ['first', 'second'].map((label) => tensor(gpu, [1, 2], [2], { label, requiresGrad: true }));
  const lr = tensor(gpu, 0.1);
  const gradients = backward(sum(a!));
  await refuses(() => createSgd([a!, b!]).step(gradients, lr), ShapeError, /sgd: parameter 'second' has no gradient/);
  await refuses(() => createAdamW([b!]).step(gradients, lr), ShapeError, /adamw: parameter 'second' has no gradient/);
  await refuses(() => createAdamW([]), ShapeError, /adamw: got no parameters/);
  await refuses(() => createSgd([a!]).step(gradients, b!), ShapeError, /sgd: lr is f32 \[2\], expected one f32 number/);
  await refuses(() => ema([a!], [lr], lr), ShapeError, /ema: 'first' \[2\] has no counterpart/);
  await refuses(() => ema([a!], [], lr), ShapeError, /ema: 'first' .* got none/);
  await refuses(() => ema([], [a!], lr), ShapeError, /ema/);
  const half = tensor(gpu, [1, 2], [2], { dtype: 'f16', label: 'half' });
  await refuses(() => ema([a!], [half], lr), ShapeError, /ema: 'half' is f16, expected f32/);
});

/** Three steps of a small network whose first weight is used twice; parameters, teacher and velocity afterwards. */
async function network(
  make: (parameters: Tensor[]) => Optimizer,
  packed: boolean,
): Promise<{ values: Float32Array[]; launches: number }> {
  const gpu = await testGpu();
  return scope(gpu, async () => {
    const uniform = uniformStream(21);
    const parameter = (...shape: number[]) =>
      tensor(
        gpu,
        Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => uniform() - 0.5),
        shape,
        {
          requiresGrad: true,
        },
      );
    const parameters = [parameter(4, 3, 3, 4), parameter(4), parameter(4), parameter(4), parameter(1)];
    const chain = Array.from({ length: 12 }, () => parameter(4, 1, 1, 4));
    parameters.push(...chain);
    const [w, b, gamma, beta, scale] = parameters as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const teacher = parameters.map((p) => tensor(gpu, 0.25, p.shape));
    if (packed) {
      pack(parameters);
      pack(teacher);
    }
    const x = parameter(1, 5, 6, 4);
    const optimizer = make(parameters);
    const [lr, decay] = [tensor(gpu, 0.1), tensor(gpu, 0.9)];
    const step = capture(gpu, () => {
      const z = chain.reduce((a, weight) => conv(a, weight), conv(conv(x, w, b), w));
      const y = normActivation(z, gamma, beta, { mode: 'train', slope: 0.1 });
      const loss = mean(mul(square(y), scale));
      optimizer.step(backward(loss), lr, { guard: loss, average: { tensors: teacher, decay } });
      return { loss };
    });
    const values: Float32Array[] = [];
    for (let i = 0; i < 3; i++) values.push((await step().loss.read()) as Float32Array);
    for (const t of [...parameters, ...teacher, ...optimizer.state]) values.push((await t.read()) as Float32Array);
    return { values, launches: step.info.launches };
  });
}

for (const [name, make] of [
  ['sgd', (p: Tensor[]) => createSgd(p, { momentum: 0.9, weightDecay: 1e-2 })],
  ['adamw', (p: Tensor[]) => createAdamW(p)],
] as const) {
  test(`${name}: packed parameters take the same steps in fewer launches`, async () => {
    const plain = await network(make, false);
    const packed = await network(make, true);
    packed.values.forEach((values, i) => {
      closeTo(values, plain.values[i]!, { atol: 1e-7, rtol: 1e-6 }, `tensor ${i}`);
    });
    assert.ok(packed.launches < plain.launches, `${packed.launches} of ${plain.launches}`);
  });
}

test('packing keeps identity and values, and refuses what it cannot move', async () => {
  const gpu = await testGpu();
  const [a, b] = [tensor(gpu, [1, 2, 3]), tensor(gpu, [4, 5], [2, 1])];
  const { flat } = pack([a, b]);
  assert.equal([...(await a.read())], [1, 2, 3]);
  assert.equal([...(await b.read())], [4, 5]);
  b.write([6, 7]);
  assert.equal([...(await mul(b, 2).read())], [12, 14]);
  assert.equal(
    [...(await flat.read())].filter((v) => v !== 0),
    [1, 2, 3, 6, 7],
  );
  await refuses(() => pack([a]), ShapeError, /not packed yet/);
  await refuses(() => pack([tensor(gpu, [1], [1], { dtype: 'u32' })]), ShapeError, /expected f32/);
  await refuses(() => pack([]), ShapeError, /no tensors/);
});

test.run();
