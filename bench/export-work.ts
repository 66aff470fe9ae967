// The step of `wgrad bench peers` as files, for an engine outside of this process (bench/pytorch/step.py): settings and numbers of
// three iterations, batch, initial weights, and what wgrad made of them.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type NamedArray, toPyTorch } from '../model/index.js';
import { writeSafetensors } from '../train/run/checkpoint.js';
import { checkedSteps, middleOf, runSteps, type StepContender, type StepWork } from './step-work.js';

/** Writes `work.json`, `images.f32`, `labels.u8`, `initial.safetensors` and `expected.safetensors` (PyTorch's names and layout). */
export async function exportWork(folder: string, work: StepWork, own: StepContender): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const { config, images, labels, initial } = work;
  const first = middleOf(config);
  const numbers = Array.from({ length: checkedSteps }, (_, i) => work.numbers(first + i));
  const { losses, state } = await runSteps(own, first);
  const shapes = new Map([...initial].map(([name, { shape }]) => [name, shape]));
  const expected = new Map<string, NamedArray>();
  for (const [name, data] of state) {
    const shape = shapes.get(name.replace(/^(student|teacher)\./, '')) ?? [
      config.classes,
      data.length / config.classes,
    ];
    expected.set(name, toPyTorch({ shape, data }));
  }
  const before = [...initial].map(
    ([name, { shape, values }]) => [name, toPyTorch({ shape, data: values })] as [string, NamedArray],
  );
  writeSafetensors(join(folder, 'initial.safetensors'), new Map(before));
  writeSafetensors(join(folder, 'expected.safetensors'), expected);
  writeFileSync(join(folder, 'images.f32'), images);
  writeFileSync(join(folder, 'labels.u8'), labels);
  writeFileSync(join(folder, 'work.json'), `${JSON.stringify({ config, numbers, losses }, null, 2)}\n`);
}
