// Safetensors files: round trip, PyTorch's layout, and every way a file can be wrong.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tensor, uniformStream } from '../../engine/index.js';
import { fromPyTorch, toPyTorch } from '../../model/index.js';
import { writeAtomically } from '../../train/files/atomic-file.js';
import {
  CheckpointError,
  loadTensors,
  readSafetensors,
  saveTensors,
  writeSafetensors,
} from '../../train/run/checkpoint.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('checkpoint');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-'));
const path = (name: string) => join(folder, name);

/** A file with this header text and this many bytes of data. */
function craft(header: unknown, dataBytes: number, headerBytes?: number): string {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes ?? text.length));
  const file = path(`crafted-${readdirSync(folder).length}.safetensors`);
  writeFileSync(file, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return file;
}

test('what is written is read, bit for bit, and no temporary file stays', () => {
  const arrays = new Map([
    ['a.weight', { shape: [2, 3], data: Float32Array.of(1, -0, 3e-42, 4, Number.NaN, 6) }],
    ['ä scalar', { shape: [], data: Float32Array.of(7) }],
  ]);
  writeSafetensors(path('x.safetensors'), arrays, { iteration: '5', note: 'größer' });
  const { arrays: read, metadata } = readSafetensors(path('x.safetensors'));
  assert.equal(metadata, { iteration: '5', note: 'größer' });
  for (const [name, { shape, data }] of arrays) {
    assert.equal(read.get(name)!.shape, shape);
    assert.equal(new Uint32Array(read.get(name)!.data.buffer), new Uint32Array(data.buffer));
  }
  assert.is(
    readdirSync(folder).some((name) => name.endsWith('.tmp')),
    false,
  );
  const bytes = readFileSync(path('x.safetensors'));
  assert.is(Number(bytes.readBigUInt64LE(0)) % 8, 0);
});

test('names with quotes, colons and braces are no duplicates of each other', () => {
  const arrays = new Map(
    ['a', 'a":', '{a', 'b\\', ''].map((name, i) => [name, { shape: [1], data: Float32Array.of(i) }]),
  );
  writeSafetensors(path('names.safetensors'), arrays, { a: '{"a": 1, "a": 2}' });
  assert.equal([...readSafetensors(path('names.safetensors')).arrays.keys()], [...arrays.keys()]);
});

test('an array that does not fill its shape is not written', async () => {
  const arrays = new Map([['a', { shape: [3], data: Float32Array.of(1) }]]);
  await refuses(() => writeSafetensors(path('bad.safetensors'), arrays), RangeError, /'a' has 1 numbers.*\[3\]/);
  assert.is(existsSync(path('bad.safetensors')), false);
});

test('a write that fails leaves the old file, and no other', () => {
  const place = mkdtempSync(join(tmpdir(), 'wgrad-'));
  const old = join(place, 'old.safetensors');
  writeAtomically(old, [Uint8Array.of(1, 2, 3)]);
  assert.throws(() => writeAtomically(old, [Uint8Array.of(9), null as unknown as Uint8Array]));
  assert.equal([...readFileSync(old)], [1, 2, 3]);
  mkdirSync(join(place, 'folder', 'x'), { recursive: true });
  assert.throws(() => writeAtomically(join(place, 'folder'), [Uint8Array.of(1)])); // a folder is not replaced
  assert.equal(readdirSync(place).sort(), ['folder', 'old.safetensors']);
});

test("layout goes to PyTorch's [O, I, kH, kW] and back", () => {
  const ours = { shape: [2, 3, 3, 4], data: Float32Array.from({ length: 72 }, (_, i) => i) };
  const theirs = toPyTorch(ours);
  assert.equal(theirs.shape, [2, 4, 3, 3]);
  // ours[o=1][y=2][x=0][i=3] = theirs[1][3][2][0]
  assert.is(theirs.data[((1 * 4 + 3) * 3 + 2) * 3 + 0], ours.data[((1 * 3 + 2) * 3 + 0) * 4 + 3]);
  assert.equal(fromPyTorch(theirs), ours);
  const volume = { shape: [2, 3, 1, 2, 5], data: Float32Array.from({ length: 60 }, (_, i) => i) };
  const moved = toPyTorch(volume);
  assert.equal(moved.shape, [2, 5, 3, 1, 2]);
  // [o=1][z=2][y=0][x=1][i=4] = [1][4][2][0][1]
  assert.is(moved.data[(((1 * 5 + 4) * 3 + 2) * 1 + 0) * 2 + 1], volume.data[(((1 * 3 + 2) * 1 + 0) * 2 + 1) * 5 + 4]);
  assert.equal(fromPyTorch(moved), volume);
  const bias = { shape: [2, 3, 4], data: Float32Array.from({ length: 24 }, (_, i) => i) };
  assert.equal(toPyTorch(bias), bias);
});

test('tensors round-trip; another architecture is refused by name', async () => {
  const gpu = await testGpu();
  const state = new Map([
    ['conv.weight', tensor(gpu, [1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 2, 2])],
    ['conv.bias', tensor(gpu, [1, 2])],
  ]);
  await saveTensors(path('m.safetensors'), state, { iteration: '3' });
  const other = new Map([
    ['conv.weight', tensor(gpu, 0, [2, 1, 2, 2])],
    ['conv.bias', tensor(gpu, 0, [2])],
  ]);
  assert.is(loadTensors(path('m.safetensors'), other).iteration, '3');
  assert.equal(await other.get('conv.weight')!.read(), await state.get('conv.weight')!.read());
  const wrong = new Map([
    ['conv.weight', tensor(gpu, 0, [3, 1, 2, 2])],
    ['norm.weight', tensor(gpu, 0, [2])],
  ]);
  await refuses(
    () => loadTensors(path('m.safetensors'), wrong),
    CheckpointError,
    /another architecture.*'conv.weight' has shape \[2,1,2,2\], expected \[3,1,2,2\].*'norm.weight' is missing.*'conv.bias' is unknown/,
  );
});

