// Compares what a candidate wrote with what the reference wrote, on the GPU (shaders/tuner.ts): at the size of a real step, bringing
// outputs to the CPU takes a hundred times as long. Only a few words come back for each output.
import { allowShader, compareShader, largestShader, type OutputType } from '../shaders/tuner.js';
import type { Job, Verdict } from './choices.js';
import type { Gpu } from './device.js';
import { copyOut } from './diagnose.js';
import { type Launch, submit, watched } from './launch.js';
import { sameShape, show } from './shape.js';
import { fromHalf, type Tensor } from './tensor.js';
import { upload } from './transfer.js';
import { type Ground, over, type Recorded, uploaded } from './trial.js';

/** One output of the reference, and what a candidate's may differ by. */
interface Expected {
  readonly name: string;
  readonly t: Tensor;
  readonly type: OutputType;
  /** Number of elements, bits of `rounding` and `lastPlace`, and the output's place in `found`. */
  readonly limits: Tensor;
  readonly rounding: number;
  readonly lastPlace: number;
}

/** The outputs of the reference, against which those of candidates are held. */
export interface Expectation {
  readonly outputs: readonly Expected[];
  /** One word for each output. */
  readonly found: Tensor;
}

/**
 * The expectation that a reference's outputs make; or why they cannot serve. Candidates get other tensors for their outputs from now
 * on. Two orders of summing n = `terms` products of numbers in [−1, 1) drift apart like a random walk: by about 0.1·√n·2⁻²⁴ of the
 * largest sum, at worst 5 times that; 4·√n·2⁻²⁴ is allowed. A missing product makes a difference of about 0.2/√n of it, which is more
 * than that up to n = 800 000. An f16 output is rounded once more, so one unit in its last place is allowed besides, and
 * `operandRounding` of the largest value where the job says so.
 */
export async function expectationOf(
  { gpu, tensors }: Ground,
  written: ReadonlyMap<string, Tensor>,
  { terms, operandRounding = 0 }: Pick<Job, 'terms' | 'operandRounding'>,
): Promise<Expectation | string> {
  const packed = [...written].find(([, { dtype }]) => dtype === 'u8');
  if (packed) return `writes '${packed[0]}' as u8, which cannot be compared`;
  const outputs = [...written].map(([name, t], at) => ({ name, t, at, type: typeOf(t) }));
  const kept = new Set(written.values());
  for (const [id, t] of tensors) if (kept.has(t)) tensors.delete(id);
  const found = uploaded(gpu, new Uint32Array(outputs.length), 'found');
  await launched(
    gpu,
    outputs.map(({ t, at, type }) =>
      over(
        gpu,
        largestShader(type),
        [t, uploaded(gpu, Uint32Array.of(t.size, 0, 0, at), 'limits'), found],
        t.bytes / 4,
      ),
    ),
  );
  const largest = await found.read();
  const expected: Expected[] = [];
  for (const { name, t, at, type } of outputs) {
    const bits = largest[at]!;
    const value = type === 'f16' ? fromHalf(bits) : floatOf(bits);
    if (type !== 'integer' && !Number.isFinite(value)) return `leaves a NaN or an infinity in '${name}'`;
    if (bits === 0) return `writes only zeros to '${name}', which checks nothing`;
    const share = shareOf(terms, name) + operandRounding;
    const rounding = type === 'integer' ? 0 : Math.fround(share * value);
    const lastPlace = type === 'f16' ? 2 ** -10 : 0;
    const limits = uploaded(gpu, Uint32Array.of(t.size, bitsOf(rounding), bitsOf(lastPlace), at), 'limits');
    expected.push({ name, t, type, limits, rounding, lastPlace });
  }
  return { outputs: expected, found };
}

/** By how much two orders of summing may drift apart, as a fraction of the largest sum. */
const shareOf = (terms: Job['terms'], name: string): number =>
  4 * Math.sqrt(typeof terms === 'number' ? terms : terms[name]!) * 2 ** -24;

