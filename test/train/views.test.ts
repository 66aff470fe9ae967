// What strong views are drawn, and what they do: bounds and shares of every number, what a draw depends on, and that the teacher's answer
// and the labels lie under the student's images as they lie under the weak ones.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../../engine/custom.js';
import { crossEntropy, mean, noGrad, slice, softmax, square, sub, tensor, uniformStream } from '../../engine/index.js';
import { mixItems, type View, viewTable } from '../../engine/method.js';
import { copyState } from '../../model/index.js';
import { UsageError } from '../../train/files/usage-error.js';
import { createNetwork } from '../../train/method/network.js';
import { createTeacher } from '../../train/method/teacher.js';
import { createTrainer, metricNames } from '../../train/method/trainer.js';
import { createViews, drawViews } from '../../train/method/views.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('strong views');

const configOf = (more: Record<string, unknown> = {}) =>
  resolveConfig({
    size: 48,
    features: '8,12',
    batch: 6,
    labeledBatch: 3,
    iterations: 4000,
    strong: 'both',
    seed: 11,
    ...more,
  });

const many = 2000;
const drawnOver = (config: ReturnType<typeof configOf>, item: number): View[] =>
  Array.from({ length: many }, (_, iteration) => drawViews(config, iteration)[item]!);

/** Whether the numbers fill [low, high] evenly: bounds, and the mean to five standard errors. */
function assertUniform(values: number[], low: number, high: number, what: string): void {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) / 50;
  assert.ok(least >= low && least < low + room, `${what}: from ${least}, expected ${low}`);
  assert.ok(most <= high && most > high - room, `${what}: to ${most}, expected ${high}`);
  const mean = values.reduce((a, b) => a + b) / values.length;
  const error = (high - low) / Math.sqrt(12 * values.length);
  assert.ok(Math.abs(mean - (low + high) / 2) < 5 * error, `${what}: mean ${mean}`);
}

const assertShare = (count: number, of: number, share: number, what: string): void =>
  assert.ok(Math.abs(count / of - share) < 5 * Math.sqrt((share * (1 - share)) / of), `${what}: ${count} of ${of}`);

test('unlabelled items: every number in its range, blur and noise half of the time, always a box', () => {
  const drawn = drawnOver(configOf(), 4);
  assertUniform(
    drawn.map((v) => Math.log(v.gamma!)),
    -0.5,
    0.5,
    'ln gamma',
  );
  assertUniform(
    drawn.map((v) => v.contrast!),
    0.6,
    1.4,
    'contrast',
  );
  assertUniform(
    drawn.map((v) => v.brightness!),
    -0.1,
    0.1,
    'brightness',
  );
  const blurs = drawn.map((v) => v.blur!).filter((v) => v > 0);
  assertShare(blurs.length, many, 0.5, 'blurred');
  assertUniform(blurs, 0.3, 1, 'blur');
  const noises = drawn.map((v) => v.noise!).filter((v) => v > 0);
  assertShare(noises.length, many, 0.5, 'noisy');
  assertUniform(noises, 0, 0.05, 'noise');
  for (const v of drawn) {
    assert.equal([v.endRow! - v.firstRow!, v.endColumn! - v.firstColumn!, v.firstPlane, v.endPlane], [32, 32, 0, 1]);
    assert.ok(v.firstRow! >= 0 && v.endRow! <= 48 && v.firstColumn! >= 0 && v.endColumn! <= 48);
    assert.is(v.turn, undefined);
  }
  assert.is(new Set(drawn.map((v) => v.firstRow)).size, 17, 'every place');
  assert.is(new Set(drawn.map((v) => v.firstColumn)).size, 17);
});

test('labelled items: intensities and boxes each half of the time, never a turn; with `unlabeled` as they are', () => {
  const drawn = drawnOver(configOf({ strongTurn: true }), 0);
  assertShare(drawn.filter((v) => v.gamma !== undefined).length, many, 0.5, 'intensities');
  assertShare(drawn.filter((v) => v.partner !== undefined).length, many, 0.5, 'pasted');
  assertShare(drawn.filter((v) => v.partner !== undefined && v.gamma !== undefined).length, many, 0.25, 'both');
  assert.ok(drawn.every((v) => v.turn === undefined));
  const weak = drawViews(configOf({ strong: 'unlabeled' }), 7);
  assert.equal(weak.slice(0, 3), [{}, {}, {}]);
  assert.equal(weak.slice(3), drawViews(configOf(), 7).slice(3), 'unlabelled items are drawn alike');
});

test('the partner is the next of the same kind, and the last has the first', () => {
  const config = configOf();
  const drawn = Array.from({ length: 40 }, (_, iteration) => drawViews(config, iteration));
  const partners = (item: number) => [
    ...new Set(drawn.map((views) => views[item]!.partner).filter((p) => p !== undefined)),
  ];
  assert.equal([0, 1, 2, 3, 4, 5].map(partners), [[1], [1], [-2], [1], [1], [-2]]);
  assert.is(drawViews(configOf({ method: 'supervised' }), 3).length, 3, 'labelled items only');
});

