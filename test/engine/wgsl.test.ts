import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { enable, f32, flatIndex, u32, wgsl } from '../../shaders/wgsl.js';
import { refuses } from '../refuses.js';

const test = suite('wgsl');

const choose = (a: boolean, b: boolean): string => wgsl`
#if ${a}
a
#elif ${b}
b
#else
c
#endif
end`;

test('directives choose', () => {
  const lines = (text: string): string[] => text.split(/\s+/).filter(Boolean);
  assert.equal(lines(choose(true, false)), ['a', 'end']);
  assert.equal(lines(choose(true, true)), ['a', 'end']);
  assert.equal(lines(choose(false, true)), ['b', 'end']);
  assert.equal(lines(choose(false, false)), ['c', 'end']);
});

test('texts and integers are inserted, texts with directives resolved before', () => {
  assert.is(wgsl`fn ${'name'}() { return ${3}; }`, 'fn name() { return 3; }');
  assert.match(wgsl`${choose(false, true)} after`, /b\s+end after/);
});

test('values that would print nonsense are refused', async () => {
  for (const value of [undefined, null, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 'false']) {
    await refuses(() => wgsl`let v = ${value as number};`, TypeError, /wgsl: value 0 is .* after "let v = "/);
  }
});

test('directives that would pass silently are refused', async () => {
  await refuses(() => wgsl`#include <philox>`, TypeError, /unknown directive "#include"/);
  await refuses(() => wgsl`#define x`, TypeError, /unknown directive "#define"/);
  await refuses(() => wgsl`#if ${true} x #endif; y`, TypeError, /white space/);
});

test('f32 literals parse back to the same number', async () => {
  assert.equal([2, 0.5, -1, 1e-7, 1e30, 0].map(f32), ['2.0f', '0.5f', '-1.0f', f32(1e-7), f32(1e30), '0.0f']);
  const uniform = uniformStream(1);
  for (let i = 0; i < 10_000; i++) {
    const value = Math.fround((uniform() - 0.5) * 10 ** (60 * uniform() - 30));
    const text = f32(value);
    assert.match(text, /^-?\d+(\.\d+)?(e[+-]?\d+)?f$/);
    assert.is(Math.fround(Number(text.slice(0, -1))), value);
  }
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) await refuses(() => f32(bad), TypeError, /finite/);
});

test('u32 literals', async () => {
  assert.equal([0, 7, 2 ** 32 - 1].map(u32), ['0u', '7u', '4294967295u']);
  for (const bad of [-1, 1.5, 2 ** 32, Number.NaN]) await refuses(() => u32(bad), TypeError, /u32 literal/);
});

test('snippets', () => {
  assert.is(enable('f16'), 'enable f16;');
  assert.is(enable('f32'), '');
  assert.match(flatIndex(64), /id\.y \* groups\.x \* 64u \+ id\.x/);
});

test.run();
