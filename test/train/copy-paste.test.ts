// Bidirectional copy-paste: its loss and gradient against plain loops in float64, its pre-training, and the switch between the two.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../../engine/custom.js';
import { backward, type Gpu, scope, tensor, uniformStream } from '../../engine/index.js';
import type { View } from '../../engine/method.js';
import { type PastedBatch, pastedLosses, pretrainingLosses } from '../../train/method/copy-paste.js';
import type { Teacher } from '../../train/method/teacher.js';
import { createTrainer, metricNames, type Trainer } from '../../train/method/trainer.js';
import { createViews, drawViews } from '../../train/method/views.js';
import { type Config, resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { argmaxOf, softmaxRows } from '../reference/softmax-rows.js';

const test = suite('copy-paste');

const side = 8;
const area = side * side;
const classes = 3;
const configOf = (more: Record<string, unknown> = {}): Config =>
  resolveConfig({
    method: 'bcp',
    size: side,
    features: '4,8',
    classes,
    batch: 5,
    labeledBatch: 2,
    iterations: 30,
    ...more,
  });

const isInside = ({ firstRow = 0, endRow = 0, firstColumn = 0, endColumn = 0 }: View, pixel: number): boolean => {
  const [row, column] = [Math.floor(pixel / side), pixel % side];
  return row >= firstRow && row < endRow && column >= firstColumn && column < endColumn;
};

/** ½ (CE + Dice) over the pixels of `items` whose class is known (−1: not), of logits [pixels of all items][classes]. */
function supervised(p: ArrayLike<number>[], classOf: number[], items: number[]): number {
  const counted = items.flatMap((item) =>
    Array.from({ length: area }, (_, i) => item * area + i).filter((i) => classOf[i]! >= 0),
  );
  const cross = counted.reduce((sum, i) => sum - Math.log(p[i]![classOf[i]!]!), 0) / counted.length;
  let dice = 1;
  for (let k = 0; k < classes; k++) {
    let [top, bottom] = [1e-5, 1e-5];
    for (const i of counted) {
      const y = classOf[i] === k ? 1 : 0;
      top += 2 * p[i]![k]! * y;
      bottom += p[i]![k]! ** 2 + y;
    }
    dice -= top / bottom / classes;
  }
  return 0.5 * (cross + dice);
}

interface Data {
  student: Float32Array;
  teacher: Float32Array;
  labels: Uint8Array;
}

function draw({ batch, labeledBatch }: Config): Data {
  const uniform = uniformStream(3, 9);
  const logits = (items: number) => Float32Array.from({ length: items * area * classes }, () => 4 * uniform() - 2);
  const [student, teacher] = [logits(batch), logits(batch - labeledBatch)];
  return { student, teacher, labels: Uint8Array.from({ length: batch * area }, () => Math.floor(classes * uniform())) };
}

/** The loss by its definition: both directions, labelled and pseudo-labelled pixels apart. */
function reference(config: Config, views: View[], { student, teacher, labels }: Data, weight: number): number {
  const { batch, labeledBatch: labeled } = config;
  const p = softmaxRows(ndArray([batch * area, classes], student));
  const guessed = softmaxRows(ndArray([(batch - labeled) * area, classes], teacher)).map(argmaxOf);
  const truth: number[] = [];
  const pseudo: number[] = [];
  for (let item = 0; item < batch; item++) {
    for (let i = 0; i < area; i++) {
      const source = isInside(views[item]!, i) ? item + views[item]!.partner! : item;
      const isLabeled = source < labeled;
      truth.push(isLabeled ? labels[source * area + i]! : -1);
      pseudo.push(isLabeled ? -1 : guessed[(source - labeled) * area + i]!);
    }
  }
  const directions = [
    [0, labeled],
    [labeled, batch],
  ].map(([first, end]) => Array.from({ length: end! - first! }, (_, i) => first! + i));
  const sum = (classOf: number[]) => directions.reduce((total, items) => total + supervised(p, classOf, items), 0);
  return sum(truth) + weight * sum(pseudo);
}

/** A batch whose student and teacher say what they are told. */
function batchOf(gpu: Gpu, config: Config, data: Data, iteration: number) {
  const { batch, labeledBatch } = config;
  const views = createViews(gpu, config)!;
  views.setIteration(iteration);
  const logits = tensor(gpu, data.student, [batch, side, side, classes], { requiresGrad: true });
  const pasted: PastedBatch = {
    images: tensor(gpu, 0, [batch, side, side, 1]),
    labels: tensor(gpu, data.labels, [batch, side, side], { dtype: 'u8' }),
    labeledItems: labeledBatch,
    views,
    diceClasses: 'all' as const,
    student: () => logits,
  };
  const teacher = {
    predict: () => ({ logits: tensor(gpu, data.teacher, [batch - labeledBatch, side, side, classes]) }),
  } as unknown as Teacher;
  return { pasted, teacher, logits };
}

test('value, terms and gradient are those of plain loops', async () => {
  const gpu = await testGpu();
  const config = configOf();
  const views = drawViews(config, 20);
  const data = draw(config);
  for (const fuse of [true, false]) {
    const before = gpu.flags.fuse;
    gpu.flags.fuse = fuse;
    try {
      const { pasted, teacher, logits } = batchOf(gpu, config, data, 20);
      const weight = 0.7;
      const { loss, apart, logged } = pastedLosses(pasted, teacher, tensor(gpu, weight));
      const expected = reference(config, views, data, weight);
      closeTo([await loss.item()], [expected], { rtol: 1e-5 });
      const known = reference(config, views, data, 0);
      closeTo([await apart.supervised.item()], [known], { rtol: 1e-5 });
      closeTo([await apart.consistency!.item()], [expected - known], { rtol: 1e-5 });
      closeTo([await logged[1]!.item()], [(expected - known) / weight], { rtol: 1e-5 });
      const [cross = 0, dice = 0] = await logged[0]!.read();
      closeTo([cross + dice], [known], { rtol: 1e-5 }, '½ (CE + Dice) of both directions: their means add up to it');
      const slopes = await backward(loss).get(logits)!.read();
      for (let at = 1; at < slopes.length; at += 37) {
        const moved = (by: number) => {
          const student = Float64Array.from(data.student) as unknown as Float32Array;
          student[at]! += by;
          return reference(config, views, { ...data, student }, weight);
        };
        closeTo([slopes[at]!], [(moved(1e-5) - moved(-1e-5)) / 2e-5], { atol: 1e-6, rtol: 1e-3 }, `element ${at}`);
      }
    } finally {
      gpu.flags.fuse = before;
    }
  }
});

test('boxes: two thirds of each side, of the other kind; in the pre-training of labelled items alone', () => {
  const config = configOf();
  const partners = (iteration: number) => drawViews(config, iteration).map(({ partner }, item) => item + partner!);
  assert.equal(partners(10), [3, 4, 1, 0, 1], 'after a third of the iterations');
  assert.equal(partners(9).slice(0, 2), [1, 0]);
  for (const view of drawViews(config, 10)) {
    assert.equal([view.endRow! - view.firstRow!, view.endColumn! - view.firstColumn!], [5, 5]);
    assert.is(view.gamma, undefined, 'intensities stay unless strong views are wanted');
  }
  assert.ok(drawViews(configOf({ strong: 'unlabeled' }), 10)[4]!.gamma! > 0);
});

test('the pre-training counts every pixel of the mixed labelled items', async () => {
  const gpu = await testGpu();
  const config = configOf();
  const data = draw(config);
  const { pasted } = batchOf(gpu, config, data, 3);
  const logits = tensor(gpu, data.student.subarray(0, 2 * area * classes), [2, side, side, classes], {
    requiresGrad: true,
  });
  const { loss } = pretrainingLosses({ ...pasted, student: () => logits });
  const views = drawViews(config, 3);
  const classOf = Array.from({ length: 2 * area }, (_, i) => {
    const item = Math.floor(i / area);
    const source = isInside(views[item]!, i % area) ? item + views[item]!.partner! : item;
    return data.labels[source * area + (i % area)]!;
  });
  const p = softmaxRows(ndArray([2 * area, classes], data.student.subarray(0, 2 * area * classes)));
  closeTo([await loss.item()], [supervised(p, classOf, [0, 1])], { rtol: 1e-5 });
});

const trainerOf = (gpu: Gpu, more: Record<string, unknown> = {}): Trainer => {
  const trainer = createTrainer(gpu, configOf({ size: 16, lr: 0.05, ...more }));
  const { config } = trainer;
  const uniform = uniformStream(1);
  const images = Float32Array.from({ length: sizeOf(config.patch) * config.batch }, uniform);
  trainer.setBatch(
    images,
    Uint8Array.from(images, (v) => Math.floor(classes * v)),
  );
  return trainer;
};

test('until the pre-training ends nothing of the unlabelled items matters, and the teacher is the student', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const [one, other] = [trainerOf(gpu), trainerOf(gpu)];
    const uniform = uniformStream(2);
    const images = Float32Array.from({ length: 16 * 16 * 5 }, uniformStream(1));
    const labels = Uint8Array.from(images, (v) => Math.floor(classes * v));
    images.subarray(2 * 256).forEach((_, i) => {
      images[2 * 256 + i] = uniform();
    });
    other.setBatch(images, labels.fill(255, 2 * 256));
    for (const trainer of [one, other]) {
      for (const i of [8, 9]) {
        assert.is(trainer.setIteration(i).consistencyWeight, 0);
        const metrics = await trainer.step().metrics.read();
        assert.equal(metrics.length, metricNames(trainer.config).length);
        assert.is(metrics.at(-1), 0, 'no consistency');
      }
    }
    for (const [name, value] of one.state) {
      closeTo(await other.state.get(name)!.read(), await value.read(), {}, name);
      if (!name.startsWith('student.') || name.includes('running')) continue;
      closeTo(await one.state.get(name.replace('student', 'teacher'))!.read(), await value.read(), {}, name);
    }
    for (const trainer of [one, other]) {
      assert.is(trainer.setIteration(10).consistencyWeight, 0.5);
      const metrics = await trainer.step().metrics.read();
      const [loss = 0, cross = 0, dice = 0, consistency = 0] = metrics;
      closeTo([loss], [cross + dice + 0.5 * consistency], { rtol: 1e-6 });
    }
    const name = 'student.encoder.in_conv.conv_conv.0.weight';
    const [a, b] = await Promise.all([one, other].map((trainer) => trainer.state.get(name)!.read()));
    assert.ok(
      a!.some((v, i) => v !== b![i]),
      'now they do matter',
    );
  });
});

