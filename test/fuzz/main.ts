// The command: draws and checks programs of consecutive seeds, and shrinks and prints those that fail. Most programs are of few sizes,
// so that they share kernels, which are what they cost; every eighth is of any. Where the adapter has f16, every fourth has some of it.
import { parseArgs } from 'node:util';
import { openDevice } from '../../engine/node.js';
import { checkProgram } from './check.js';
import { drawProgram } from './generate.js';

const usage = 'usage: npm run fuzz -- [--seed S] [--count N] [--adapter NAME]';
const mostFailures = 20;

function options(): { first: number; count: number; adapter: string | undefined } {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '100' },
      adapter: { type: 'string' },
    },
  });
  const number = (name: 'seed' | 'count'): number => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= 1 && value <= 1e6) return value;
    throw new RangeError(`--${name} must be a whole number from 1 to 1000000 — got ${values[name]}.`);
  };
  return { first: number('seed'), count: number('count'), adapter: values.adapter };
}

async function main(): Promise<number> {
  const { first, count, adapter } = options();
  const gpu = await openDevice({ ...(adapter !== undefined && { adapter }) });
  const half = gpu.features.has('shader-f16');
  let [programs, failures, nearest] = [0, 0, 0];
  for (let seed = first; seed < first + count && failures < mostFailures; seed++, programs++) {
    const program = drawProgram(seed, { half: half && seed % 4 === 1, calls: [20, 60], narrow: seed % 8 !== 0 });
    const outcome = await checkProgram(gpu, program, seed);
    nearest = Math.max(nearest, outcome.nearest);
    if (outcome.report) {
      failures++;
      console.log(`--- seed ${seed}\n${outcome.report}`);
    }
    if ((programs + 1) % 50 === 0) console.error(`fuzz: ${programs + 1} programs, ${failures} failed`);
  }
  gpu.close();
  console.log(
    `fuzz: ${programs} programs from seed ${first} on, ${failures} failed; the others' worst number used ${(100 * nearest).toFixed(0)} % of its tolerance`,
  );
  return failures ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  const isUsage = error instanceof RangeError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(`fuzz: ${(error as Error).message}${isUsage ? `\n${usage}` : ''}`);
  process.exitCode = isUsage ? 2 : 1;
}
