// Coefficients and totals of norms from partial sums against float64, for numbers of parts around those where the kernels change, and
// with a mean that is large against the deviations.
import { suite } from 'uvu';
import { empty } from '../../engine/custom.js';
import { scope, tensor } from '../../engine/index.js';
import { run } from '../../engine/stream.js';
import { normActivationTotals, normCoefficients } from '../../shaders/norm-parts.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';

const test = suite('norm parts');

/** Numbers in [−1, 1), the same every time. */
const noise = (i: number): number => ((i * 40503) % 65521) / 32760.5 - 1;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

for (const ofGroups of [[1], [5], [40], [300], [3000], [9000], [3, 1], [70, 300], [2100, 900], [33, 1, 500]]) {
  for (const [channels, software] of [
    [8, false],
    [8, true],
    [3, false],
  ] as const) {
    test(`${ofGroups} parts of ${channels} channels${software ? ', on a CPU' : ''}`, async () => {
      const gpu = await testGpu();
      const starts = [0];
      for (const parts of ofGroups) starts.push(starts.at(-1)! + parts);
      const count = starts.at(-1)!;
      const pixels = (part: number): number => 60 + (part % 3);
      // [part, 2, channel]: a mean of about 100 with deviations of about 1, and Σ (z − mean)² of about a pixel's share each.
      const partials = Float32Array.from(range(count * 2 * channels), (i) => {
        const row = Math.floor(i / channels) % 2;
        return row ? 60 * (1 + 0.5 * noise(i)) : 100 + noise(i);
      });
      const at = (part: number, row: number, c: number): number => partials[(part * 2 + row) * channels + c]!;
      const [gamma, beta] = [range(channels).map((c) => 1 + 0.1 * c), range(channels).map((c) => 0.2 * c - 0.3)];
      const quads = channels % 4 ? channels : channels / 4;
      const adding = {
        ...({ width: channels % 4 ? 1 : 4, groups: ofGroups.length, parts: Math.max(...ofGroups), software } as const),
      };
      const bound: Record<string, number[]> = ofGroups.length > 1 ? { starts } : {};
      const expected: number[] = [];
      const totals: number[] = [];
      const [dgamma, dbeta] = [range(channels).map(() => 0), range(channels).map(() => 0)];
      ofGroups.forEach((_, g) => {
        const parts = range(ofGroups[g]!).map((i) => starts[g]! + i);
        const add = (item: (part: number) => number): number => parts.reduce((sum, part) => sum + item(part), 0);
        const all = add(pixels);
        const ofChannels = range(channels).map((c) => {
          const mean = add((part) => pixels(part) * at(part, 0, c)) / all;
          const square = add((part) => at(part, 1, c) + pixels(part) * (at(part, 0, c) - mean) ** 2);
          const r = 1 / Math.sqrt(square / all + 1e-5);
          const [sum, product] = [add((part) => at(part, 0, c)), add((part) => at(part, 1, c))];
          const scale = gamma[c]! * r;
          dbeta[c]! += sum;
          dgamma[c]! += r * product;
          return { rows: [mean, scale, beta[c]!, r], totals: [scale * sum, scale * r * r * product] };
        });
        for (const row of [0, 1, 2, 3]) expected.push(...ofChannels.map(({ rows }) => rows[row]!));
        for (const row of [0, 1]) totals.push(...ofChannels.map((channel) => channel.totals[row]!));
      });
      await scope(gpu, async () => {
        const groups = ofGroups.length;
        const coefficients = empty(gpu, [groups, 4, channels]);
        const given = tensor(gpu, partials, [count, 2, channels]);
        const [ofGamma, ofBeta] = [tensor(gpu, gamma, [channels]), tensor(gpu, beta, [channels])];
        run(
          normCoefficients(adding, '(60u + part % 3u)', 1e-5, undefined),
          { partials: given, gamma: ofGamma, beta: ofBeta, coefficients, ...bound },
          { workgroups: [quads] },
        );
        closeTo(await coefficients.read(), expected, { atol: 1e-7, rtol: 2e-6 }, 'coefficients');
        const got = empty(gpu, [groups, 2, channels]);
        const [gotGamma, gotBeta] = [empty(gpu, [channels]), empty(gpu, [channels])];
        run(
          normActivationTotals(adding),
          { partials: given, coefficients, totals: got, dgamma: gotGamma, dbeta: gotBeta, ...bound },
          { workgroups: [quads] },
        );
        closeTo(await got.read(), totals, { atol: 1e-6, rtol: 4e-6 }, 'totals');
        closeTo(await gotGamma.read(), dgamma, { atol: 1e-6, rtol: 4e-6 }, 'dgamma');
        closeTo(await gotBeta.read(), dbeta, { atol: 1e-6, rtol: 4e-6 }, 'dbeta');
      });
    });
  }
}

test.run();
