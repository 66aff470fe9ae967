// Division on a GPU that computes x / y as x · (1/y) and takes subnormal numbers for 0, as WGSL allows: the kernels' own text, with every
// division put into other words. What CPU drivers get right hides here what fails on a card.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { scope, tensor } from '../../engine/index.js';
import { elementwiseLayout, elementwiseShader } from '../../shaders/elementwise.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';

const test = suite('division');

/** x · (1/y), every operand and result without subnormal numbers. */
const asCardsDo = `
fn normal(v: V) -> V { return select(v, V(0.0), abs(v) < V(0x1p-126f)); }
fn reciprocal(v: V) -> V { return normal(V(1.0) / normal(v)); }
fn quotient_of(x: V, y: V) -> V { return normal(normal(x) * reciprocal(y)); }
`;

/** A kernel's text with its divisions of numbers, `x / y` of two names, in other words. */
function onCard(text: string, divisions: number): string {
  let count = 0;
  const changed = text.replace(/\b([a-z]\w*) \/ ([a-z]\w*)\b/g, (_, x: string, y: string) => {
    count++;
    return `quotient_of(${x}, ${y})`;
  });
  assert.is(count, divisions, 'divisions in the text');
  return changed.replace(/^alias V = .*$/m, (line) => `${line}\n${asCardsDo}`);
}

/** Runs an expression over operands, four at a time or one by one. */
async function compute(
  expression: string,
  operands: Record<string, number[]>,
  divisions: number,
): Promise<Float32Array> {
  const gpu = await testGpu();
  const names = Object.keys(operands);
  const size = operands[names[0]!]!.length;
  const shapes = Object.fromEntries(names.map((name) => [name, [size]]));
  const text = onCard(elementwiseShader('f32', 'division', expression, elementwiseLayout([size], shapes)), divisions);
  return scope(gpu, async () => {
    const result = empty(gpu, [size]);
    const bound = Object.fromEntries(names.map((name) => [`${name}_`, tensor(gpu, operands[name]!)]));
    run(text, { ...bound, result }, { threads: size });
    return (await result.read()) as Float32Array;
  });
}

const f32 = Math.fround;
const dividends = [1, -2.5, 0, 3e38, -1e-30, Infinity, -Infinity, NaN];
const divisors = [1, -3, 0, 3e38, -1e38, 9e37, 1e-37, Infinity, -Infinity, NaN];
const pairs = dividends.flatMap((a) => divisors.map((b) => [f32(a), f32(b)] as const));

for (const size of [80, 79]) {
  const cut = pairs.slice(0, size);
  const [a, b] = [cut.map(([p]) => p), cut.map(([, q]) => q)];
  const expected = cut.map(([p, q]) => f32(p / q));

  test(`div holds there, ${size} of them; the bare quotient does not`, async () => {
    closeTo(await compute('divide(a, b)', { a, b }, 1), expected, { rtol: 4e-7, atol: 2 ** -126 });
    const bare = await compute('a / b', { a, b }, 1);
    assert.throws(() => closeTo(bare, expected, { rtol: 4e-7, atol: 2 ** -126 }), /got NaN, expected Infinity/);
  });

  test(`its gradients stay in range, ${size} of them`, async () => {
    const slopes = cut.map((_, i) => [1, 1e20, -1e-5, 1e-35, 2e38][i % 5]!).map(f32);
    const exact = cut.map(([p, q], i) => f32(-(slopes[i]! * p) / (q * q)));
    // In float64 nothing overflows here; what is below 2⁻¹²⁶ counts as 0.
    closeTo(await compute('divisor_gradient(dy, a, b)', { dy: slopes, a, b }, 2), exact, {
      rtol: 1e-6,
      atol: 2 ** -126,
    });
    closeTo(
      await compute('divide(dy, b)', { dy: slopes, b }, 1),
      cut.map(([, q], i) => f32(slopes[i]! / q)),
      { rtol: 4e-7, atol: 2 ** -126 },
    );
  });
}

test('the gradient of a divisor at the ends of the range', async () => {
  const cases: [number, number, number][] = [
    [1, 1, 2 ** -63], // 2¹²⁶
    [1, 1, 2 ** -64], // beyond: infinite
    [-1.5, 1, 2 ** -63.5],
    [1, 2 ** 127, 2 ** 126],
    [2 ** -126, 2 ** -126, 2 ** -126],
    [2 ** 127, 2 ** 127, 2 ** 127],
    [2 ** 127, 2 ** 127, -(2 ** 63)],
    [1, 1, 2 ** 63], // 2⁻¹²⁶
    [1, 1.999, 2 ** 63],
    [1, 1, 1.999 * 2 ** 62],
    [1, 1, 2 ** 66], // below: 0
  ];
  const column = (k: number): number[] => cases.map((row) => f32(row[k]!));
  const [dy, a, b] = [column(0), column(1), column(2)];
  closeTo(
    await compute('divisor_gradient(dy, a, b)', { dy, a, b }, 2),
    dy.map((d, i) => {
      const value = f32(-(d * a[i]!) / (b[i]! * b[i]!));
      return Math.abs(value) < 2 ** -126 ? 0 : value;
    }),
    { rtol: 1e-6 },
  );
});

test.run();
