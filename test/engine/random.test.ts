// Philox4x32-10: the known answers of Random123 (kat_vectors), and the same words from the GPU as from the CPU.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, philox4x32, run, toUniform } from '../../engine/custom.js';
import { normalStream, tensor, uniformStream } from '../../engine/index.js';
import { philox } from '../../shaders/philox.js';
import { wgsl } from '../../shaders/wgsl.js';
import { testGpu } from '../gpu.js';

const test = suite('random');

const ones = 0xffffffff;
const known: [number[], number[], number[]][] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [ones, ones, ones, ones],
    [ones, ones],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

test('known answers', () => {
  for (const [counter, key, answer] of known) assert.equal(philox4x32(counter, key), answer);
});

test('the GPU draws the same words and uniform numbers', async () => {
  const gpu = await testGpu();
  const source = wgsl`
${philox}
@group(0) @binding(0) var<storage, read> counters: array<vec4u>;
@group(0) @binding(1) var<storage, read> keys: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> words: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> uniforms: array<f32>;
@compute @workgroup_size(64) fn draw(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&words)) { return; }
  words[id.x] = philox(counters[id.x], keys[id.x]);
  uniforms[id.x] = uniform01(words[id.x].x);
}`;
  const uniform = uniformStream(11);
  const word = (): number => Math.floor(uniform() * 2 ** 24) * 256 + Math.floor(uniform() * 256);
  const cases = [...known.map(([counter, key]) => ({ counter, key }))];
  while (cases.length < 1000) cases.push({ counter: [word(), word(), word(), word()], key: [word(), word()] });
  const counters = tensor(
    gpu,
    cases.flatMap(({ counter }) => counter),
    [1000, 4],
    { dtype: 'u32' },
  );
  const keys = tensor(
    gpu,
    cases.flatMap(({ key }) => key),
    [1000, 2],
    { dtype: 'u32' },
  );
  const words = empty(gpu, [1000, 4], 'u32');
  const uniforms = empty(gpu, [1000]);
  run(source, { counters, keys, words, uniforms }, { threads: 1000 });
  const expected = cases.map(({ counter, key }) => philox4x32(counter, key));
  assert.equal([...(await words.read())], expected.flat());
  assert.equal(
    [...(await uniforms.read())],
    expected.map(([first]) => toUniform(first)),
  );
});

test('streams are uniform, normal, repeatable and apart', () => {
  const size = 20_000;
  const take = (next: () => number): number[] => Array.from({ length: size }, next);
  const a = take(uniformStream(1));
  assert.equal(take(uniformStream(1)), a);
  for (const other of [uniformStream(2), uniformStream(1, 1)]) {
    const b = take(other);
    const correlation = a.reduce((sum, v, i) => sum + (v - 0.5) * (b[i]! - 0.5), 0) / (size / 12);
    assert.ok(Math.abs(correlation) < 5 / Math.sqrt(size));
  }
  assert.ok(a.every((v) => v >= 0 && v < 1));
  assert.ok(Math.abs(a.reduce((sum, v) => sum + v, 0) / size - 0.5) < 5 / Math.sqrt(12 * size));
  const n = take(normalStream(uniformStream(3)));
  assert.ok(Math.abs(n.reduce((sum, v) => sum + v, 0) / size) < 5 / Math.sqrt(size));
  assert.ok(Math.abs(n.reduce((sum, v) => sum + v * v, 0) / size - 1) < 5 * Math.sqrt(2 / size));
});

test.run();