test('turns: all eight on squares, those that keep the sides elsewhere', () => {
  const turns = (more: Record<string, unknown>) =>
    [...new Set(drawnOver(configOf({ strongTurn: true, ...more }), 5).map((v) => v.turn!))].sort();
  assert.equal(turns({}), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(turns({ patch: [32, 48] }), [0, 2, 4, 6]);
});

test('volumes: a box of two thirds of every side; without cutmix none', () => {
  const volume = configOf({ patch: [12, 24, 36] });
  for (const v of drawViews(volume, 5).slice(3))
    assert.equal([v.endPlane! - v.firstPlane!, v.endRow! - v.firstRow!, v.endColumn! - v.firstColumn!], [8, 16, 24]);
  const planes = new Set(drawnOver(volume, 3).map((v) => v.firstPlane));
  assert.is(planes.size, 5);
  assert.ok(drawnOver(configOf({ cutmix: false }), 3).every((v) => v.endRow === undefined && v.partner === undefined));
});

test('a draw depends on seed, iteration and index alone', () => {
  const config = configOf();
  assert.equal(viewTable(drawViews(config, 9)), viewTable(drawViews(config, 9)));
  for (const other of [drawViews(configOf({ seed: 12 }), 9), drawViews(config, 10)]) {
    for (const item of [3, 4, 5]) assert.not.equal(other[item], drawViews(config, 9)[item]);
  }
  assert.not.equal(drawViews(config, 9)[3]!.gamma, drawViews(config, 9)[4]!.gamma);
  // In a larger batch the items before the last have the same views.
  const larger = drawViews(configOf({ batch: 9, labeledBatch: 3 }), 9);
  assert.equal(larger.slice(0, 5), drawViews(config, 9).slice(0, 5));
});

test('without noise, blur and other intensities the student sees what mixing says; the teacher is mixed alike', async () => {
  const gpu = await testGpu();
  for (const [method, items] of [
    ['mt', 2],
    ['uamt', 2],
    ['lccs', 4],
  ] as const) {
    const config = resolveConfig({
      ...{ method, size: 16, features: '4,8', dropout: '0', batch: 4, noise: 0, uncertaintyPasses: 1 },
      ...{ strong: 'both', strongTurn: true },
    });
    const views = createViews(gpu, config)!;
    views.setIteration(3);
    const uniform = uniformStream(2);
    const images = tensor(gpu, Float32Array.from({ length: 4 * sizeOf(config.patch) }, uniform), [4, 16, 16, 1]);
    const student = createNetwork(gpu, config);
    const [weak, mixed] = [createTeacher(gpu, config, student), createTeacher(gpu, config, student, views)];
    for (const teacher of [weak, mixed]) copyState(teacher.model, student);
    const rows = drawViews(config, 3).slice(4 - items);
    const draws = tensor(gpu, viewTable(rows), [items, 13]);
    const [plain, shown] = [weak.predict(images), mixed.predict(images)];
    const expected = (x: typeof images) => noGrad(gpu, () => mixItems(x, draws)).read();
    const logits = await expected(plain.logits);
    closeTo(await shown.logits.read(), logits, {}, `${method}: logits`);
    assert.not.equal([...logits], [...(await plain.logits.read())]);
    if (method === 'lccs') closeTo(await shown.features.read(), await expected(plain.features), {}, 'features');
  }
});

test("the trainer's losses are those of the strong views against mixed labels and the mixed answer to the weak ones", async () => {
  const gpu = await testGpu();
  const config = resolveConfig({
    ...{ method: 'mt', size: 16, features: '4,8', dropout: '0', batch: 4, noise: 0, strong: 'both', strongTurn: true },
    ...{ iterations: 40, seed: 3 },
  });
  const uniform = uniformStream(7);
  const pixels = Float32Array.from({ length: 4 * 256 }, uniform);
  const classes = Uint8Array.from(pixels, (v) => Math.floor(4 * v));
  const iteration = 20;
  assert.ok(
    drawViews(config, iteration).every(({ partner }) => partner),
    'an iteration in which every item has a box',
  );

  const trainer = createTrainer(gpu, config);
  trainer.setBatch(pixels, classes);
  trainer.setIteration(iteration);
  const got = await trainer.step().metrics.read();
  const logged = (name: string) => got[metricNames(config).indexOf(name)]!;

  const views = createViews(gpu, config)!;
  views.setIteration(iteration);
  const [images, labels] = [tensor(gpu, pixels, [4, 16, 16, 1]), tensor(gpu, classes, [4, 16, 16], { dtype: 'u8' })];
  const forward = (x: typeof images) => noGrad(gpu, () => createNetwork(gpu, config)(x, { mode: 'train' }));
  const p = forward(views.strong(images));
  const q = views.mix(forward(slice(images, 0, 2, 2)));
  const labeled = (y: typeof labels) => crossEntropy(slice(p, 0, 0, 2), slice(y, 0, 0, 2)).item();
  closeTo([logged('ce')], [await labeled(views.mix(labels))], { rtol: 1e-5 });
  assert.ok(Math.abs((await labeled(labels)) - logged('ce')) > 1e-3, 'labels that are not mixed are others');
  const distance = await mean(square(sub(softmax(slice(p, 0, 2, 2)), softmax(q)))).item();
  closeTo([logged('consistency')], [distance], { rtol: 1e-4 });
});

test('views without a reader are refused', () =>
  refuses(() => configOf({ method: 'supervised', strong: 'unlabeled' }), UsageError, /Use strong both, or none/));

test('no views: nothing is made', async () => {
  assert.is(createViews(await testGpu(), configOf({ strong: 'none' })), undefined);
  assert.equal(drawViews(configOf({ strong: 'none' }), 1), [{}, {}, {}, {}, {}, {}]);
});

test.run();
