// The step as files: what is written is what was run, under names and in a layout that PyTorch loads.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { exportWork } from '../../bench/export-work.js';
import { checkedSteps, middleOf, prepareOwnStep, readStepSettings } from '../../bench/step-work.js';
import { readSafetensors } from '../../train/run/checkpoint.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';

const test = suite('export-work');

test('a step of lccs, written and read back', async () => {
  const gpu = await testGpu();
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-export-'));
  try {
    const settings = readStepSettings({ size: 16, features: '4,8', batch: 2 });
    const { work, own } = await prepareOwnStep(gpu, settings);
    await exportWork(join(folder, 'new', 'place'), work, own);
    const at = (name: string): string => join(folder, 'new', 'place', name);
    const { config, numbers, losses } = JSON.parse(readFileSync(at('work.json'), 'utf8'));
    assert.equal(config, work.config);
    assert.equal(numbers[1], work.numbers(middleOf(work.config) + 1));

    const again = await prepareOwnStep(gpu, settings);
    for (let i = 0; i < checkedSteps; i++) {
      assert.is(await again.own.advance(middleOf(work.config) + i), losses[i], `loss ${i}`);
    }
    const initial = readSafetensors(at('initial.safetensors')).arrays;
    assert.equal(initial.get('encoder.in_conv.conv_conv.4.weight')!.shape, [4, 4, 3, 3]);
    assert.is(initial.size, work.initial.size);
    const expected = readSafetensors(at('expected.safetensors')).arrays;
    assert.is(expected.size, 2 * initial.size + 1);
    assert.equal(expected.get('prototypes.vectors')!.shape, [4, 32]);
    const name = 'decoder.out_conv.bias';
    closeTo(expected.get(`student.${name}`)!.data, (await again.own.state()).get(`student.${name}`)!, { atol: 0 });
    assert.is(readFileSync(at('images.f32')).length, 4 * 2 * 16 * 16);
    assert.is(readFileSync(at('labels.u8')).length, 2 * 16 * 16);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
