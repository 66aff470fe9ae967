// Random programs against a float64 tape of their own (`npm run fuzz` draws more of them), and that a planted fault is found.
import { spawnSync } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  conv,
  createSgd,
  crossEntropy,
  type Gpu,
  leakyRelu,
  max,
  mean,
  mul,
  noGrad,
  scope,
  square,
  sub,
  type Tensor,
  tensor,
  uniformStream,
} from '../engine/index.js';
import * as ops from '../engine/ops/index.js';
import { checkProgram, modesOf } from './fuzz/check.js';
import { expectations } from './fuzz/expected.js';
import { drawProgram } from './fuzz/generate.js';
import { meanings } from './fuzz/meaning.js';
import { around, left, rows } from './fuzz/ops.js';
import { codeOf } from './fuzz/print.js';
import { type Api, constants, differentiatedOps, opsOf, type Program, random } from './fuzz/program.js';
import { runProgram, wholeApi } from './fuzz/run.js';
import { lacking, testGpu } from './gpu.js';
import { unless } from './unless.js';

const test = suite('fuzz');
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const few = { half: false, calls: [14, 22], narrow: true, turns: 5 } as const;
const seeds = Array.from({ length: 20 }, (_, i) => i + 5);
const drawn = new Map(seeds.map((seed) => [seed, drawProgram(seed, few)]));

for (const first of [5, 12, 19]) {
  const some = seeds.filter((seed) => seed >= first && seed < first + 7);
  test(`random programs of seeds ${some[0]} to ${some.at(-1)}`, async () => {
    const gpu = await testGpu();
    for (const seed of some) {
      const { report } = await checkProgram(gpu, drawn.get(seed)!, seed);
      assert.not(report, `seed ${seed}: ${report}`);
    }
  });
}

const inPrograms = [...rows.flatMap(({ names }) => names), ...around].sort();

test('every op is drawn, or left out for a reason', () => {
  const functions = Object.entries(ops).flatMap(([name, value]) => (typeof value === 'function' ? [name] : []));
  assert.equal([...inPrograms, ...Object.keys(left)].sort(), functions.sort());
  const calls = inPrograms.filter((name) => !(around as readonly string[]).includes(name));
  assert.equal(Object.keys(meanings).sort(), calls);
});

test('these programs compare what depends on each op, and gradients that went through it', () => {
  const all = [...drawn.values()];
  const compared = new Set(all.flatMap((program) => [...opsOf(program, true)]));
  const differentiated = new Set(all.flatMap((program) => [...differentiatedOps(program)]));
  const lacking = (names: readonly string[], among: ReadonlySet<string>): string[] =>
    names.filter((n) => !among.has(n));
  // A cast has a gradient from f16 and to it alone.
  const constant = (name: string): boolean =>
    constants.has(name) || name === 'cast' || (around as readonly string[]).includes(name);
  assert.equal(lacking(inPrograms.filter(constant), compared), []);
  assert.equal(
    lacking(
      inPrograms.filter((name) => !constant(name)),
      differentiated,
    ),
    [],
  );
});

unless(await lacking('shader-f16'), test)('random programs with f16, of seeds 28 to 31', async () => {
  const gpu = await testGpu();
  for (let seed = 28; seed < 32; seed++) {
    const { report } = await checkProgram(gpu, drawProgram(seed, { half: true, calls: [14, 22], narrow: true }), seed);
    assert.not(report, `seed ${seed}: ${report}`);
  }
});

test('the modes of four seeds are all combinations of pooling and poison, eager and captured, fused and not', () => {
  const all = [0, 1, 2, 3].flatMap((seed) => modesOf(seed).map((mode) => JSON.stringify(mode)));
  assert.is(new Set(all).size, 16);
});

/** A program that has much in it. */
const rich: Program = {
  seed: 7,
  leaves: [
    { id: 1, kind: 'input', shape: [1, 4, 6, 4], low: -1, high: 1 },
    { id: 2, kind: 'parameter', shape: [4, 3, 3, 4], low: -0.3, high: 0.3 },
    { id: 3, kind: 'parameter', shape: [4], low: 0.5, high: 1.5 },
    { id: 4, kind: 'parameter', shape: [4], low: -0.5, high: 0.5 },
    { id: 5, kind: 'running', shape: [4], low: -0.5, high: 0.5 },
    { id: 6, kind: 'running', shape: [4], low: 0.5, high: 1.5 },
    { id: 7, kind: 'labels', shape: [1, 4, 6], low: 0, high: 4 },
    { id: 8, kind: 'teacher', shape: [4, 3, 3, 4], low: -0.3, high: 0.3 },
    { id: 9, kind: 'teacher', shape: [4], low: 0.5, high: 1.5 },
    { id: 17, kind: 'teacher', shape: [4], low: -0.5, high: 0.5 },
  ],
  calls: [
    { id: 10, name: 'conv', args: [{ $: 1 }, { $: 2 }, { $: 4 }, { statistics: true }] },
    {
      id: 11,
      name: 'normActivation',
      args: [
        { $: 10 },
        { $: 3 },
        { $: 4 },
        {
          running: { mean: { $: 5 }, variance: { $: 6 } },
          mode: 'train',
          slope: 0.2,
          dropout: { rate: 0.5, random },
        },
      ],
    },
    { id: 12, name: 'add', args: [{ $: 11 }, { $: 1 }] },
    { id: 13, name: 'crossEntropy', args: [{ $: 12 }, { $: 7 }] },
    { id: 14, name: 'conv', args: [{ $: 1 }, { $: 8 }], untracked: true },
    { id: 15, name: 'mean', args: [{ $: 14 }] },
    { id: 16, name: 'max', args: [{ $: 12 }, [-1]] },
  ],
  outputs: [13, 16],
  reads: [13, 15, 16],
  wanted: [12],
  early: false,
  seeded: false,
  stepping: {
    kind: 'sgd',
    parameters: [2, 3, 4],
    packed: true,
    guarded: true,
    teacher: { ids: [8, 9, 17], packed: true, by: 'average' },
  },
  steps: 3,
};

