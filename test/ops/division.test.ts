// Division on a GPU that computes x / y as x · (1/y) and takes subnormal numbers for 0, as WGSL allows: the kernels' own text, with every
// division put into other words. What CPU drivers get right hides here what fails on a card.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { scope, type Tensor, tensor, uniformStream } from '../../engine/index.js';
import { elementwise } from '../../engine/ops/elementwise.js';
import { elementwiseLayout, elementwiseShader } from '../../shaders/elementwise.js';
import { functionTexts, quotientFunction } from '../../shaders/functions.js';
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

// A card's quotient of two numbers may be 2.5 units off. Whatever it gives, the rest tells how far.
for (const off of [-4, -2, -1, 0, 1, 3]) {
  for (const size of [4096, 4095]) {
    test(`a quotient is rounded correctly where the driver's is ${off} off, ${size} of them`, async () => {
      const gpu = await testGpu();
      const next = uniformStream(7, size);
      const edges = [0x800000, 0x800001, 0x800003, 0xfffffc, 0xfffffe, 0xffffff];
      const mantissa = (): number =>
        next() < 0.3 ? edges[Math.floor(next() * edges.length)]! : 0x800000 + Math.floor(next() * 0x800000);
      const power = (from: number, to: number): number => 2 ** (from + Math.floor(next() * (to - from)));
      const a = Float32Array.from({ length: size }, () => (next() < 0.5 ? -1 : 1) * mantissa() * power(-60, 60));
      const n = Float32Array.from({ length: size }, () =>
        next() < 0.5 ? 1 + Math.floor(next() * 5000) : mantissa() * power(-60, 40),
      );
      const estimate = 'var q = u32(f32(m) / f32(d) * f32(1u << shift));';
      const functions = (wide: boolean): string => {
        const text = functionTexts(quotientFunction)(wide);
        assert.ok(text.includes(estimate), text);
        return text.replace(estimate, `${estimate} q = u32(i32(q) + ${off});`);
      };
      const layout = elementwiseLayout([size], { a: [size], n: [size] });
      const text = elementwiseShader('f32', 'quotients', 'quotient(a, n)', layout, [], functions);
      await scope(gpu, async () => {
        const result = empty(gpu, [size]);
        run(text, { a_: tensor(gpu, a), n_: tensor(gpu, n), result }, { threads: size });
        assert.equal(
          await result.read(),
          a.map((v, i) => v / n[i]!),
        );
      });
    });
  }
}

test('a quotient of what has no mantissa, or of numbers that leave the range', async () => {
  const gpu = await testGpu();
  const a = Float32Array.of(0, -0, Infinity, -Infinity, NaN, 1e-38, 3e38, -3e38, 3e38, 1);
  const n = Float32Array.of(3, 7, 49, 5, 3, 1e6, 0.5, 0.25, 1e-10, Infinity);
  const of = (x: Tensor, y: Tensor): Tensor =>
    elementwise('quotients', 'quotient(a, n)', [10], { a: x, n: y }, functionTexts(quotientFunction));
  const found = await scope(gpu, () => of(tensor(gpu, a), tensor(gpu, n)).read());
  closeTo(
    found,
    a.map((v, i) => v / n[i]!),
    { atol: 2 ** -126 },
  );
});

test.run();
