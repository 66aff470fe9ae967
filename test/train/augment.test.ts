// Augmentation: what each transform does to pixels (numpy and scipy say), and that drawing one is a pure function.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { applyTransform, drawTransform, type Transform, transformedShape } from '../../train/data/augment.js';
import { sampleOnGrid } from '../../train/data/samples.js';

const test = suite('augment');
const counting = (count: number) => Uint8Array.from({ length: count }, (_, i) => i);

test('quarter turns and flips agree with np.flip(np.rot90(a, turns), flip)', () => {
  // a = np.arange(9).reshape(3, 3)
  const expected = [
    ['678345012', '210543876'],
    ['036147258', '852741630'],
    ['210543876', '678345012'],
    ['852741630', '036147258'],
  ];
  for (const turns of [0, 1, 2, 3] as const) {
    for (const flip of [0, 1] as const) {
      assert.is(
        applyTransform(counting(9), [3, 3], { kind: 'turnAndFlip', turns, flip }).join(''),
        expected[turns]![flip],
      );
    }
  }
});

test('rotation agrees with scipy.ndimage.rotate(order=0, reshape=False)', () => {
  // b = np.arange(1, 26).reshape(5, 5)
  const source = Uint8Array.from({ length: 25 }, (_, i) => i + 1);
  const rotated = (degrees: number) => [...applyTransform(source, [5, 5], { kind: 'rotate', degrees })];
  assert.equal(rotated(17), [0, 0, 4, 5, 0, 1, 7, 8, 9, 0, 6, 12, 13, 14, 20, 0, 17, 18, 19, 25, 0, 21, 22, 0, 0]);
  assert.equal(rotated(-12.5), [0, 2, 3, 0, 0, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0, 0, 23, 24, 0]);
});

test('pictures that are not square: scipy.ndimage.rotate, and np.rot90 swaps the sides', () => {
  // a = np.arange(1, 29).reshape(4, 7)
  const source = Uint8Array.from({ length: 28 }, (_, i) => i + 1);
  const rotated = (degrees: number) => [...applyTransform(source, [4, 7], { kind: 'rotate', degrees })];
  assert.equal(
    rotated(13),
    [0, 0, 0, 4, 5, 6, 0, 1, 9, 10, 11, 12, 13, 0, 0, 16, 17, 18, 19, 20, 28, 0, 23, 24, 25, 0, 0, 0],
  );
  assert.equal(
    rotated(-20),
    [0, 9, 3, 3, 0, 0, 0, 15, 16, 10, 11, 12, 6, 7, 22, 23, 17, 18, 19, 13, 14, 0, 0, 0, 26, 26, 20, 0],
  );
  const turn = { kind: 'turnAndFlip', turns: 1, flip: 1 } as const;
  assert.equal(transformedShape([4, 7], turn), [7, 4]);
  assert.equal(transformedShape([4, 7], { ...turn, turns: 2 }), [4, 7]);
  // np.flip(np.rot90(a, 1), 1)
  assert.equal([...applyTransform(source, [4, 7], turn)].slice(0, 8), [28, 21, 14, 7, 27, 20, 13, 6]);
});

test('as SSL4MIS does it: turned or rotated at its own size, then scipy.ndimage.zoom(order=0) to 6×6', () => {
  const source = Uint8Array.from({ length: 28 }, (_, i) => i + 1);
  const slice = {
    id: 'a',
    z: 0,
    image: Float32Array.from(source),
    label: source,
    shape: [1, 4, 7],
    spacing: [1, 1, 1],
  } as const;
  const drawn = (transform: Transform) => sampleOnGrid(slice, { patch: [6, 6] }, transform);
  const expected = [
    [
      { kind: 'turnAndFlip', turns: 3, flip: 1 },
      [
        1, 8, 8, 15, 15, 22, 2, 9, 9, 16, 16, 23, 3, 10, 10, 17, 17, 24, 5, 12, 12, 19, 19, 26, 6, 13, 13, 20, 20, 27,
        7, 14, 14, 21, 21, 28,
      ],
    ],
    [
      { kind: 'rotate', degrees: 13 },
      [
        0, 0, 0, 5, 6, 0, 1, 9, 10, 12, 13, 0, 1, 9, 10, 12, 13, 0, 0, 16, 17, 19, 20, 28, 0, 16, 17, 19, 20, 28, 0, 23,
        24, 0, 0, 0,
      ],
    ],
  ] as const;
  for (const [transform, values] of expected) {
    assert.equal([...drawn(transform).label!], values);
    assert.equal([...drawn(transform).image], values);
  }
});

test('identity and a rotation by 0° are exact copies, not the same memory', () => {
  for (const size of [1, 4, 7]) {
    const source = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
    for (const transform of [{ kind: 'identity' }, { kind: 'rotate', degrees: 0 }] as Transform[]) {
      const result = applyTransform(source, [size, size], transform);
      assert.equal(result, source);
      assert.is.not(result.buffer, source.buffer);
    }
  }
});

test('image and label move together', () => {
  const size = 16;
  const label = Uint8Array.from({ length: size * size }, (_, i) => (i * 31) % 4);
  const image = Float32Array.from(label);
  for (let index = 0; index < 50; index++) {
    const transform = drawTransform(1, 2, index);
    assert.equal(
      [...applyTransform(image, [size, size], transform)],
      [...applyTransform(label, [size, size], transform)],
    );
  }
});

test('a transform depends on seed, iteration and index, and on nothing else', () => {
  const drawn = (seed: number, iteration: number, index: number) =>
    JSON.stringify(drawTransform(seed, iteration, index));
  assert.is(drawn(1, 5, 3), drawn(1, 5, 3));
  const different = (vary: (i: number) => string) => new Set(Array.from({ length: 40 }, (_, i) => vary(i))).size;
  assert.ok(different((i) => drawn(i, 0, 0)) > 15);
  assert.ok(different((i) => drawn(0, i, 0)) > 15);
  assert.ok(different((i) => drawn(0, 0, i)) > 15);
});

test('half are turned and flipped, half rotated by −20 to 19 whole degrees, evenly', () => {
  const draws = Array.from({ length: 4000 }, (_, i) => drawTransform(9, i, i % 8));
  const turned = draws.flatMap((t) => (t.kind === 'turnAndFlip' ? [t] : []));
  const angles = draws.flatMap((t) => (t.kind === 'rotate' ? [t.degrees] : []));
  assert.is(turned.length + angles.length, 4000);
  assert.ok(Math.abs(turned.length - 2000) < 130, `${turned.length} of 4000 turned`);
  for (const turns of [0, 1, 2, 3]) {
    for (const flip of [0, 1]) {
      const count = turned.filter((t) => t.turns === turns && t.flip === flip).length;
      assert.ok(Math.abs(count - 250) < 65, `${turns} turns, flip ${flip}: ${count}`);
    }
  }
  const whole = Array.from({ length: 40 }, (_, i) => i - 20);
  assert.equal(
    [...new Set(angles)].sort((a, b) => a - b),
    whole,
  ); // np.random.randint(-20, 20)
  for (const angle of whole) {
    const count = angles.filter((drawn) => drawn === angle).length;
    assert.ok(Math.abs(count - 50) < 32, `${angle}°: ${count}`);
  }
});

test.run();
