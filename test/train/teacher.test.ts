// The teacher: what it sees, how it follows, and the entropy of several of its predictions, against plain numbers.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { noGrad, slice, tensor, uniformStream } from '../../engine/index.js';
import { copyState } from '../../model/index.js';
import { createNetwork } from '../../train/method/network.js';
import { createTeacher } from '../../train/method/teacher.js';
import { createTrainer } from '../../train/method/trainer.js';
import { type Config, resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { softmaxRows } from '../reference/softmax-rows.js';

const test = suite('teacher');

const configOf = (more: Record<string, unknown>): Config =>
  resolveConfig({ size: 16, features: '4,8', batch: 4, iterations: 40, lr: 0.05, dropout: '0.3', ...more });

async function teacherOf(config: Config) {
  const gpu = await testGpu();
  const student = createNetwork(gpu, { ...config, seed: 3 });
  const teacher = createTeacher(gpu, config, student);
  copyState(teacher.model, student);
  const uniform = uniformStream(2);
  const images = tensor(gpu, Float32Array.from({ length: 4 * 16 * 16 }, uniform), [4, 16, 16, 1]);
  teacher.random.setStep(5);
  return { student, teacher, images };
}

const entropies = (logits: ArrayLike<number>): number[] =>
  softmaxRows(ndArray([logits.length / 4, 4], logits)).map((p) =>
    p.reduce((sum, v) => sum - v * Math.log(v + 1e-6), 0),
  );

const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i]!)));

test('mt sees the unlabelled items, lccs the labelled ones before them, clean', async () => {
  for (const [method, items] of [
    ['mt', 2],
    ['uamt', 2],
    ['lccs', 4],
    ['lccs-consistency', 4],
    ['lccs-separation', 4],
  ] as const) {
    // Without noise and dropout the teacher is the student: batch statistics are of what it sees.
    const { student, teacher, images } = await teacherOf(configOf({ method, noise: 0, dropout: '0' }));
    const seen = slice(images, 0, 4 - items, items);
    const expected = noGrad(student.gpu, () => student(seen, { mode: 'train' }));
    closeTo(await teacher.predict(images).logits.read(), await expected.read(), { atol: 1e-6 }, method);
  }
});

test('noise changes what it says; in eval mode dropout does not', async () => {
  const eval_ = { method: 'mt', teacherMode: 'eval', emaBuffers: true };
  const logits = async (more: Record<string, unknown>) => {
    const { teacher, images } = await teacherOf(configOf(more));
    return teacher.predict(images).logits.read();
  };
  const [still, noisy] = [await logits({ ...eval_, noise: 0 }), await logits({ ...eval_, noise: 0.1 })];
  assert.ok(apart(still, noisy) > 1e-3);
  closeTo(still, await logits({ ...eval_, noise: 0, dropout: '0' }), {}, 'no dropout in eval mode');
  const train = { method: 'mt', noise: 0 };
  assert.ok(apart(await logits(train), await logits({ ...train, dropout: '0' })) > 1e-3, 'dropout in train mode');
});

test('passes that do not differ have the entropy of one; noise and dropout make each pass another', async () => {
  const same = await teacherOf(configOf({ method: 'uamt', noise: 0, dropout: '0', uncertaintyPasses: 3 }));
  const { logits } = same.teacher.predict(same.images);
  const got = same.teacher.uncertainty(same.images);
  assert.equal(got.shape, [2, 16, 16]);
  closeTo(await got.read(), entropies(await logits.read()), { atol: 3e-6 });
  for (const more of [{ noise: 0.1, dropout: '0' }, { noise: 0 }]) {
    const values = [];
    for (const uncertaintyPasses of [1, 2, 8]) {
      const { teacher, images } = await teacherOf(configOf({ method: 'uamt', ...more, uncertaintyPasses }));
      values.push(await teacher.uncertainty(images).read());
    }
    // The first pass is the same in all three: if the others were, too, so would be the entropies.
    assert.ok(apart(values[0]!, values[1]!) > 1e-4 && apart(values[1]!, values[2]!) > 1e-4, JSON.stringify(more));
  }
});

test('running statistics: left alone in eval mode but for the average, or by default those of its own passes', async () => {
  const gpu = await testGpu();
  const names = ['running_mean', 'running_var'].map((part) => `encoder.in_conv.conv_conv.1.${part}`);
  for (const [more, follows] of [
    [{ method: 'mt', teacherMode: 'eval', emaBuffers: true }, true],
    [{ method: 'mt' }, false],
  ] as const) {
    const trainer = createTrainer(gpu, configOf(more));
    const uniform = uniformStream(4);
    const images = Float32Array.from({ length: 4 * 16 * 16 }, uniform);
    trainer.setBatch(
      images,
      Uint8Array.from(images, (v) => Math.floor(4 * v)),
    );
    const values = (who: string) =>
      Promise.all(names.map(async (name) => [...(await trainer.state.get(`${who}.${name}`)!.read())]));
    for (const [iteration, decay] of [
      [0, 0],
      [3, 0.75],
      [500, 0.99],
    ] as const) {
      const before = await values('teacher');
      trainer.setIteration(iteration);
      trainer.step();
      const [student, after] = [await values('student'), await values('teacher')];
      const expected = before.map((row, n) => row.map((v, c) => decay * v + (1 - decay) * student[n]![c]!));
      if (follows) closeTo(after.flat(), expected.flat(), { rtol: 1e-5, atol: 1e-7 }, `iteration ${iteration}`);
      else assert.ok(apart(after.flat(), expected.flat()) > 1e-4, 'its own passes moved them');
    }
  }
});

test.run();