for (const [what, file, message] of [
  ['missing', () => path('nowhere.safetensors'), /cannot read/],
  [
    'empty',
    () => {
      writeFileSync(path('e'), '');
      return path('e');
    },
    /0 bytes/,
  ],
  ['a header longer than the file', () => craft('{}', 0, 1000), /header claims 1000/],
  ['a huge header', () => craft('{}', 0, 2 ** 40), /header claims/],
  ['a header that is no JSON', () => craft('{"a":', 0), /not JSON/],
  ['a header that is no object', () => craft('[1]', 0), /no JSON object/],
  [
    'another type',
    () => craft({ a: { dtype: 'U16', shape: [1], data_offsets: [0, 2] } }, 2),
    /'U16' is none of F64, F32/,
  ],
  [
    'a type from the prototype',
    () => craft({ a: { dtype: 'toString', shape: [1], data_offsets: [0, 2] } }, 2),
    /'toString' is none of/,
  ],
  [
    'a PyTorch file',
    () => {
      writeFileSync(path('model.pth'), Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(100)]));
      return path('model.pth');
    },
    /PyTorch checkpoint\. Convert it in Python/,
  ],
  ['negative sizes', () => craft({ a: { dtype: 'F32', shape: [-1], data_offsets: [0, 4] } }, 4), /malformed/],
  [
    'a shape that does not fill its bytes',
    () => craft({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 4] } }, 4),
    /does not fill/,
  ],
  ['a hole', () => craft({ a: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }, 8), /starts at 4, expected 0/],
  [
    'an overlap',
    () =>
      craft(
        {
          a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
          b: { dtype: 'F32', shape: [1], data_offsets: [4, 8] },
        },
        8,
      ),
    /starts at 4/,
  ],
  ['a truncated body', () => craft({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, 6), /truncated/],
  [
    'a name given twice',
    () =>
      craft(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
    /names 'a' twice/,
  ],
  ['metadata that are no texts', () => craft({ __metadata__: { iteration: 5 } }, 0), /metadata/],
  [
    'a size beyond all numbers',
    () => craft({ a: { dtype: 'F32', shape: [2 ** 40, 2 ** 40], data_offsets: [0, 4] } }, 4),
    /does not fill/,
  ],
  ['an entry that is null', () => craft('{"a":null}', 0), /malformed/],
  ['bytes left over', () => craft({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }, 9), /belong to no tensor/],
] as [string, () => string, RegExp][]) {
  test(`${what} is refused`, () => refuses(() => readSafetensors(file()), CheckpointError, message));
}

test('a bit that flipped is noticed; half, double and integer numbers are read', () => {
  const file = path('flipped.safetensors');
  writeSafetensors(file, new Map([['a', { shape: [4], data: Float32Array.of(1, 2, 3, 4) }]]));
  const bytes = readFileSync(file);
  for (const at of [bytes.length - 1, bytes.length - 16]) {
    const turned = Buffer.from(bytes);
    turned[at]! ^= 1;
    writeFileSync(file, turned);
    assert.throws(() => readSafetensors(file), /its bytes have changed since it was written/);
  }
  const header = JSON.stringify({
    half: { dtype: 'F16', shape: [2], data_offsets: [0, 4] },
    brain: { dtype: 'BF16', shape: [1], data_offsets: [4, 6] },
    double: { dtype: 'F64', shape: [1], data_offsets: [6, 14] },
    count: { dtype: 'I64', shape: [], data_offsets: [14, 22] },
  });
  const body = Buffer.alloc(22);
  body.writeUInt16LE(0x3c00, 0);
  body.writeUInt16LE(0xc100, 2);
  body.writeUInt16LE(0x4049, 4);
  body.writeDoubleLE(0.1, 6);
  body.writeBigInt64LE(30000n, 14);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(file, Buffer.concat([length, Buffer.from(header), body]));
  const { arrays } = readSafetensors(file);
  assert.equal(Object.fromEntries([...arrays].map(([name, { data }]) => [name, [...data]])), {
    half: [1, -2.5],
    brain: [3.140625],
    double: [Math.fround(0.1)],
    count: [30000],
  });
});

test('thousands of damages: the same numbers, or a CheckpointError', () => {
  const file = path('damaged.safetensors');
  writeSafetensors(
    file,
    new Map([
      ['weight', { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
      ['b', { shape: [1], data: Float32Array.of(7) }],
    ]),
    { config: '{}' },
  );
  const whole = readFileSync(file);
  const uniform = uniformStream(77);
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    let bytes = Buffer.from(whole);
    const at = Math.floor(uniform() * bytes.length);
    const kind = i % 4;
    if (kind === 0) bytes[at] = Math.floor(256 * uniform());
    else if (kind === 1) bytes = bytes.subarray(0, at);
    else if (kind === 2)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.floor(uniform() * bytes.length))]);
    else bytes.writeUInt32LE(Math.floor(2 ** 32 * uniform()), Math.min(at, bytes.length - 4));
    writeFileSync(file, bytes);
    if (bytes.equals(whole)) continue;
    try {
      readSafetensors(file);
      assert.unreachable(`damage ${i} at ${at} is not noticed`);
    } catch (error) {
      assert.ok(error instanceof CheckpointError && error.message.includes(file), String(error));
      refused++;
    }
  }
  assert.ok(refused > 2000, `${refused} refused`);
});

test.run();