test('gradients of both terms; the labels of unlabelled items are never looked at', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const [one, other] = [trainerOf(gpu), trainerOf(gpu)];
    const images = Float32Array.from({ length: 16 * 16 * 5 }, uniformStream(1));
    const labels = Uint8Array.from(images, (v) => Math.floor(classes * v)).fill(1, 2 * 256);
    other.setBatch(images, labels);
    for (const trainer of [one, other]) trainer.setIteration(20);
    const [shares, same] = [await one.probe().read(), await other.probe().read()];
    assert.equal([...shares], [...same]);
    const [known = 0, guess = 0, cosine = 0] = shares;
    assert.ok(known > 0 && guess > 0 && Math.abs(cosine) < 1, `${shares}`);
    assert.equal([...(await one.step().metrics.read())], [...(await other.step().metrics.read())]);
  });
});

test('both kinds are normalised apart and the teacher sees no noise, whatever the settings say', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const numbers = async (more: Record<string, unknown>) => {
      const trainer = trainerOf(gpu, more);
      trainer.setIteration(20);
      return [...(await trainer.step().metrics.read())];
    };
    const others = { noise: 0.5, statistics: 'apart', consistency: 'kl', consistencyWeight: 7, cutmix: false };
    assert.equal(await numbers(others), await numbers({}));
    assert.not.equal(await numbers({ pseudoWeight: 1 }), await numbers({}));
  });
});

test('volumes', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const trainer = trainerOf(gpu, { patch: '4,8,8', size: undefined, strong: 'both', strongTurn: true });
    for (const i of [9, 10]) {
      trainer.setIteration(i);
      assert.ok((await trainer.step().metrics.read()).every(Number.isFinite));
    }
  });
});

test.run();
