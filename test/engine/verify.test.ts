// A GPU that computes nothing, or the wrong thing, is told from one that works; the commands refuse it.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyDevice } from '../../engine/debug.js';
import { type Gpu, GpuError } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('verify');

const says =
  /^device: '.+' .*computes wrong results — a sum of squares came back as .*, expected \d+\. Update its driver, or use another/;

test('a GPU that works passes', async () => {
  await verifyDevice(await testGpu());
});

test('one that accepts everything and computes nothing does not', async () => {
  const gpu = await openDevice({ adapter: 'null', quiet: true });
  try {
    await refuses(() => verifyDevice(gpu), GpuError, says);
  } finally {
    gpu.close();
  }
});

/** A device of its own whose `queue.submit`, or pass, leaves something out. */
async function spoiled(spoil: (gpu: Gpu) => void): Promise<void> {
  const gpu = await openDevice({ quiet: true });
  try {
    spoil(gpu);
    await refuses(() => verifyDevice(gpu), GpuError, says);
  } finally {
    gpu.close();
  }
}

test('one that drops dispatches, or runs too few workgroups, or another text, does not', async () => {
  const change = (gpu: Gpu, dispatch: (real: (x: number) => undefined, x: number) => undefined): void => {
    const { device } = gpu;
    const create = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      const encoder = create(descriptor);
      const begin = encoder.beginComputePass.bind(encoder);
      encoder.beginComputePass = (of) => {
        const pass = begin(of);
        const real = pass.dispatchWorkgroups.bind(pass);
        pass.dispatchWorkgroups = (x: number) => dispatch(real, x);
        return pass;
      };
      return encoder;
    };
  };
  await spoiled((gpu) => change(gpu, () => undefined));
  await spoiled((gpu) => change(gpu, (real, x) => real(x - 1)));
  for (const [from, to] of [
    ['workgroupBarrier();', 'if (half == 2u) { break; } workgroupBarrier();'], // a tree that ends early
    ['value * value', 'value'],
  ] as const) {
    await spoiled(({ device }) => {
      const create = device.createShaderModule.bind(device);
      device.createShaderModule = (descriptor) => create({ ...descriptor, code: descriptor.code.replace(from, to) });
    });
  }
});

test('the commands end with exit code 1 and the sentence', async () => {
  const cli = join(fileURLToPath(new URL('../..', import.meta.url)), 'train/cli.js');
  const outcome = (...args: string[]) =>
    promisify(execFile)(process.execPath, [cli, ...args]).then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  const sentence = /computes wrong results — a sum of squares came back as/;
  for (const args of [
    ['info', '--check', '--adapter', 'null'],
    ['info', '--check', '--json', '--adapter', 'null'],
    ['bench', 'step', '--adapter', 'null'],
  ]) {
    const { code, stdout, stderr } = await outcome(...args);
    assert.is(code, 1, args.join(' '));
    assert.is(stdout, '');
    assert.match(stderr, sentence);
    assert.not.match(stderr, /^\s+at /m);
  }
  const { code, stdout } = await outcome('info', '--check', '--json');
  assert.is(code, 0);
  assert.is((JSON.parse(stdout) as { check: string }).check, 'passed');
});

test.run();