/** How a candidate's outputs differ from the reference's by more than rounding: the first element that does. */
export async function difference(
  gpu: Gpu,
  { outputs, found }: Expectation,
  written: ReadonlyMap<string, Tensor>,
): Promise<string | undefined> {
  const launches: Launch[] = [];
  for (const { name, t, type, limits } of outputs) {
    const got = written.get(name);
    if (!got) return `has no output '${name}'`;
    if (!sameShape(t.shape, got.shape) || t.dtype !== got.dtype) {
      return `writes '${name}' as ${got.dtype} ${show(got.shape)}, the reference as ${t.dtype} ${show(t.shape)}`;
    }
    launches.push(over(gpu, compareShader(type), [t, got, limits, found], t.bytes / 4));
  }
  upload(found, new Uint32Array(outputs.length).fill(none));
  await launched(gpu, launches);
  const first = await found.read();
  for (const [at, { name, t, rounding, lastPlace }] of outputs.entries()) {
    const i = first[at]!;
    if (i === none) continue;
    const [is, should] = [await elementOf(written.get(name)!, i), await elementOf(t, i)];
    const allowed = rounding + lastPlace * Math.abs(should);
    return `is wrong: '${name}'[${i}] is ${is}, expected ${should} ± ${allowed.toPrecision(2)}`;
  }
  return undefined;
}

/** In `found`: no element differs. */
const none = 0xffffffff;

const launched = (gpu: Gpu, launches: readonly Launch[]): Promise<void> =>
  watched(gpu, launches, async () => submit(gpu, launches));

const typeOf = ({ dtype }: Tensor): OutputType => (dtype === 'f32' || dtype === 'f16' ? dtype : 'integer');

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!;
const floatOf = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0]!;

/**
 * Launches that compare a candidate with the reference in one submission. Outputs in `exact` must be equal, the others within what
 * `expectationOf` allows. `found` gets two words for each output: the largest of the reference's numbers, as bits, and the first
 * element that differs, or `none`. `judge` says what they mean; undefined where the reference's outputs cannot serve.
 */
export function comparison(
  { gpu }: Ground,
  [reference, candidate]: readonly [Recorded, Recorded],
  { terms, exact, operandRounding = 0 }: Pick<Job, 'terms' | 'operandRounding'> & { readonly exact: readonly string[] },
): { launches: Launch[]; found: Tensor; judge: (found: Uint32Array) => Verdict | undefined } {
  const outputs = [...reference.outputs].map(([name, t]) => ({ name, t, type: typeOf(t) }));
  const found = uploaded(
    gpu,
    Uint32Array.from({ length: 2 * outputs.length }, (_, i) => (i % 2 ? none : 0)),
    'found',
  );
  const launches = outputs.flatMap(({ name, t, type }, i) => {
    const equal = type === 'integer' || exact.includes(name);
    const share = equal ? 0 : shareOf(terms, name) + operandRounding;
    const lastPlace = !equal && type === 'f16' ? 2 ** -10 : 0;
    const limits = (at: number): Tensor =>
      uploaded(gpu, Uint32Array.of(t.size, bitsOf(share), bitsOf(lastPlace), at), 'limits');
    const [largest, allowed, first] = [limits(2 * i), limits(2 * i), limits(2 * i + 1)];
    return [
      over(gpu, largestShader(type), [t, largest, found], t.bytes / 4),
      ...(equal ? [] : [over(gpu, allowShader(type), [found, allowed, first], 1)]),
      over(gpu, compareShader(type), [t, candidate.outputs.get(name)!, first, found], t.bytes / 4),
    ];
  });
  const judge = (words: Uint32Array): Verdict | undefined => {
    for (const [i, { name, type }] of outputs.entries()) {
      const [largest, first] = [words[2 * i]!, words[2 * i + 1]!];
      const infinite = type === 'f16' ? largest >= 0x7c00 : type === 'f32' && largest >= 0x7f800000;
      if (largest === 0 || infinite) return undefined;
      if (first !== none) return `is wrong: '${name}'[${first}] differs from the reference's`;
    }
    return true;
  };
  return { launches, found, judge };
}

/** One element of a tensor that has a buffer. */
async function elementOf(t: Tensor, i: number): Promise<number> {
  const word = t.dtype === 'f16' ? i >> 1 : i;
  const bytes = await copyOut(t.gpu, 'element', t.storage.buffer!, t.offset + 4 * word, 4);
  const bits = new Uint32Array(bytes)[0]!;
  if (t.dtype === 'f16') return fromHalf((bits >>> (16 * (i & 1))) & 0xffff);
  return t.dtype === 'f32' ? floatOf(bits) : t.dtype === 'i32' ? bits | 0 : bits;
}