test('a planted fault is found, and shrunk to little', async () => {
  const gpu = await testGpu();
  const faults: [string, Record<string, unknown>][] = [
    ['a value', { max: (x: Tensor, axes: number[]) => add(max(x, axes), 0.001) }],
    ['a gradient', { crossEntropy: (x: Tensor, labels: Tensor) => steeper(crossEntropy(x, labels)) }],
  ];
  for (const [what, wrong] of faults) {
    const { report, shrunk } = await checkProgram(gpu, rich, 1, { ...wholeApi, ...wrong } as Api);
    assert.ok(report, `${what}: nothing was found`);
    assert.ok(shrunk!.calls.length <= 2, `${what}: ${shrunk!.calls.length} calls are left:\n${report}`);
    assert.not(shrunk!.stepping);
    assert.match(report!, what === 'a value' ? /value 16.*expected/ : /gradient of \d+.*expected/);
  }
  assert.not((await checkProgram(gpu, rich, 1)).report, 'without a fault, nothing is found');
});

/** The same value and a gradient that is a tenth of a percent too large. */
const steeper = (x: Tensor): Tensor => {
  const constant = noGrad(x.gpu, () => mul(x, 1));
  return add(x, mul(sub(x, constant), 0.001));
};

test('what is printed of a program runs, and gives what was expected', async () => {
  const gpu = await testGpu();
  for (const mode of modesOf(2).slice(1, 3)) {
    const expected = expectations(rich, 4);
    const { fault } = await runProgram(gpu, rich, mode, expected);
    assert.not(fault);
    const step = 1;
    const name = 'gradient of 2';
    const want = expected.steps[step]!.get(name)!;
    const at = { name, index: 5, got: 0, expected: want.data[5]! };
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', codeOf(rich, { mode, step, what: '', at })],
      {
        cwd: root,
        encoding: 'utf8',
        timeout: 120_000,
      },
    );
    assert.is(status, 0, stderr);
    assert.ok(Math.abs(Number(stdout) - want.data[5]!) <= want.tolerance[5]!, `${stdout} is not ${want.data[5]}`);
  }
});

/** Losses of a net of three residual blocks that learns to be a fixed one. */
async function residualLosses(gpu: Gpu, fuse: boolean): Promise<number[]> {
  const before = { ...gpu.flags };
  gpu.flags.fuse = fuse;
  try {
    return await scope(gpu, async () => {
      const uniform = uniformStream(3);
      const data = (shape: number[], size: number, requiresGrad = false): Tensor =>
        tensor(
          gpu,
          Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => size * (2 * uniform() - 1)),
          shape,
          { requiresGrad },
        );
      const net = (requiresGrad: boolean): Tensor[] => [0, 1, 2].map(() => data([4, 3, 3, 4], 0.25, requiresGrad));
      const forward = (weights: readonly Tensor[], x: Tensor): Tensor =>
        weights.reduce((h, weight) => leakyRelu(add(leakyRelu(conv(h, weight), 0.1), h), 0.1), x);
      const x = data([2, 4, 6, 4], 1);
      const [student, aim] = [net(true), net(false)];
      const optimizer = createSgd(student, { momentum: 0.9 });
      const lr = tensor(gpu, 0.02);
      const step = capture(gpu, () => {
        const loss = mean(square(sub(forward(student, x), forward(aim, x))));
        optimizer.step(backward(loss), lr);
        return loss;
      });
      const losses: number[] = [];
      for (let i = 0; i < 150; i++) losses.push(await step().item());
      return losses;
    });
  } finally {
    Object.assign(gpu.flags, before);
  }
}

test('150 losses of a residual net agree, fused and not, and fall', async () => {
  const gpu = await testGpu();
  const [fused, plain] = [await residualLosses(gpu, true), await residualLosses(gpu, false)];
  fused.forEach((loss, i) => {
    assert.ok(Math.abs(loss - plain[i]!) <= 1e-3 * plain[i]!, `loss ${i} is ${loss} fused and ${plain[i]} plain`);
  });
  assert.ok(plain[149]! < 0.05 * plain[0]!, `${plain[0]} fell to ${plain[149]}`);
});

test.run();
